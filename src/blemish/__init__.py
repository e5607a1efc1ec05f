"""Blemish learns from images of how things should look and shows in every new image what is wrong with it.

The public names are those of `__all__`; each is imported when it is first asked for. Write `import blemish` and
`blemish.train(...)`, or `from blemish import train`. Everything else may change from one release to the next.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blemish.errors import BlemishError
from blemish.process.privacy import keep_quiet

keep_quiet()  # before any library that would send something is imported

if TYPE_CHECKING:
    from blemish.auditing.run import audit
    from blemish.comparison.run import compare
    from blemish.conversion.run import export
    from blemish.datasets.layouts import read_data_set
    from blemish.evaluation.run import evaluate
    from blemish.model.detector import Detector
    from blemish.model.predictions import Predictions, Scores
    from blemish.prediction.run import predict
    from blemish.report.evaluation_page import write_report
    from blemish.training.arrays import fit
    from blemish.training.config import TrainConfig
    from blemish.training.run import train

__version__ = "0.2.0"
__all__ = [
    "BlemishError",
    "Detector",
    "Predictions",
    "Scores",
    "TrainConfig",
    "__version__",
    "audit",
    "compare",
    "evaluate",
    "export",
    "fit",
    "predict",
    "read_data_set",
    "train",
    "write_report",
]

# The module of each public name. No public name is that of a package: `import blemish.x` would set it to the package.
_HOMES = {
    "Detector": "blemish.model.detector",
    "Predictions": "blemish.model.predictions",
    "Scores": "blemish.model.predictions",
    "TrainConfig": "blemish.training.config",
    "audit": "blemish.auditing.run",
    "compare": "blemish.comparison.run",
    "evaluate": "blemish.evaluation.run",
    "export": "blemish.conversion.run",
    "fit": "blemish.training.arrays",
    "predict": "blemish.prediction.run",
    "read_data_set": "blemish.datasets.layouts",
    "train": "blemish.training.run",
    "write_report": "blemish.report.evaluation_page",
}
# For a name whose module needs more than the runtime: its purpose, and what to install.
_NEEDS = {
    "train": ("training", 'pip install "blemish[train]"'),
    "fit": ("training", 'pip install "blemish[train]"'),
    "export": ("an export", 'pip install "blemish[export]"'),
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for and no more: `import blemish` loads neither NumPy nor torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if name not in _NEEDS or (error.name or "").startswith("blemish"):
            raise
        purpose, remedy = _NEEDS[name]
        raise BlemishError(f"{purpose} needs more packages, {error.name} for one: {remedy}") from error


def __dir__() -> list[str]:
    """Names for completion, without importing any."""
    return sorted({*globals(), *__all__})
