"""Blemish learns from images of how things should look and shows in every new image what is wrong with it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blemish.errors import BlemishError
from blemish.process.privacy import keep_quiet

keep_quiet()  # before any library that would send something is imported

if TYPE_CHECKING:
    from blemish.model.detector import Detector
    from blemish.model.predictions import Predictions, Scores
    from blemish.training.run import train

__version__ = "0.1.0"
__all__ = ["BlemishError", "Detector", "Predictions", "Scores", "__version__", "train"]

_HOMES = {
    "Detector": "blemish.model.detector",
    "Predictions": "blemish.model.predictions",
    "Scores": "blemish.model.predictions",
    "train": "blemish.training.run",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for and no more: `import blemish` loads neither NumPy nor torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if name != "train" or (error.name or "").startswith("blemish"):
            raise
        raise BlemishError(
            f'training needs more packages, {error.name} for one: pip install "blemish[train]"'
        ) from error
