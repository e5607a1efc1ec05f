"""What the server says of an image, as JSON and as a picture; the records are the OpenAPI schema too."""

import io
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel

from blemish.detector import Detector, FailedImage, ScoredImage
from blemish.heatmaps import encode_png
from blemish.images import IMAGE_SUFFIXES, ImageError, read_image
from blemish.serving.bodies import Upload

HEATMAP_SIDE = 2048  # pixels; a heatmap is to be looked at, and a larger one takes seconds to compress
FORMATS = tuple({Image.registered_extensions()[suffix] for suffix in IMAGE_SUFFIXES})


class RegionAnswer(BaseModel):
    """A connected anomalous part, in pixels of the image: x to the right, y downwards."""

    contour: list[tuple[float, float]]
    box: tuple[int, int, int, int]
    area: int
    peak: tuple[int, int]
    peak_score: float
    p_value: float | None


class ScoreAnswer(BaseModel):
    """An image that was scored; size is (height, width), a score from threshold on is anomalous.

    ``light`` holds brightness and sharpness where the model compares them with those of its training images.
    """

    name: str
    model: str
    score: float
    p_value: float
    verdict: Literal["ok", "unsure", "anomalous"]
    threshold: float
    size: tuple[int, int]
    regions: list[RegionAnswer]
    light: dict[str, float]


class FailureAnswer(BaseModel):
    """An image that could not be scored, and why."""

    name: str
    error: str


class BatchAnswer(BaseModel):
    """The images of a multipart request in their order."""

    images: list[ScoreAnswer | FailureAnswer]


class ErrorAnswer(BaseModel):
    """A refused request: one sentence that says what to do."""

    error: str


class ModelAnswer(BaseModel):
    """A model that is served; ignored is the share of every image that it is blind to."""

    name: str
    fingerprint: str
    size: tuple[int, int]
    supervision: str
    threshold: float
    false_alarm_rate: float
    held_rate: float
    calibration_images: int
    ignored: float


@dataclass(frozen=True)
class Heatmap:
    """A scored image and its overlay as a PNG file."""

    scored: ScoredImage
    png: bytes


def score_upload(detector: Detector, upload: Upload, *, model: str, max_pixels: int) -> ScoreAnswer | FailureAnswer:
    """Scores one file, by itself, so that its score is to the last bit that of `detector.score([image])`."""
    try:
        _, scored = _score(detector, upload, max_pixels)
    except ImageError as error:
        return FailureAnswer(name=upload.name, error=str(error))
    return ScoreAnswer(
        name=upload.name,
        model=model,
        score=scored.score,
        p_value=scored.p_value,
        verdict=scored.verdict,
        threshold=detector.calibration.threshold,
        size=scored.size,
        regions=[RegionAnswer(**region.as_json()) for region in detector.regions(scored)],
        light=dict(scored.light),
    )


def draw_upload(detector: Detector, upload: Upload, *, max_pixels: int) -> Heatmap | FailureAnswer:
    """Scores one file and draws its heatmap, at most 2,048 pixels on the longer side."""
    try:
        image, scored = _score(detector, upload, max_pixels)
        picture = _explain(detector, read_image(image), scored)
    except ImageError as error:
        return FailureAnswer(name=upload.name, error=str(error))
    return Heatmap(scored, encode_png(picture))


def open_image(upload: Upload, max_pixels: int) -> Image.Image:
    """The image in a file, its header read and nothing decoded. Raises ImageError."""
    name = upload.name
    if not upload.content:
        raise ImageError(f"{name}: empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(upload.content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a PNG, JPEG, BMP, TIFF, WebP, GIF, PPM or PGM image, or truncated") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: above the limit of {max_pixels:,} pixels; shrink it or cut it into tiles") from error
    except Exception as error:  # on damaged files Pillow's parsers raise whatever they stumble over
        raise ImageError(f"{name}: damaged; copy or save it again") from error
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{name}: {image.width * image.height:,} pixels, above the limit of {max_pixels:,}; "
            "shrink it or cut it into tiles"
        )
    image.filename = name  # what later faults call it
    return image


def _score(detector: Detector, upload: Upload, max_pixels: int) -> tuple[Image.Image, ScoredImage]:
    image = open_image(upload, max_pixels)
    (result,) = detector.stream([image], batch_size=1)
    if isinstance(result, FailedImage):
        raise ImageError(result.reason)
    return image, result


def _explain(detector: Detector, image: Image.Image, scored: ScoredImage) -> Image.Image:
    shrink = HEATMAP_SIDE / max(scored.size)
    if shrink < 1:
        height, width = (max(1, round(side * shrink)) for side in scored.size)
        image, scored = image.resize((width, height)), replace(scored, size=(height, width))
    return detector.explain(image, scored)
