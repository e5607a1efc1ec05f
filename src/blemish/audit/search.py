"""What do images share? All searches that need the images alone."""

from collections.abc import Mapping

from blemish.audit.appearance import Floats, find_looks
from blemish.audit.association import Shared
from blemish.audit.borders import find_frames
from blemish.audit.colours import find_colours
from blemish.audit.data import Images, Mask
from blemish.audit.patterns import find_patterns


def find_shared(pixels: Images, statistics: Mapping[str, Floats], *, unseen: Mask, seed: int = 0) -> list[Shared]:
    """What some of the images share: borders, patterns, colours at a place, and looks.

    Args:
        pixels: uint8 (N, S, S, 3), S being `material.COMPARED`.
        statistics: what `measure` makes of them.
        unseen: bool (N, S, S), what of each image is not to be compared.
        seed: decides the random offsets.
    """
    return [
        *find_frames(pixels, unseen=unseen),
        *find_patterns(pixels, unseen=unseen, seed=seed),
        *find_colours(pixels, unseen=unseen, seed=seed),
        *find_looks(statistics),
    ]
