"""What a training log takes during a training and once the model file is written; and the log that keeps nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


class TrainingLog(Protocol):
    """Takes numbers and pictures of one training. The main process alone calls it.

    A method raises BlemishError where the log can no longer be written.
    """

    def scalar(self, name: str, value: float, step: int) -> None:
        """Takes one point of a curve.

        Args:
            name: of the curve, such as "loss".
            value: in the curve's unit.
            step: the epochs done, from 1; a resumed training goes on at its step.
        """

    def heatmap(self, name: str, picture: Image.Image) -> None:
        """Takes an image under its heatmap, an RGB picture. The name is the image's path, with slashes."""

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Takes one or more values whose distribution is to be shown."""

    def figures(self, figures: Mapping[str, float | str]) -> None:
        """Takes the final figures of the training, and what it was made with in words, by name."""

    def close(self) -> None:
        """Writes what is not yet written. Nothing is logged afterwards."""


class NoLog:
    """Keeps nothing."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Does nothing."""

    def heatmap(self, name: str, picture: Image.Image) -> None:
        """Does nothing."""

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Does nothing."""

    def figures(self, figures: Mapping[str, float | str]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


NO_LOG: TrainingLog = NoLog()


@dataclass(frozen=True)
class PrefixedLog:
    """A log in which all names begin with a prefix, such as the fold of a cross-conformal detector."""

    log: TrainingLog
    prefix: str

    def scalar(self, name: str, value: float, step: int) -> None:
        """Takes one point of the curve "prefix/name"."""
        self.log.scalar(f"{self.prefix}/{name}", value, step)

    def heatmap(self, name: str, picture: Image.Image) -> None:
        """Takes a picture by the name "prefix/name"."""
        self.log.heatmap(f"{self.prefix}/{name}", picture)

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Takes values by the name "prefix/name"."""
        self.log.histogram(f"{self.prefix}/{name}", values)

    def figures(self, figures: Mapping[str, float | str]) -> None:
        """Takes figures by names "prefix/name"."""
        self.log.figures({f"{self.prefix}/{name}": value for name, value in figures.items()})

    def close(self) -> None:
        """Closes the log."""
        self.log.close()
