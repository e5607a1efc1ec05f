"""Pictures as data URIs: a page needs no file beside it."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

QUALITIES = (85, 70, 50, 30, 15)  # of JPEG, tried in this order


def jpeg_uri(picture: Image.Image, *, max_bytes: int | None = None) -> str:
    """A picture as JPEG, in the best of `QUALITIES` that takes at most `max_bytes`; otherwise in the last."""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if max_bytes is None or buffer.tell() <= max_bytes:
            break
    return _data_uri("image/jpeg", buffer)


def mask_uri(mask: NDArray[np.bool_]) -> str:
    """A mask (H, W) as PNG, white where it is true."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return _data_uri("image/png", buffer)


def _data_uri(media_type: str, buffer: io.BytesIO) -> str:
    return f"data:{media_type};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
