"""Where the curves of a training go: a protocol, and the log that keeps nothing."""

from typing import Protocol


class TrainingLog(Protocol):
    """Takes numbers while a training runs. The main process alone calls it."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Takes one point of a curve.

        Args:
            name: of the curve, such as "loss".
            value: in the curve's unit.
            step: the epochs done, from 1; a resumed training goes on at its step.
        """

    def close(self) -> None:
        """Writes what is not yet written. Nothing is logged afterwards."""


class NoLog:
    """Keeps nothing."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


NO_LOG: TrainingLog = NoLog()
