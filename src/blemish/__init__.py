"""Blemish learns from images of how things should look and shows in every new image what is wrong with it."""
__version__ = "0.1.0"
