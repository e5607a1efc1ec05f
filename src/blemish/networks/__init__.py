"""Fully convolutional networks whose output is the anomaly map (needs the `[train]` install)."""
