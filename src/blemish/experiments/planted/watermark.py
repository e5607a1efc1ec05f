"""The cue: a semi-transparent line of text at the bottom left."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from blemish.experiments.pictures import FONTS

TEXT = "© photo archive"
WIDTH, HEIGHT, MARGIN = 0.35, 0.07, 0.03  # of the photograph's side
OPACITY, SHADOW = 0.75, 0.4
DRAWN = 64  # font size in pixels at which the text is drawn; it is then shrunk into its box


@dataclass(frozen=True, eq=False)
class Watermark:
    """White text over its own shadow, so that it shows on a bright sky and on dark fur.

    Attributes:
        box: rows and columns of the box that holds it.
        kept: float (S, S), share of the photograph that shows through.
        added: float (S, S), grey levels on top of that.
    """

    box: tuple[slice, slice]
    kept: Tensor
    added: Tensor

    @classmethod
    def of_size(cls, side: int) -> Self:
        """The watermark of photographs of `side` x `side` pixels."""
        width, height, margin = (max(1, round(share * side)) for share in (WIDTH, HEIGHT, MARGIN))
        box = (slice(side - margin - height, side - margin), slice(margin, margin + width))
        text, shadow = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
        text[box] = _text(width, height)
        shadow[box] = _text(width, height, stroke=DRAWN // 8)
        kept = (1 - SHADOW * shadow) * (1 - OPACITY * text)
        return cls(box, torch.from_numpy(kept), torch.from_numpy(255 * OPACITY * text))

    @property
    def area(self) -> float:
        """The box's share of the photograph."""
        rows, columns = (side.stop - side.start for side in self.box)
        return rows * columns / self.kept.numel()

    def put_on(self, photographs: Tensor) -> Tensor:
        """Uint8 (..., 3, S, S) photographs with the watermark on them."""
        return (photographs * self.kept + self.added).round().byte()


def _text(width: int, height: int, *, stroke: int = 0) -> np.ndarray:
    """Coverage 0..1 (height, width) of the text, as large as fits, in the middle."""
    font = ImageFont.truetype(FONTS / "DejaVuSans-Bold.ttf", DRAWN)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(TEXT, stroke_width=DRAWN // 8))
    drawn = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(drawn).text((-left, -top), TEXT, 255, font, stroke_width=stroke)
    scale = min(width / drawn.width, height / drawn.height)
    size = max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale))
    box = Image.new("L", (width, height))
    box.paste(drawn.resize(size, Image.Resampling.BOX), ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(box, np.float32) / 255
