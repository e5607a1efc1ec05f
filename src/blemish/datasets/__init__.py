"""Folders of images: their layouts, their faults, their splits, their pixels."""
