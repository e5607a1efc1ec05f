"""What a model file says about itself: JSON in the ONNX file's metadata, read back without running any code.

The dataclass is the schema: a field added to it is written, read and checked by its type without another word. What a
type cannot say (a size is positive, a colour scale rises) is in `_check_possible`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypedDict, get_args

import msgspec

from blemish import __version__
from blemish.conformal.drift import IMAGE_STATISTICS
from blemish.conformal.regions import RegionCalibration
from blemish.conformal.split import Calibration
from blemish.errors import BlemishError
from blemish.imaging.bit_depth import LARGEST, SMALLEST
from blemish.imaging.ignore_mask import of_record
from blemish.io.text import as_text
from blemish.process.deprecation import renamed_attribute

Runtime = Literal["onnxruntime", "openvino"]
Precision = Literal["f32", "bf16", "int8"]

METADATA_KEY = "blemish"
FORMAT = 1  # goes up only where an older Blemish would misread a file; it ignores fields that it does not know
FINGERPRINT_DIGITS = 16  # of SHA-256's 64: one false match in 10^19 comparisons, a quarter of the text
PRECISIONS: Mapping[Runtime, tuple[Precision, ...]] = {"onnxruntime": ("f32", "int8"), "openvino": ("f32", "bf16")}
MAX_SCORE = 1e30  # of a colour scale, whose differences and products are float32
# Fields whose name in the file, to the right, is that of 0.1.0.
FILE_NAMES = {"drift_reference": "watched", "has_refit": "second_opinion", "coarse_grid": "wide_cells"}
_FIELD_NAMES = {in_file: name for name, in_file in FILE_NAMES.items()}
DEEPEST = 50  # levels of lists and objects inside each other; Blemish writes five


class DataSummary(TypedDict, total=False):
    """Types of what is read back from `ModelMetadata.data`; it may hold more."""

    name: str
    layout: str
    nominal_class: str | None
    train_images: int
    calibration_images: int
    fingerprint: str


class Settings(TypedDict, total=False):
    """Types of what is read back from `ModelMetadata.settings`; it may hold more."""

    backbone: str
    seed: int
    false_alarm_rate: float
    outliers: str | None
    bits: int | None
    image_ratio: float | None


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
        drift_reference: brightness and sharpness of nominal training images by name, for the drift check.
        ignored: what was ignored in training, see `blemish.imaging.ignore_mask.as_record`; None if nothing was.
        has_refit: of earlier releases: whether the map is the smaller one of two models, the second of which was refit
            on the calibration images too. The scores in `calibration` are those of the first.
        aligned: whether parts are turned upright first, see `blemish.networks.alignment`.
        bits: depth of the values in 16-bit images, see `blemish.imaging.bit_depth`.
        coarse_grid: of earlier releases: whether features are compared at stride 16 instead of 8.
        roles: fingerprints of `used_images` by what became of them: "fit", of which "validation" were kept from what is
            learned from labels, "calibration" in the order of the calibration scores, and "labelled" defects. Empty in
            files from before they were kept.
        any_size: whether the graph takes images of any size and resizes them, see `blemish.conversion.any_size`.
        networks: whether each network of a cross-conformal detector is aligned (in earlier releases also whether it has
            wide cells and a gate): each decides from its own images, and what is said above holds if it does for any.
        config: the configuration of the training, see `blemish.training.config`; empty in files of earlier releases.
        plan: what was decided from the images, see `blemish.training.plan`; None in files of earlier releases.
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
    drift_reference: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ignored: Mapping[str, Any] | None = None
    has_refit: bool = False
    aligned: bool = False
    coarse_grid: bool = False
    networks: tuple[Mapping[str, bool], ...] = ()
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    any_size: bool = False
    bits: int = 16
    config: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] | None = None

    watched = renamed_attribute("watched", "drift_reference")
    second_opinion = renamed_attribute("second_opinion", "has_refit")
    wide_cells = renamed_attribute("wide_cells", "coarse_grid")

    def to_json(self) -> str:
        """The metadata as one JSON object, the same text for the same values."""
        values = {FILE_NAMES.get(name, name): value for name, value in asdict(self).items()}
        return json.dumps(as_text({"format": FORMAT} | values), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Reads what `to_json` wrote, by this Blemish or another one of the same format.

        Fields that are not known are ignored. Raises BlemishError for another format, naming both versions, and for
        values of the wrong type or that no training gives.
        """
        values = _parsed(text)
        _check_format(values)
        try:
            for name in ("runtime", "precision"):
                _check_known(values, name)
            fields = {_FIELD_NAMES.get(name, name): value for name, value in values.items()}
            metadata = msgspec.convert(fields, cls)
            known = {name: row for name, row in metadata.drift_reference.items() if name in IMAGE_STATISTICS}
            metadata = replace(metadata, drift_reference=known)
            msgspec.convert(metadata.data, DataSummary)
            msgspec.convert(metadata.settings, Settings)
            _check_possible(metadata)
        except msgspec.ValidationError as error:
            raise BlemishError(_damaged(_words(str(error)), values)) from error
        except _ImpossibleError as error:
            raise BlemishError(_damaged(str(error), values)) from error
        return metadata


class _ImpossibleError(Exception):
    """A value of the right type that no training gives."""


def _parsed(text: str) -> dict[str, Any]:
    try:
        values = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BlemishError(_damaged("it is no JSON that Blemish writes", {})) from error
    if not isinstance(values, dict):
        raise BlemishError(_damaged("it is not a JSON object", {}))
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        containers = [value for value in level if isinstance(value, dict | list)]
        level = [item for held in containers for item in (held.values() if isinstance(held, dict) else held)]
    if level:
        raise BlemishError(_damaged(f"it is nested more than {DEEPEST} levels deep", {}))
    return values


def _check_format(values: Mapping[str, Any]) -> None:
    found = values.get("format")
    if not isinstance(found, int) or isinstance(found, bool):
        raise BlemishError(_damaged("it does not say its format", values))
    maker, own = f"{_maker(values) or 'of unknown version'}, model format {found}", f"{__version__}, format {FORMAT}"
    if found > FORMAT:
        raise BlemishError(f"made by a newer Blemish ({maker}): update Blemish (this is {own})")
    if found < FORMAT:
        raise BlemishError(f"made by an older Blemish ({maker}), which this one ({own}) does not read: train it again")


def _check_known(values: Mapping[str, Any], name: Literal["runtime", "precision"]) -> None:
    """Raises _ImpossibleError for a word that is not known; it may be one of a newer release."""
    known, found = get_args({"runtime": Runtime, "precision": Precision}[name]), values.get(name)
    if isinstance(found, str) and found not in known:
        raise _ImpossibleError(f"its {name} is {found!a}, and known are {', '.join(known)}")


def _check_possible(metadata: ModelMetadata) -> None:
    """Raises _ImpossibleError for values of the right type that no training gives."""
    low, high = metadata.heatmap_low, metadata.heatmap_high
    if min(metadata.size) < 1:
        raise _ImpossibleError(f"its size is {metadata.size[0]} x {metadata.size[1]} pixels")
    if not SMALLEST <= metadata.bits <= LARGEST:
        raise _ImpossibleError(f"its images have {metadata.bits} bits a value, not {SMALLEST} to {LARGEST}")
    if metadata.precision not in PRECISIONS[metadata.runtime]:
        raise _ImpossibleError(f"{metadata.runtime} does not run in {metadata.precision}")
    if not -MAX_SCORE <= low < high <= MAX_SCORE:
        raise _ImpossibleError(f"its colour scale runs from {low:g} to {high:g}")
    if sizes := [name for name, values in metadata.drift_reference.items() if not values]:
        raise _ImpossibleError(f"watched[{sizes[0]!a}] is empty")
    if metadata.roles and len(metadata.roles.get("calibration", ())) != metadata.calibration.images:
        raise _ImpossibleError("it has other calibration images than calibration scores")
    try:
        of_record(metadata.ignored, metadata.size)
    except BlemishError as error:
        raise _ImpossibleError(str(error)) from error


def _damaged(fault: str, values: Mapping[str, Any]) -> str:
    """One sentence; a file of a newer Blemish is more likely new than damaged."""
    maker = _maker(values)
    if maker is not None and _numbers(maker) > _numbers(__version__):
        return (
            f"made by a newer Blemish ({maker}), and its metadata are not understood ({fault}): "
            f"update Blemish (this is {__version__})"
        )
    return f"the model file's metadata is damaged ({fault}): copy or train it again"


def _maker(values: Mapping[str, Any]) -> str | None:
    """The version of Blemish that made the file, as far as it says so."""
    versions = values.get("versions")
    found = versions.get("blemish") if isinstance(versions, dict) else None
    return ascii(found)[1:-1][:40] if isinstance(found, str) and found else None


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: (0, 10, 2) of 0.10.2rc1."""
    found = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _words(fault: str) -> str:
    """A fault in msgspec's words as a part of a sentence: "at size[0]: expected int, got str"."""
    what, _, where = fault.replace("`", "").partition(" - at ")
    name, *steps = re.split(r"(?=[.\[])", where.removeprefix("$").removeprefix("."), maxsplit=1)
    place = "".join([FILE_NAMES.get(name, name), *steps])
    return (f"at {place}: " if place else "") + what[:1].lower() + what[1:]
