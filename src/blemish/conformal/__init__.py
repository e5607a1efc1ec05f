"""Statistics on scores, each with its theorem: p-values, regions, false discoveries, drift. NumPy and SciPy only."""
