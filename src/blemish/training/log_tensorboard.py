"""A training log in TensorBoard's event files."""

from pathlib import Path

from blemish.errors import BlemishError


class TensorBoardLog:
    """Writes event files into a folder, which `tensorboard --logdir` shows.

    Raises BlemishError: the package tensorboard is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise BlemishError('a TensorBoard log needs tensorboard: pip install "blemish[tensorboard]"') from error
        self._writer = SummaryWriter(str(folder))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Takes one point of a curve."""
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is not yet written."""
        self._writer.close()
