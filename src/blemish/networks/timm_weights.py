"""What timm knows of a network's weights: where they can be had and how they want their pixels."""

from dataclasses import dataclass
from pathlib import Path

import timm

from blemish.errors import BlemishError

BUNDLED = "tf_efficientnet_lite0"  # whose weights come with the installation


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation in grey levels (0..255) that a set of weights was trained with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def normalisation_of(name: str) -> Normalisation:
    """What timm says of the weights of that name. Raises BlemishError where it says nothing."""
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise BlemishError(f"timm does not say how {name} wants its pixels: choose another backbone")
    red, green, blue = (255 * value for value in config.mean)
    std_red, std_green, std_blue = (255 * value for value in config.std)
    return Normalisation(mean=(red, green, blue), std=(std_red, std_green, std_blue))


def check_obtainable(name: str, *, weights: str | Path | None, download: bool) -> None:
    """Raises BlemishError where weights that do not come with the installation are neither given nor to be fetched."""
    if weights is None and not download:
        raise BlemishError(
            f"the weights of {name} are not on this computer: give a file as weights (--weights FILE), or "
            f"allow their download (--download); only those of {BUNDLED} are bundled"
        )
