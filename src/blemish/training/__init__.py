"""From a folder of images to a model file; it needs the extra "train"."""
