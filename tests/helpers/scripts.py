"""Benchmarks as modules."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest


def load_script(name: str) -> ModuleType:
    """A benchmark as a module, for its functions; it finds those beside it, as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        return importlib.import_module(name)
