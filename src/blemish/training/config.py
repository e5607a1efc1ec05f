"""The configuration of a training: its options, and every constant that was chosen for it, in one place.

A constant says in a line what it is, its unit, and what chose it: a row of docs/ablation.csv (the table "What each part
is worth" of docs/research.md), a section of docs/research.md, or "not tuned". The whole configuration is stored in the
model file, so a model says what it was made with.

Nothing here imports torch: the command line takes its defaults from here.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypedDict, get_type_hints

import msgspec
from msgspec import Meta

from blemish.errors import BlemishError
from blemish.imaging.bit_depth import check_bits
from blemish.io.arguments import name, one_of, one_path, rate, shown, whole
from blemish.io.files import printable, read_fault
from blemish.plugins import METHODS, SYNTHETIC

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
MAX_SEED = 2**32 - 1  # that NumPy takes
LOGS = ("tensorboard", "mlflow")  # options that say where to log, and nothing of the detector

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "32-true", "bf16-mixed"]
Size = tuple[int, int]  # (height, width)

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
CountOrNone = Annotated[int, Meta(ge=0)]


class _Section:
    """A part of the configuration whose values are checked by their types as soon as it is made."""

    section: ClassVar[str]

    def __post_init__(self) -> None:
        for key, hint in _hints(type(self)).items():
            value = getattr(self, key)
            try:
                checked = msgspec.convert(value, hint)
                if isinstance(checked, float) and not math.isfinite(checked):
                    raise msgspec.ValidationError("expected a finite number")
            except msgspec.ValidationError as error:
                words = str(error).replace("`", "").partition(" - at ")[0]
                words = words[:1].lower() + words[1:]
                raise BlemishError(f"{self.section}.{key} cannot be {shown(value)}: {words}") from error
            object.__setattr__(self, key, checked)


def _hints(kind: type) -> dict[str, Any]:
    return {key: hint for key, hint in get_type_hints(kind, include_extras=True).items() if key != "section"}


@dataclass(frozen=True, kw_only=True)
class SplitConfig(_Section):
    """How many nominal images are kept from the fit: docs/research.md, "Calibration"."""

    section: ClassVar[str] = "split"

    # Share of the nominal images, or groups, that calibrate. Not tuned.
    calibration_share: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    # They are at most so many times what the asked rate needs: more hardly move the threshold. Not tuned.
    max_calibration: Count = 10
    # Share of the fit set that the defect branch is not trained on, where there is one. Not tuned.
    validation_share: Annotated[float, Meta(gt=0, lt=1)] = 0.25
    # At most so many: they give the scale of the defect branch to about 2 % (standard error). Not tuned.
    max_validation: Count = 250


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(_Section):
    """What is taken from a frozen backbone."""

    section: ClassVar[str] = "features"

    # Pixels between two cells of each map of a convolutional backbone. Row "four levels, stride 4 too".
    strides: tuple[Count, ...] = (4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class GaussianConfig(_Section):
    """The Gaussians of the method "gaussian": docs/research.md, "A Gaussian a position" and after."""

    section: ClassVar[str] = "gaussian"

    # Principal components kept of a map with more channels. Row "all components of stride 16"; flat from 40 to 176.
    components: Count = 64
    # Nominal images that the principal components are taken of. Not tuned: more change nothing.
    component_images: Count = 128
    # Side in cells of the mean over the finest level. Row "fine: not averaged".
    fine_pooling: Count = 3
    # Added to each variance, in squared feature units, whose mean is near 7. Rows "ridge 0.01" and "ridge 1".
    ridge: Positive = 0.1
    # Cells that the same thing may lie off. Rows "no neighbours" and "neighbours up to 2 cells off".
    reach: CountOrNone = 1
    # Folds of the nominal images for out-of-fold distances. Not tuned.
    folds: Annotated[int, Meta(ge=2)] = 4
    # Images whose out-of-fold distances are taken, a bound on memory: up to 170 KB each at 256 px. Not tuned.
    out_of_fold_images: Count = 500


@dataclass(frozen=True, kw_only=True)
class MapConfig(_Section):
    """From distances to the anomaly map: docs/research.md, "One map, one score"."""

    section: ClassVar[str] = "map"

    # Pixels of the image to a cell of the anomaly map before it is enlarged; the smallest stride that is not below it.
    stride: Count = 8
    # Standard deviation in pixels of the Gaussian that enlarges a map of stride 8; in proportion for a coarser one.
    # Rows "sigma 3" and "sigma 8".
    sigma: Positive = 5.0
    # Weight beside an aligned part of what distances exceed 1 by. docs/research.md, "Alignment".
    background_weight: Share = 0.3


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig(_Section):
    """Whether and how parts are turned to one direction: docs/research.md, "Alignment". Chosen on MVTec AD's screw."""

    section: ClassVar[str] = "alignment"

    # Nominal images that are compared. Not tuned: a bound on time.
    images: Annotated[int, Meta(ge=2)] = 240
    # Quantile over the image of the differences from the background that is the contrast of a part. Not tuned.
    contrast_quantile: Share = 0.98
    # Grey levels of contrast below which no part is found. Not tuned.
    min_contrast: NotNegative = 8.0
    # Least and largest share of the image that a part may cover. Not tuned.
    part_area: tuple[Share, Share] = (0.01, 0.5)
    # Share of the image's border that parts may touch. Not tuned.
    max_border: Share = 0.1
    # Median correlation of turned silhouettes with the mean of the others, for parts to be alike. Not tuned.
    min_correlation: Share = 0.8
    # Length of the mean direction, 1 where all are the same: above it parts lie nearly alike already. Not tuned.
    max_resultant_length: Share = 0.8
    # Share of the silhouettes' variance that turning may leave. Not tuned.
    max_residual_variance: Share = 0.5
    # Images tried as the first template, and rounds of turning all silhouettes to their mean. Not tuned.
    starts: Count = 5
    rounds: Count = 8
    # Share of the aligned picture's side that the part fills, and the bounds of the zoom by which it does. Not tuned.
    fill: Annotated[float, Meta(gt=0, le=1)] = 0.85
    zoom: tuple[Positive, Positive] = (0.5, 1.25)
    # Share of the images in which a pixel is foreground, for it to belong to the part. Not tuned.
    part_share: Share = 0.5
    # The part is taken to reach 1 / this of the shorter side farther. Not tuned.
    margin: Count = 48


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(_Section):
    """How images are altered and defects transplanted: docs/research.md, "The defect branch". None was tuned."""

    section: ClassVar[str] = "augmentation"

    # Largest change of size, as a logarithm of the scale.
    max_zoom: NotNegative = 0.15
    # Largest shift, as a share of the side.
    max_shift: NotNegative = 0.05
    # Least and largest factor of the contrast.
    contrast: tuple[NotNegative, NotNegative] = (0.75, 1.3)
    # Largest change of brightness in grey levels.
    brightness: NotNegative = 25.0
    # Probability that a small labelled defect is transplanted into a nominal image, and the share of the image up to
    # which it is small.
    transplant_probability: Share = 0.5
    max_transplant_area: Share = 0.05
    # Pixels around a mask that are transplanted with the defect.
    transplant_margin: Count = 3
    # Pixels around those that decide where the defect fits.
    transplant_ring: Count = 4
    # Standard deviation in pixels of the seam.
    transplant_feather: NotNegative = 1.5
    # Random places tried.
    transplant_places: Count = 30


@dataclass(frozen=True, kw_only=True)
class DefectBranchConfig(_Section):
    """The network that learns from known anomalies: docs/research.md, "The defect branch".

    Its constants come from trials of the detector before this one, except where a line says otherwise.
    """

    section: ClassVar[str] = "defect_branch"

    # Finest maps of the backbone that it sees. Not tuned.
    maps: Count = 3
    # Channels between its layers.
    hidden_channels: Count = 64
    # Nominal images whose inputs are kept, a bound on memory: up to 480 KB each at 256 px. Not tuned.
    nominal_images: Count = 500
    # Altered copies of nominal images beside them.
    nominal_copies: CountOrNone = 240
    # Training images made of labelled defects, over all types; twice the number of labels where that is more.
    labelled_images: Count = 960
    # Outlier-exposure images. Not tuned.
    outlier_images: Count = 500
    # Images with a synthetic anomaly, where --synthetic asks for them. Not tuned: as many as outlier images.
    synthetic_images: Count = 500
    # Share of an unmasked image's largest map value from which on a pixel is taken for the defect.
    pseudo_mask_level: Share = 0.75
    # Images of each label, nominal and anomalous, in a step. Not tuned.
    batch: Count = 16
    # Largest learning rate of AdamW, the share of steps that warm up to it, and the weight decay.
    learning_rate: Positive = 2e-3
    warm_up: Share = 0.3
    weight_decay: NotNegative = 1e-2
    # Share of the images of a batch that take another's style (MixStyle).
    mixstyle_probability: Share = 0.25
    # Share of a cell that a mask covers, for the cell to count as anomalous.
    min_coverage: Share = 0.15
    # Highest cells of each nominal image that count once more in the loss, as a share, and their weight.
    hard_negative_fraction: Share = 0.01
    hard_negative_weight: NotNegative = 0.3
    # Its scale on nominal images, relative to the distance's. docs/results.md, "Defect types that no label shows".
    relative_scale: Positive = 0.85


@dataclass(frozen=True, kw_only=True)
class FcddConfig(_Section):
    """The methods "fcdd" and "hsc": docs/paper.md, "FCDD on any folder"."""

    section: ClassVar[str] = "fcdd"

    # Finest maps of the backbone that it sees.
    maps: Count = 3
    # Trained convolutions above the backbone, below the last layer; their sides in cells, and their channels, which are
    # also the length of the vectors of hsc.
    layers: CountOrNone = 2
    kernel_size: Count = 3
    hidden_channels: Count = 64
    # Standard deviation in pixels of the Gaussian that enlarges the map.
    sigma: Positive = 12.0
    # Factor of the enlarged map in FCDD's loss: what the paper's kernel has, whose Gaussians do not add up to one.
    gain: Positive = 3.7
    # Images of an epoch, and of a step; half of them are anomalous.
    epoch_images: Count = 1600
    batch: Count = 32
    # Largest learning rate of AdamW, the share of steps that warm up to it, and the weight decay.
    learning_rate: Positive = 1e-3
    warm_up: Share = 0.3
    weight_decay: NotNegative = 1e-2
    # Largest enlargement of a random crop, as a logarithm of the scale.
    max_zoom: NotNegative = 0.07
    # Whether images are turned and mirrored, too.
    rotate: bool = False
    # Images of each label, held out from training, whose AUROC is shown after each epoch.
    watched_images: Count = 32


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(_Section):
    """What is measured on nominal images: docs/research.md, "Calibration". None was tuned."""

    section: ClassVar[str] = "calibration"

    # Images of the fit whose scores give the level of regions.
    level_images: Count = 64
    # Images whose brightness and sharpness are kept for the drift check.
    drift_images: Count = 1000


class TrainOptions(TypedDict, total=False):
    """The fields of `TrainConfig` as keywords, for `train(..., **options)`: paths as text too, a size as one number."""

    size: Size | int | Literal["auto"]
    seed: int
    false_alarm_rate: float
    method: str
    backbone: str
    weights: str | Path | None
    download: bool
    outlier_exposure: str | Path | None
    synthetic: str
    ignore_mask: str | Path | None
    bits: int | None
    cross_conformal: int | None
    groups: str | Path | None
    align: bool
    epochs: int
    train_from: str | None
    memory: int
    device: Device
    precision: Precision
    devices: int
    nodes: int
    tensorboard: str | Path | None
    mlflow: str | None
    split: SplitConfig
    features: FeatureConfig
    gaussian: GaussianConfig
    map: MapConfig
    alignment: AlignmentConfig
    augmentation: AugmentationConfig
    defect_branch: DefectBranchConfig
    fcdd: FcddConfig
    calibration: CalibrationConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every option of a training. It is checked as a whole as soon as it is made.

    Example:
        >>> TrainConfig(size=256, seed=1).false_alarm_rate
        0.01

    Args:
        size: network size (height, width) in pixels, or one number for both sides, in multiples of what the backbone
            takes (32 for convolutional ones); "auto" has the shape of the nominal images and as many pixels as
            256 x 256, see `blemish.datasets.network_size`.
        seed: decides every random choice.
        false_alarm_rate: share of nominal images that may be called anomalous, between 0 and 1.
        method: how anomalies are found; a name in `blemish.plugins.METHODS`.
        backbone: the feature extractor, such as a timm model's name.
        weights: a local weights file for it.
        download: let timm fetch its weights.
        outlier_exposure: a folder of any other images, for outlier exposure.
        synthetic: a synthetic anomaly to learn from; a name in `blemish.plugins.SYNTHETIC`. On the panel of
            docs/research.md no synthetic anomaly paid ("Tried and lost"): the default is "none".
        ignore_mask: a mask, white where images do not count, for all of them, which then stays in the model file; or
            a folder with a mask for each image, see `blemish.imaging.ignore_mask`.
        bits: depth of the values in 16-bit images, 8 to 16; None takes it from the largest value of all training
            images together, see `blemish.imaging.bit_depth`. The model file keeps it for every later image.
        cross_conformal: a number of folds: every nominal image trains and calibrates, at the price of as many networks
            in the file and of a weaker guarantee, see `blemish.conformal.cross`. For small sets.
        groups: which nominal images belong together, such as photographs of one part, so that whole groups are held
            back: a regular expression, searched for in paths below the data folder, whose first group (or whole
            match) names the group; or a CSV file of columns path and group. Images that it does not name count alone.
        align: turn parts to one direction where the nominal images show them in all directions on a plain background;
            then what lies in the background counts for less. Not with `ignore_mask`, whose masks lie still.
        epochs: passes over the known anomalies: labelled defects, outliers and synthetic ones; of the methods
            "fcdd" and "hsc" parts of the training, of `fcdd.epoch_images` images each.
        train_from: the layer of the backbone from which on the methods "fcdd" and "hsc" train its weights, too, or
            "all"; None leaves them as they are.
        memory: vectors that the method "patchcore" keeps.
        device: where to train.
        precision: arithmetic of the training: "32-true", or "bf16-mixed", for processors that have bfloat16; "auto" is
            the latter on a CUDA device. The model file computes in float32.
        devices: processes on this machine, a device each. They run the calling program again from its start, and each
            returns the detector; see `blemish.training.distributed`.
        nodes: machines with as many; the program is to be started on each, and the output to be seen by all.
        tensorboard: a folder for this training's TensorBoard log: curves, where something is learned in epochs,
            heatmaps of up to eight images, the calibration scores and the final figures. The model file does not
            mention it.
        mlflow: where MLflow keeps the same as a run: the URI of a tracking server or a database, or a folder. It may
            hold a user and a password: it is never written to the model file.
        split, features, gaussian, map, alignment, augmentation, defect_branch, fcdd, calibration: the constants of each
            step.

    Raises:
        BlemishError: a value that a training cannot have.
    """

    size: Size | Literal["auto"] = "auto"
    seed: int = 0
    false_alarm_rate: float = 0.01
    method: str = "gaussian"
    backbone: str = DEFAULT_BACKBONE
    weights: Path | None = None
    download: bool = False
    outlier_exposure: Path | None = None
    synthetic: str = "none"
    ignore_mask: Path | None = None
    bits: int | None = None
    cross_conformal: int | None = None
    groups: str | Path | None = None
    align: bool = True
    epochs: int = 6
    train_from: str | None = None
    memory: int = 10_000
    device: Device = "auto"
    precision: Precision = "auto"
    devices: int = 1
    nodes: int = 1
    tensorboard: Path | None = None
    mlflow: str | None = None
    split: SplitConfig = field(default_factory=SplitConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    gaussian: GaussianConfig = field(default_factory=GaussianConfig)
    map: MapConfig = field(default_factory=MapConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    defect_branch: DefectBranchConfig = field(default_factory=DefectBranchConfig)
    fcdd: FcddConfig = field(default_factory=FcddConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)

    def __post_init__(self) -> None:
        checked = self._checked_options() | self._checked_numbers()
        for key, value in checked.items():
            object.__setattr__(self, key, value)
        for key, kind in SECTIONS.items():
            if not isinstance(value := getattr(self, key), kind):
                raise BlemishError(f"{key} must be a {kind.__name__}, not {shown(value)}")

    def _checked_options(self) -> dict[str, Any]:
        """Words and paths as they are kept. Raises BlemishError: an unknown word would pass for the default."""
        one_of(self.method, "the method", METHODS)
        one_of(self.synthetic, "the synthetic anomaly", SYNTHETIC)
        name(self.backbone, "the backbone")
        if self.mlflow is not None:
            name(self.mlflow, "mlflow")
        if self.train_from is not None:
            name(self.train_from, "train_from")
        one_of(self.device, "the device", ("auto", "cpu", "cuda", "mps"))
        one_of(self.precision, "the precision", ("auto", "32-true", "bf16-mixed"))
        one_of(self.align, "align", (True, False))
        one_of(self.download, "download", (True, False))
        if not (self.groups is None or (isinstance(self.groups, str | os.PathLike) and os.fspath(self.groups))):
            raise BlemishError(f"groups must be a pattern or a CSV file, not {shown(self.groups)}")
        paths = {
            "weights": (self.weights, "weights"),
            "outlier_exposure": (self.outlier_exposure, "outlier_exposure"),
            "ignore_mask": (self.ignore_mask, "ignore_mask"),
            "tensorboard": (self.tensorboard, "tensorboard"),
        }
        return {key: None if path is None else one_path(path, what) for key, (path, what) in paths.items()}

    def _checked_numbers(self) -> dict[str, Any]:
        """Numbers as they are kept. Raises BlemishError for those that no training can have."""
        folds = self.cross_conformal
        return {
            "size": _size(self.size),
            "seed": whole(self.seed, "the seed", least=0, most=MAX_SEED),
            "false_alarm_rate": rate(self.false_alarm_rate, "the false-alarm rate"),
            "bits": None if self.bits is None else check_bits(self.bits),
            "cross_conformal": None if folds is None else whole(folds, "cross_conformal", least=2),
            "epochs": whole(self.epochs, "epochs", least=1),
            "memory": whole(self.memory, "memory", least=1),
            "devices": whole(self.devices, "devices", least=1),
            "nodes": whole(self.nodes, "nodes", least=1),
        }

    def with_options(self, **options: Any) -> Self:
        """The same with some fields replaced. Raises BlemishError for an unknown one and for a bad value."""
        _check_keys(options, self, "")
        return replace(self, **options)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON and TOML can hold it; `from_dict` reads it back."""
        return _plain(asdict(self))

    def as_record(self) -> dict[str, Any]:
        """The same for the model file, which knows files by their names and not by where they lay, and no log."""
        paths = {key: value.name for key, value in vars(self).items() if isinstance(value, Path)}
        return {key: value for key, value in (self.to_dict() | paths).items() if key not in LOGS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` wrote; what is absent has its default.

        Raises:
            BlemishError: an unknown key, or a value that a training cannot have.
        """
        _check_keys(values, cls, "")
        read: dict[str, Any] = dict(values)
        for key, kind in SECTIONS.items():
            if key in read and not isinstance(read[key], kind):
                if not isinstance(read[key], Mapping):
                    raise BlemishError(f"{key} must be a table of options, not {shown(read[key])}")
                _check_keys(read[key], kind, f"{key}.")
                read[key] = kind(**read[key])
        return cls(**read)

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Reads a TOML file: options at its top, a table for each section, such as `[gaussian]`.

        Relative paths in it count from the file's folder.

        Raises:
            BlemishError: the file cannot be read, is no TOML, or holds what `from_dict` refuses.
        """
        path = one_path(path, "the configuration")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BlemishError(f"{printable(path)}: {read_fault(error)}") from error
        except ValueError as error:
            raise BlemishError(f"{printable(path)} is no TOML file: {error}") from error
        for key in ("weights", "outlier_exposure", "ignore_mask", "groups", "tensorboard"):
            value = values.get(key)
            if isinstance(value, str) and value and (key != "groups" or value.lower().endswith(".csv")):
                values[key] = path.parent / value
        if isinstance(place := values.get("mlflow"), str) and _is_folder(place):
            values["mlflow"] = str(path.parent / place)
        try:
            return cls.from_dict(values)
        except BlemishError as error:
            raise BlemishError(f"{printable(path)}: {error}") from error


SECTIONS: Mapping[str, type[_Section]] = {
    kind.section: kind
    for kind in (
        SplitConfig,
        FeatureConfig,
        GaussianConfig,
        MapConfig,
        AlignmentConfig,
        AugmentationConfig,
        DefectBranchConfig,
        FcddConfig,
        CalibrationConfig,
    )
}


def _size(size: object) -> Size | Literal["auto"]:
    """A network size as it is kept; whether the backbone takes it is for the backbone to say."""
    if isinstance(size, str) and size == "auto":
        return "auto"
    sides = (size, size) if isinstance(size, int) else size
    fits = isinstance(sides, tuple | list) and [isinstance(side, int) for side in sides] == [True] * 2
    if not fits or isinstance(size, bool):
        raise BlemishError(f"the size must be one number or (height, width), such as 256, not {shown(size)}")
    assert isinstance(sides, tuple | list)
    return int(sides[0]), int(sides[1])


def _is_folder(place: str) -> bool:
    """Whether a place of MLflow is a folder: neither a URI nor one of its words for Databricks."""
    return bool(place) and ":" not in place and not place.startswith("databricks")


def _check_keys(values: Mapping[str, Any], owner: Any, prefix: str) -> None:
    known = [each.name for each in fields(owner)]
    if unknown := [key for key in values if key not in known]:
        listed = ", ".join(f"{prefix}{key}" for key in known)
        raise BlemishError(f"there is no option {prefix}{unknown[0]}; there are {listed}")


def _plain(value: Any) -> Any:
    """Paths as text and tuples as lists, through all levels."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
