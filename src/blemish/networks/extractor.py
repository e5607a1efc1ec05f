"""Feature extractors: frozen networks that turn an image into maps of feature vectors.

A new one is a subclass of `FeatureExtractor` and an entry of `blemish.plugins.EXTRACTORS`.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.networks.receptive_field import ReceptiveField
from blemish.plugins import EXTRACTORS

STRIDES = (4, 8, 16, 32)  # pixels between two cells of the maps that are wanted, where a backbone offers a choice
Size = tuple[int, int]  # (height, width)


class FeatureExtractor(nn.Module, ABC):
    """Maps of a backbone whose weights stay as they are.

    A subclass takes the arguments below and sets the attributes.

    Args:
        name: which backbone.
        strides: the strides that are wanted, ascending, where the backbone offers a choice.
        weights: a local weights file.
        download: whether weights may be fetched from a hub; ignored when `weights` is given.
        pretrained: False leaves the weights random: for tests, and for callers about to load a state dict.

    Attributes:
        name: which backbone.
        channels: length C_k of the vectors of each map.
        strides: pixels between two cells of each map, ascending.
        multiple: both sides of an image have to be multiples of it, in pixels.
        pretrained: whether its weights are worth anything as they are; else only methods that train them can use it.
    """

    pretrained: ClassVar[bool] = True
    name: str
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int

    @abstractmethod
    def __init__(
        self,
        name: str,
        *,
        strides: tuple[int, ...] = STRIDES,
        weights: str | Path | None = None,
        download: bool = False,
        pretrained: bool = True,
    ) -> None:
        super().__init__()

    @classmethod
    @abstractmethod
    def handles(cls, name: str) -> bool:
        """Whether this extractor knows the backbone of that name."""

    @classmethod
    def similar(cls, name: str) -> list[str]:
        """Backbones with names like one that nobody knows, for the error message."""
        return []

    @abstractmethod
    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps, the finest first.

        Args:
            pixels: float (N, 3, H, W), grey levels 0..255, of sides that are multiples of `multiple`.

        Returns:
            A tensor (N, C_k, h_k, w_k) for each stride.
        """

    @abstractmethod
    def fields(self, size: Size) -> list[ReceptiveField]:
        """The tiles of the maps' cells for images of that size, see `ReceptiveField.tiles`."""

    def prepared(self, size: Size) -> Self:
        """The same maps up to rounding, quicker, for images of one size and no further training."""
        return self


def load_extractor(
    name: str,
    *,
    strides: tuple[int, ...] = STRIDES,
    weights: str | Path | None = None,
    download: bool = False,
    pretrained: bool = True,
) -> FeatureExtractor:
    """The extractor for a backbone: the first registered one that handles the name.

    Args:
        name: of the backbone, or EXTRACTOR:NAME for that of one extractor.
        strides, weights, download, pretrained: see `FeatureExtractor`.

    Raises:
        BlemishError: nobody knows the backbone, or its weights cannot be had.
    """
    kind, _, rest = name.partition(":")
    if rest and kind in EXTRACTORS:
        name, found = rest, EXTRACTORS.load(kind)
    else:
        registered = list(EXTRACTORS.load_all().values())
        found = next((one for one in registered if one.handles(name)), None)
        if found is None:
            close = [similar for one in registered for similar in one.similar(name)]
            raise BlemishError(
                f"there is no backbone called {name!r}" + (f"; close to it: {', '.join(close)}" if close else "")
            )
    made: FeatureExtractor = found(name, strides=strides, weights=weights, download=download, pretrained=pretrained)
    return made
