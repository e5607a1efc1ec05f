"""The answers of the server, as JSON and as a picture; the records are also the OpenAPI schema."""

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.heatmaps import encode_png
from blemish.model.backends import watched_runs
from blemish.model.detector import Detector
from blemish.model.scored_image import FailedImage, ScoredImage
from blemish.serving.decoders import Decoded, Decoders
from blemish.serving.stopping import Stop
from blemish.serving.uploads import Upload


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

    ``light`` holds brightness and sharpness where the model compares them with those of its training images,
    ``remarks`` what was lost in reading the image, such as values above the depth that the model knows.
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
    remarks: list[str]


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


def score_upload(
    detector: Detector, upload: Upload, stop: Stop, *, model: str, decoders: Decoders
) -> ScoreAnswer | FailureAnswer:
    """Scores one file, by itself, so that its score is to the last bit that of `detector.score([image])`."""
    try:
        _, scored = _score(detector, upload, stop, decoders, picture=False)
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
        light=dict(scored.drift_features),
        remarks=list(scored.remarks),
    )


def draw_upload(detector: Detector, upload: Upload, stop: Stop, *, decoders: Decoders) -> Heatmap | FailureAnswer:
    """Scores one file and draws its heatmap, at most 2,048 pixels on the longer side."""
    try:
        decoded, scored = _score(detector, upload, stop, decoders, picture=True)
        assert decoded.picture is not None
        height, width = decoded.picture.shape[:2]
        picture = detector.explain(decoded.picture, replace(scored, size=(height, width)))
    except ImageError as error:
        return FailureAnswer(name=upload.name, error=str(error))
    return Heatmap(scored, encode_png(picture))


def _score(
    detector: Detector, upload: Upload, stop: Stop, decoders: Decoders, *, picture: bool
) -> tuple[Decoded, ScoredImage]:
    """The image and what the detector says of it; each of the two steps ends early when it is to."""
    decoded = decoders.read(upload, size=detector.metadata.size, reading=detector.reading, picture=picture, stop=stop)
    try:
        with watched_runs(stop.by):
            (result,) = detector.predict_iter([decoded.pixels], batch_size=1)
    except BlemishError as error:  # such as a score that is no number: the answer of this image alone
        raise ImageError(f"{upload.name}: {error}") from error
    if isinstance(result, FailedImage):
        raise ImageError(result.reason)
    return decoded, replace(result, source=upload.name, size=decoded.size, remarks=decoded.remarks)
