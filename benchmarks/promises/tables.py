"""Markdown as it is printed, row by row."""

import numpy as np

RATES = (0.01, 0.05, 0.1)  # asked false-alarm rates


def header(*names: object) -> None:
    row(*names)
    print("|" + "---|" * len(names))


def row(*cells: object) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def plus_minus(values: np.ndarray) -> str:
    """Mean and its standard error."""
    return f"{values.mean():.4f} ± {values.std() / len(values) ** 0.5:.4f}"


def small(calibration: np.ndarray, values: np.ndarray, rate: float) -> np.ndarray:
    """Whether each value's conformal p-value is at most the rate."""
    return (1 + (calibration >= values[:, None]).sum(1)) / (len(calibration) + 1) <= rate + 1e-9
