"""The model file: what is in it, how it is opened, and the detector that runs it."""
