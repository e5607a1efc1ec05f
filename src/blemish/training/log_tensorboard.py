"""A training log in TensorBoard's event files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.errors import BlemishError
from blemish.io.text import printable

BINS = 30  # of a histogram, equally wide


class TensorBoardLog:
    """Writes one event file into a folder, which `tensorboard --logdir` shows.

    Args:
        folder: made where it is not there.

    Raises:
        BlemishError: the package tensorboard is missing, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise BlemishError(
                'a TensorBoard log needs the package tensorboard: pip install "blemish[tensorboard]"'
            ) from error
        self._folder = folder
        with self._faults_as_sentences():
            self._writer = SummaryWriter(str(folder))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Takes one point of a curve, under "Scalars"."""
        with self._faults_as_sentences():
            self._writer.add_scalar(name, value, step)

    def heatmap(self, name: str, picture: Image.Image) -> None:
        """Takes an image under its heatmap, under "Images"."""
        with self._faults_as_sentences():
            self._writer.add_image(f"heatmaps/{name}", np.asarray(picture), dataformats="HWC")

    def histogram(self, name: str, values: Sequence[float]) -> None:
        """Takes values whose distribution is to be shown, under "Histograms"."""
        with self._faults_as_sentences():
            # torch takes the number of bins as NumPy does, whatever its annotation says.
            self._writer.add_histogram(name, np.asarray(values, dtype=np.float64), bins=BINS)  # type: ignore[arg-type]

    def figures(self, figures: Mapping[str, float | str]) -> None:
        """Takes the final figures: numbers under "Scalars", a point each, and words under "Text"."""
        with self._faults_as_sentences():
            for name, value in figures.items():
                if isinstance(value, str):
                    self._writer.add_text(f"figures/{name}", value)
                else:
                    self._writer.add_scalar(f"figures/{name}", value)

    def close(self) -> None:
        """Writes what is not yet written."""
        with self._faults_as_sentences():
            self._writer.close()

    @contextmanager
    def _faults_as_sentences(self) -> Iterator[None]:
        """An error of the disk may come later than the call that it is of: a thread writes."""
        try:
            yield
        except OSError as error:
            raise BlemishError(
                f"{printable(self._folder)}: the TensorBoard log cannot be written: {error.strerror or error}"
            ) from error
