"""Search: do images have one unusual colour at one place, as of a stamp with another text on each? No detector needed.

Colours are counted in steps of eight levels. An image has a colour in a block of the frame if at least `MIN_PIXELS` of
the block's pixels have it. That is surprising where many more images have it than in the blocks around and in the frame
on average, and more so than anywhere in `REPEATS` copies of the set in which every image was shifted by a random
offset. A colour that most images have somewhere is left out.
"""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, label, median_filter
from scipy.stats import poisson

from blemish.auditing.association import SharedCue
from blemish.auditing.data import Images, Indices, Mask
from blemish.auditing.patterns import BLOCK, BLOCKS, MAX_UNSEEN, REPEATS, moved

STEP = 8  # grey levels that count as one colour
MIN_PIXELS = 12  # of the 256 of a block
MIN_IMAGES = 5
MAX_IMAGE_SHARE = 0.6
NEIGHBOURHOOD = 5  # blocks across: an overlay is smaller than half of it
MIN_EXPECTED = 0.1  # images anywhere
MIN_RELATIVE_SURPRISE = 0.25  # of a block's, from which on blocks near it belong to it
CHUNK = 32  # images computed at a time
UNSEEN = -1  # the code of a pixel that is not to be compared

Codes = npt.NDArray[np.int32]  # (N, S, S)


def find_colours(pixels: Images, *, unseen: Mask, seed: int = 0) -> list[SharedCue]:
    """The colours that images (N, S, S, 3) share at one place; `unseen` (N, S, S) is not compared."""
    rng = np.random.default_rng(seed)
    coded = np.where(unseen, UNSEEN, codes(pixels))
    chance = max(_Surprises(holders(moved(coded, rng)), len(pixels)).highest for _ in range(REPEATS))
    surprises = _Surprises(holders(coded), len(pixels))
    found = []
    for number, row, column in np.argwhere(surprises.values > chance):
        region = surprises.region(number, row, column)
        seen = unseen[:, region].mean(axis=1) < MAX_UNSEEN
        carriers = surprises.carriers(number, row, column) & seen
        if carriers.any():
            red, green, blue = _middle(int(surprises.colours[number]))
            what = f"have the same unusual colour, rgb({red} {green} {blue}),"
            found.append(
                SharedCue("colour", what, carriers, seen, region, float(surprises.values[number, row, column] - chance))
            )
    return found


def codes(pixels: Images) -> Codes:
    """A number for the colour of each pixel."""
    steps = (pixels // STEP).astype(np.int32)
    span = 256 // STEP
    return (steps[..., 0] * span + steps[..., 1]) * span + steps[..., 2]


def holders(coded: Codes) -> tuple[Indices, Indices, Codes]:
    """Image, block and colour (M,) each, of all that `MIN_PIXELS` pixels of a block have."""
    chunks = [_holders(coded[start : start + CHUNK]) for start in range(0, len(coded), CHUNK)]
    images, blocks, colours = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    starts = np.repeat(np.arange(0, len(coded), CHUNK), [len(chunk[0]) for chunk in chunks])
    return images + starts, blocks, colours


def _holders(coded: Codes) -> tuple[Indices, Indices, Codes]:
    n = len(coded)
    blocks = coded.reshape(n, BLOCKS, BLOCK, BLOCKS, BLOCK).swapaxes(2, 3).reshape(n, BLOCKS**2, BLOCK**2)
    blocks = np.sort(blocks, axis=2)
    run = blocks[..., MIN_PIXELS - 1 :] == blocks[..., : 1 - MIN_PIXELS]  # MIN_PIXELS equal ones start here
    run &= blocks[..., : 1 - MIN_PIXELS] != UNSEEN
    first = run.copy()
    first[..., 1:] &= blocks[..., 1 : 1 - MIN_PIXELS] != blocks[..., :-MIN_PIXELS]
    images, places, at = np.nonzero(first)
    return images, places, blocks[images, places, at]


class _Surprises:
    """How many more images than expected have a colour in a block.

    Attributes:
        colours: (C,), those that enough images have in some block, and not most images somewhere.
        values: (C, BLOCKS, BLOCKS), minus the logarithm of the Poisson probability of at least so many.
        highest: of them.
    """

    def __init__(self, held: tuple[Indices, Indices, Codes], images: int) -> None:
        self._images = images
        colours, numbers = np.unique(held[2], return_inverse=True)
        anywhere = np.zeros((len(colours), images), dtype=bool)
        anywhere[numbers, held[0]] = True
        counts = np.zeros((len(colours), BLOCKS**2), dtype=np.int64)
        np.add.at(counts, (numbers, held[1]), 1)
        asked = (counts.max(axis=1, initial=0) >= MIN_IMAGES) & (anywhere.sum(axis=1) <= MAX_IMAGE_SHARE * images)
        self.colours = colours[asked]
        kept = asked[numbers]
        self._held = held[0][kept], held[1][kept], held[2][kept]
        self._counts = counts[asked].reshape(-1, BLOCKS, BLOCKS)
        around = median_filter(self._counts.astype(np.float64), (1, NEIGHBOURHOOD, NEIGHBOURHOOD))
        expected = np.maximum(np.maximum(around, self._counts.mean(axis=(1, 2), keepdims=True)), MIN_EXPECTED)
        self.values = np.where(self._counts >= MIN_IMAGES, -poisson.logsf(self._counts - 1, expected), 0)
        self.highest = float(self.values.max(initial=0))

    def carriers(self, number: int, row: int, column: int) -> Mask:
        """Images (N,) that have the colour in the block."""
        images, blocks, colours = self._held
        carriers = np.zeros(self._images, dtype=bool)
        carriers[images[(blocks == row * BLOCKS + column) & (colours == self.colours[number])]] = True
        return carriers

    def region(self, number: int, row: int, column: int) -> Mask:
        """The box around the block and those near it where the colour is surprising as well, bool (S, S); text has gaps
        of a block."""
        surprising = self.values[number] >= MIN_RELATIVE_SURPRISE * self.values[number, row, column]
        pieces, _ = label(binary_dilation(surprising))
        rows, columns = np.nonzero(surprising & (pieces == pieces[row, column]))
        box = np.zeros_like(surprising)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        return np.kron(box, np.ones((BLOCK, BLOCK), dtype=bool))


def _middle(code: int) -> tuple[int, int, int]:
    """The colour in the middle of a step."""
    span = 256 // STEP
    red, green, blue = code // span**2, code // span % span, code % span
    return tuple(step * STEP + STEP // 2 for step in (red, green, blue))  # type: ignore[return-value]
