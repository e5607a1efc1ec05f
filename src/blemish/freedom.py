"""Learning from good images how their copies may be turned and mirrored.

Turned copies of few images stand for many, and turned copies of a few labelled defects for all of that type. But a part
that always lies the same way, or a texture with a grain, looks wrong when it is turned. So copies of images that the
closed form has not been fitted to are held against the images themselves: what is free hardly changes how far off they
lie, what is not free takes them several times as far.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.closed_form import fit_in_one
from blemish.datasets.splits import evenly
from blemish.networks.gaussian import GaussianHead, View
from blemish.ranks import Extract
from blemish.synthetic.turned import ANY, Freedom, Pose

MOST = 48  # images looked at, three in four of them to fit to
FEWEST = 4  # with fewer images nothing can be told, and everything is taken to be free
BEARABLE = 1.7  # times the usual distance
ANGLES = (30, 45, 60, 90)  # degrees
MIDDLE = 0.8  # of the half side: beyond this radius a turned copy shows what is made up


def learn_freedom(
    images: npt.NDArray[np.uint8], fit: Sequence[int], *, extract: Extract, channels: int, aspect: float = 1.0
) -> Freedom:
    """What may be done to good images without their looking wrong to a closed form of their own.

    Args:
        images: all training images, uint8 (N, H, W, 3).
        fit: indices of the good ones.
        extract: features (n, C, h, w) of images (n, H, W, 3).
        channels: C.
        aspect: how high a pixel is over how wide.
    """
    chosen = evenly(fit, MOST)
    if len(chosen) < FEWEST:
        return replace(ANY, aspect=aspect)
    held = [np.asarray(images[index]) for index in chosen[::4]]
    features = extract(images[[index for place, index in enumerate(chosen) if place % 4]])
    head = GaussianHead([View.whole(channels)], grid=(features.shape[2], features.shape[3])).to(features.device)
    fit_in_one(head, [features])

    def distances(poses: Iterable[Pose]) -> Tensor:
        """Mean distance in the middle of each held image, (poses, images)."""
        rows = [extract(np.stack([pose.apply(image) for image in held])) for pose in poses]
        return torch.stack([head(some)[:, _middle(some.shape[2:])].mean(1) for some in rows])

    usual = distances([Pose.mirror(1, 1)])
    sideways, upside_down = (distances([Pose.mirror(*signs)]) / usual for signs in ((1, -1), (-1, 1)))
    turned = distances(_turn(np.deg2rad(angle), aspect) for angle in ANGLES) / usual
    free = [bool(ratios.median() <= BEARABLE) for ratios in (sideways, upside_down, turned)]
    return Freedom(free[0], free[1], free[2], aspect=aspect)


def _turn(angle: float, aspect: float) -> Pose:
    cos, sin = np.cos(angle), np.sin(angle)
    return Pose(np.array([[cos, sin / aspect], [-sin * aspect, cos]]), np.zeros(2))


def _middle(grid: Sequence[int]) -> Tensor:
    """The cells (h, w) whose content stays in the image however it is turned."""
    rows, columns = (torch.arange(side) - (side - 1) / 2 for side in grid)
    return rows[:, None].square() + columns[None, :].square() < (MIDDLE * min(grid) / 2) ** 2
