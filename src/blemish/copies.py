"""Copies of good images that the closed form is shown beside them: turned where they are few, under other light.

Few images do not show how a good part may lie. And where every image has an exposure of its own, those that there are
do not show all that there may be.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from blemish.ranks import Extract
from blemish.synthetic.turned import Freedom, Pose, exposed

Result = TypeVar("Result")

BATCH = 16  # images
ENOUGH_IMAGES = 125  # fewer good images are made up to about this many by mirrored and turned copies
TIMES_TURNED = 2.5  # as many where parts lie in any direction, which takes more copies to fill
ENOUGH_UPRIGHT = 40  # where parts have been turned upright, and copies only blur how well they lie


def in_batches(
    images: npt.NDArray[np.uint8],
    chosen: Sequence[int],
    function: Callable[[npt.NDArray[np.uint8]], Result],
    progress: Callable[[int, int], None],
) -> Iterator[Result]:
    """What the function makes of the images chosen (n, H, W, 3), some at a time."""
    for start in range(0, len(chosen), BATCH):
        some = chosen[start : start + BATCH]
        yield function(images[list(some)])
        progress(start + len(some), len(chosen))


def rounds_of_turned(images: int, *, freedom: Freedom, upright: bool) -> int:
    """How many turned copies of each make so few images up to enough."""
    if upright:
        return (ENOUGH_UPRIGHT - 1) // images
    if images >= ENOUGH_IMAGES:
        return 0
    enough = TIMES_TURNED * ENOUGH_IMAGES if freedom.turned else ENOUGH_IMAGES
    return int(enough - 1) // images


def turned_copies(
    images: npt.NDArray[np.uint8],
    chosen: Sequence[int],
    *,
    extract: Extract,
    freedom: Freedom,
    share: slice,
    rounds: int,
    seed: int,
    progress: Callable[[int, int], None],
    ignored: npt.NDArray[np.bool_] | None = None,
) -> Iterator[Iterator[Tensor]]:
    """Features of mirrored and turned copies of a share of the images chosen, all of them in each round."""
    own = chosen[share]

    def turn(number: int, some: npt.NDArray[np.uint8]) -> Tensor:
        return extract(np.stack([copy(one, freedom.copy(number, rng, one.shape[:2])) for one in some]))

    def copy(one: npt.NDArray[np.uint8], pose: Pose) -> npt.NDArray[np.uint8]:
        turned = pose.apply(one)
        if ignored is not None:  # the filling does not go to where pixels count
            moved = pose.apply_to_mask(ignored)
            turned[moved] = one[moved]
        return turned

    def told(number: int, done: int, _: int) -> None:
        progress(number * len(own) + done, rounds * len(own))

    for number in range(rounds):
        rng = np.random.default_rng((seed, number))
        for _ in range(share.start):  # the draws for the images before this share
            freedom.copy(number, rng, images.shape[1:3])
        yield in_batches(images, own, partial(turn, number), partial(told, number))


def exposed_copies(
    images: npt.NDArray[np.uint8],
    chosen: Sequence[int],
    *,
    extract: Extract,
    share: slice,
    seed: int,
    progress: Callable[[int, int], None],
) -> Iterator[Tensor]:
    """Features of a share of the images chosen, each under an exposure of its own."""
    own, places = chosen[share], count(share.start)

    def alter(some: npt.NDArray[np.uint8]) -> Tensor:
        return extract(np.stack([exposed(one, np.random.default_rng((seed, next(places)))) for one in some]))

    return in_batches(images, own, alter, progress)
