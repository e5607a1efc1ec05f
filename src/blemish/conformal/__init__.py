"""Statistics on scores with a proof each: p-values, regions, false discoveries, drift. NumPy and SciPy only."""
