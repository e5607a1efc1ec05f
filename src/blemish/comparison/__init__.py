"""Comparing methods on a folder: trained alike, evaluated on the same images, shown on one page."""
