"""The steps of a training, in the order in which they run."""
