"""The tables of benchmarks/guarantees.py, one file for each kind of promise."""
