"""Types that stand for images, their sizes and their masks."""

import os

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.imaging.frames import Frame

ImagePath = str | os.PathLike[str]
ImageSource = ImagePath | Frame | Image.Image | npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Size = tuple[int, int]  # (height, width)
Mask = npt.NDArray[np.bool_]  # (H, W)
