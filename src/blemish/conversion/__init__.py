"""Model files for other runtimes and precisions, each with a calibration of its own. `run.export` is the entry.

It is not imported here: it needs the extra "export".
"""
