"""What a model file says about itself: JSON in the ONNX file's metadata, read back without running any code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from blemish.calibration import Calibration
from blemish.errors import BlemishError
from blemish.region_calibration import RegionCalibration

Runtime = Literal["onnxruntime", "openvino"]
Precision = Literal["f32", "bf16", "int8"]

METADATA_KEY = "blemish"
FORMAT = 1
FINGERPRINT_DIGITS = 16  # of SHA-256's 64: one false match in 10^19 comparisons, a quarter of the text


@dataclass(frozen=True)
class ModelMetadata:
    """Everything about a detector that is not in its graph.

    Attributes:
        size: network size (height, width) in pixels.
        supervision: in one line, what it learned from.
        settings: training settings by name: backbone, seed, sigma, ...
        data: the training data: name, layout, numbers of images, and `fingerprint`, one for the whole.
        used_images: fingerprints of all images used in training or calibration, so that an evaluation leaves them out.
        calibration: scores of the held-back nominal images with the asked false-alarm rate.
        heatmap_low, heatmap_high: ends of the fixed colour scale, in units of the anomaly map.
        versions: of the packages that made it.
        runtime: what the graph is run in; the calibration scores are that runtime's.
        precision: arithmetic of the network: f32, OpenVINO's bf16, or int8 in convolutions of the backbone.
        regions: largest excesses of the held-back images, for p-values of single regions; None where they are not
            known for this graph.
        watched: brightness and sharpness of good training images by name, for the drift check.
        ignored: what was ignored in training, see `blemish.ignore.as_record`; None if nothing was.
        second_opinion: whether there is one, see `blemish.networks.gaussian.SecondOpinion`: it knows the calibration
            images, and the calibration is that of the first opinion.
        aligned: whether parts are turned upright first, see `blemish.networks.alignment`.
        bits: depth of the values in 16-bit images, see `blemish.imaging.bit_depth`.
        wide_cells: whether the closed form has cells of twice the side, see `blemish.networks.wide_cells`.
        networks: whether each network of a cross-conformal detector is aligned, has wide cells and has a gate: each
            decides from its own images, and what is said above holds if it does for any of them.
    """

    size: tuple[int, int]
    supervision: str
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    used_images: tuple[str, ...]
    calibration: Calibration
    heatmap_low: float
    heatmap_high: float
    versions: Mapping[str, str] = field(default_factory=dict)
    runtime: Runtime = "onnxruntime"
    precision: Precision = "f32"
    regions: RegionCalibration | None = None
    watched: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ignored: Mapping[str, Any] | None = None
    second_opinion: bool = False
    aligned: bool = False
    wide_cells: bool = False
    networks: tuple[Mapping[str, bool], ...] = ()
    bits: int = 16

    def to_json(self) -> str:
        """The metadata as one JSON object, the same text for the same values."""
        return json.dumps({"format": FORMAT} | asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Reads what `to_json` wrote. Raises BlemishError for another format."""
        try:
            values = json.loads(text)
            runtime = values.get("runtime", "onnxruntime")  # files from before there were exports do not say
            if values.pop("format") != FORMAT or runtime not in get_args(Runtime):
                raise BlemishError("the model was made by another version of blemish: train it again")
            values["size"] = tuple(values["size"])
            values["used_images"] = tuple(values["used_images"])
            values["networks"] = tuple(values.get("networks", ()))
            calibration = values["calibration"]
            folds = tuple(calibration.get("folds", ()))
            values["calibration"] = Calibration(tuple(calibration["scores"]), calibration["false_alarm_rate"], folds)
            if values.get("regions") is not None:
                regions = values["regions"]
                values["regions"] = RegionCalibration(regions["level"], tuple(regions["largest"]))
            return cls(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise BlemishError("the model file's metadata is damaged: copy or train it again") from error
