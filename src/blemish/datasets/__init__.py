"""Folders of images: their layouts, their faults, their splits; synthetic anomalies and outlier exposure."""
