"""Model files for other runtimes and precisions, each with a calibration of its own."""
