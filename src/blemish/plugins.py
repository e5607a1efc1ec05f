"""What can be added to Blemish by name: methods, feature extractors, synthetic anomalies and figures.

A built-in one is a file and a line in this module. Another package adds its own by an entry point of the registry's
group in its pyproject.toml, without a change to Blemish:

    [project.entry-points."blemish.methods"]
    my-method = "my_package.my_module:MyMethod"

This module imports nothing of what it names, so that listing the names needs no torch.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from blemish.errors import BlemishError


class Registry(Mapping[str, str]):
    """Names and where each object is: "module:attribute". Built-in names come first and cannot be replaced.

    Args:
        group: the entry-point group of other packages.
        noun: what an entry is, for error messages.
        builtin: the entries of Blemish itself.
    """

    def __init__(self, group: str, *, noun: str, builtin: Mapping[str, str]) -> None:
        self.group = group
        self.noun = noun
        self._builtin = dict(builtin)
        self._added: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return self._entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def load(self, name: str) -> Any:
        """Imports the object that has this name.

        Raises:
            BlemishError: no entry has this name, or its module cannot be imported.
        """
        entries = self._entries()
        if name not in entries:
            raise BlemishError(f"there is no {self.noun} called {name!r}; there are {', '.join(entries)}")
        return self._import(name, entries[name])

    def load_all(self) -> dict[str, Any]:
        """Imports every object, in the order of the names.

        Raises:
            BlemishError: a module cannot be imported.
        """
        return {name: self._import(name, place) for name, place in self._entries().items()}

    def _import(self, name: str, place: str) -> Any:
        module, _, attribute = place.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise BlemishError(f"the {self.noun} {name!r} cannot be loaded from {place}: {error}") from error

    def add(self, name: str, where: str) -> None:
        """Adds an entry for this process, as an entry point does for all: for scripts, notebooks and tests.

        Args:
            name: what it is called by.
            where: "module:attribute", such as "__main__:MyMethod".

        Raises:
            BlemishError: the name is that of another entry.
        """
        if self._entries().get(name, where) != where:
            raise BlemishError(f"there is a {self.noun} called {name!r} already, {self[name]}: choose another name")
        self._added[name] = where

    def _entries(self) -> dict[str, str]:
        others = _installed(self.group, _search_path()) | self._added
        return self._builtin | {name: value for name, value in others.items() if name not in self._builtin}


@lru_cache(maxsize=16)
def _installed(group: str, state: tuple[tuple[str, int], ...]) -> dict[str, str]:
    """The entry points of a group in all installed packages, read anew where the search path has changed."""
    return {entry.name: entry.value for entry in entry_points(group=group)}


def _search_path() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, and when each place last changed: installing a package changes one of them."""
    return tuple((place, os.stat(place).st_mtime_ns) for place in sys.path if os.path.exists(place))


METHODS = Registry(
    "blemish.methods",
    noun="method",
    builtin={
        "gaussian": "blemish.methods.gaussian:MultiscaleGaussian",
        "fcdd": "blemish.methods.fcdd:Fcdd",
        "hsc": "blemish.methods.hsc:Hsc",
        "padim": "blemish.methods.padim:PaDiM",
        "patchcore": "blemish.methods.patchcore:PatchCore",
    },
)
EXTRACTORS = Registry(
    "blemish.extractors",
    noun="feature extractor",
    builtin={
        "fcdd-cnn": "blemish.networks.paper_cnn:PaperCNN",
        "timm-vit": "blemish.networks.timm_vit:TimmViT",  # before the other, which takes any network of timm
        "timm-cnn": "blemish.networks.timm_cnn:TimmCNN",
    },
)
SYNTHETIC = Registry(
    "blemish.synthetic",
    noun="synthetic anomaly",
    builtin={
        "none": "blemish.synthetic:unchanged",
        "confetti": "blemish.synthetic.confetti:confetti",
        "perlin": "blemish.synthetic.perlin:Perlin",
    },
)
FIGURES = Registry(
    "blemish.figures",
    noun="figure",
    builtin={
        "image_auroc": "blemish.evaluation.standard_figures:IMAGE_AUROC",
        "image_ap": "blemish.evaluation.standard_figures:IMAGE_AP",
        "f1_max": "blemish.evaluation.standard_figures:F1_MAX",
        "pixel_auroc": "blemish.evaluation.standard_figures:PIXEL_AUROC",
        "aupro": "blemish.evaluation.standard_figures:AUPRO",
        "detection_rate": "blemish.evaluation.standard_figures:DETECTION_RATE",
        "false_alarm_rate": "blemish.evaluation.standard_figures:FALSE_ALARM_RATE",
        "images": "blemish.evaluation.standard_figures:IMAGES",
        "images_per_second": "blemish.evaluation.standard_figures:IMAGES_PER_SECOND",
        "unsure": "blemish.evaluation.standard_figures:UNSURE",
        "ignored": "blemish.evaluation.standard_figures:IGNORED",
    },
)
