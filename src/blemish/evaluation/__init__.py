"""The figures of a detector on a test split, and their confidence intervals."""
