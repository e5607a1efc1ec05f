"""Recipes: the paper's experiments as data, one TOML file each in the folder `recipes`."""

import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib.resources import files
from typing import Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from blemish.errors import BlemishError
from blemish.experiments.former_names import SETTINGS, present_name
from blemish.experiments.noise import NOISES
from blemish.plugins import SYNTHETIC

MethodName = Literal["fcdd", "hsc", "autoencoder", "gaussian"]
SUPERVISED: tuple[MethodName, ...] = ("fcdd", "hsc")  # the others learn from nominal images alone
METHODS: tuple[MethodName, ...] = get_args(MethodName)
Mode = Literal["paper", "corrected"]
KINDS = ("none", "outliers", "masks")  # of supervision, beside noises and synthetic anomalies by their names

READ_SIZE = 240 / 224  # of images that are cropped at random, over the size of the network's input
# Side in pixels, channels and sigma of the paper's networks, by how their names begin.
_MADE_FOR: dict[str, tuple[int, int, float]] = {
    "cnn28": (28, 1, 1.2),
    "cnn32": (32, 3, 1.2),
    "vark32": (32, 3, 1.2),
    "": (224, 3, 12.0),
}
_FOLDER = files("blemish.experiments") / "recipes"


@dataclass(frozen=True)
class Reading:
    """How the raw images are brought to memory.

    Attributes:
        size: side in pixels they are resized to when read; None leaves them as they are.
        square: whether both sides become `size`, or the short one.
        channels: 1 (grey) or 3 (RGB).
    """

    size: int | None = None
    square: bool = True
    channels: int = 3


@dataclass(frozen=True)
class TrainingSchedule:
    """Optimiser and schedule.

    Attributes:
        optimiser: "sgd" (Nesterov momentum 0.9) or "adam".
        decay: factor on the learning rate after every epoch.
        drops: epochs after which it is divided by ten.
        passes: passes over the nominal images that make an epoch.
    """

    optimiser: Literal["sgd", "adam"]
    learning_rate: float
    weight_decay: float
    batch: int
    epochs: int
    decay: float = 1.0
    drops: tuple[int, ...] = ()
    passes: int = 1

    def __post_init__(self) -> None:
        _check_choices(self)

    def rate(self, epoch: int) -> float:
        """The learning rate in epoch 0, 1, …"""
        return self.learning_rate * self.decay**epoch * 0.1 ** sum(epoch >= drop for drop in self.drops)


@dataclass(frozen=True)
class Augmentation:
    """What a training image goes through before it is normalised, in this order.

    Attributes:
        crop_or_resize: at equal chance a random crop of network size, or the whole image resized to it.
        padding: black pixels on every side before the random crop.
        flip: mirror left and right at equal chance.
        jitter: strengths of brightness, contrast, saturation, hue; one of the rows is taken at equal chance.
        relative_noise: at equal chance, white noise of this share of the image's standard deviation.
        noise: white noise of this standard deviation, the range of pixels being 0..1.
    """

    crop_or_resize: bool = False
    padding: int = 0
    flip: bool = False
    jitter: tuple[tuple[float, float, float, float], ...] = ()
    relative_noise: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Supervision:
    """Where the anomalous half of a batch comes from.

    Attributes:
        kind: "none", "outliers" (foreign images), "masks" (labelled images taken out of the test set), or else the
            anomaly that is added to a nominal image: one of `blemish.experiments.noise.NOISES`, or of
            `blemish.plugins.SYNTHETIC`.
        outliers: the data set of the foreign images.
        limit: how many foreign images, or labelled ones of each defect type; None is all.
        every: all nominal and all foreign images once an epoch, instead of half of the draws replaced.
        changed: the masks of noise hold the changed pixels, instead of the whole image.
    """

    kind: str = "outliers"
    outliers: str | None = None
    limit: int | None = None
    every: bool = False
    changed: bool = False

    def __post_init__(self) -> None:
        known = dict.fromkeys((*KINDS, *NOISES, *SYNTHETIC))
        if self.kind not in known:
            raise BlemishError(f"kind is {self.kind!r}; it must be one of {', '.join(known)}")


class Setting(NamedTuple):
    """One value of an ablation: its place on the axis, its name in paths and tables, and what is set."""

    x: float
    label: str
    value: Any


@dataclass(frozen=True)
class Ablation:
    """A setting that is varied.

    Attributes:
        setting: its path in the recipe, such as "supervision.limit".
        title: what it is, with its unit.
        values: what it is set to.
        places: the values' places on the axis where they are no numbers themselves.
    """

    setting: str
    title: str
    values: tuple[Any, ...]
    places: tuple[float, ...] = ()

    def settings(self) -> list[Setting]:
        """The values with their places and names."""
        pairs = zip(self.places or self.values, self.values, strict=True)
        return [Setting(float(x), f"{self.setting.split('.')[-1]}-{value}", value) for x, value in pairs]

    def chosen(self, names: Sequence[str]) -> list[Setting]:
        """Those of some values, which are named as in the recipe: "vark224-3", "4.0" or "4".

        Raises BlemishError for a value that is not varied, and lists those that are.
        """
        if unknown := set(names) - {name for value in self.values for name in _names(value)}:
            known = ", ".join(_names(value)[0] for value in self.values)
            raise BlemishError(f"the values of {self.setting} are {known}; there is no {min(unknown)!r}")
        return [setting for setting in self.settings() if set(_names(setting.value)) & set(names)]


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes:
        name: the file's name.
        title: a line on what it shows.
        source: the data set, see `blemish.experiments.data.sources`.
        classes: the classes it is for; empty for all of the data set's.
        network: FCDD's network, see `blemish.experiments.networks.fcdd`.
        size: side of the network's input.
        normalisation: "lcn" (local contrast normalisation, then the nominal images' range becomes 0..1), "standard"
            (the nominal images' mean and deviation) or "imagenet".
        sigma: standard deviation in pixels of the upsampling Gaussian.
        pixel_wise: the objective with masks (equation 3) instead of the one with labels (equation 2).
        swap_roles: the class of interest takes the anomalous side, the foreign images the nominal one.
        quantile: share of a picture's heatmap values below the end of the colour scale.
        published: the tables of the paper that hold its figures, see `blemish.experiments.published`.
        seeds: repetitions in the paper.
        vary: for an ablation, the setting that is varied.
    """

    name: str
    title: str
    source: str
    network: str
    size: int
    normalisation: Literal["lcn", "standard", "imagenet"]
    sigma: float
    quantile: float
    training: TrainingSchedule
    classes: tuple[str, ...] = ()
    seeds: int = 5
    pixel_wise: bool = False
    swap_roles: bool = False
    published: str | None = None
    reading: Reading = field(default_factory=Reading)
    augmentation: Augmentation = field(default_factory=Augmentation)
    supervision: Supervision = field(default_factory=Supervision)
    vary: Ablation | None = None

    def __post_init__(self) -> None:
        _check_choices(self)

    @classmethod
    def load(cls, name: str) -> Self:
        """The recipe of a name. Raises BlemishError, which lists the names, where there is none."""
        if name not in names():
            raise BlemishError(f"there is no experiment {name!r}; there are {', '.join(names())}")
        return cls.from_toml((_FOLDER / f"{name}.toml").read_text("utf-8"), name=name)

    @classmethod
    def from_toml(cls, text: str, *, name: str) -> Self:
        """A recipe from its file's text. Raises BlemishError where a setting is unknown, missing or no possible one."""
        try:
            table = tomllib.loads(text)
            if "base" in table:  # an ablation: another recipe, with a few settings of its own
                base = (_FOLDER / f"{table.pop('base')}.toml").read_text("utf-8")
                table = tomllib.loads(base) | {"published": name} | table
            recipe: Self = _record(
                cls, {"name": name} | {present_name(key, SETTINGS): value for key, value in table.items()}
            )
            recipe.variants()
        except (OSError, tomllib.TOMLDecodeError, TypeError, ValueError, BlemishError) as error:
            raise BlemishError(f"the recipe {name} cannot be read: {error}") from error
        return recipe

    def with_network(self, network: str) -> Self:
        """A copy with another network, at the size and channels that this network was made for.

        Images are read a little larger than the network's input, so that random crops differ.
        """
        side, channels, sigma = next(
            (made_for for prefix, made_for in _MADE_FOR.items() if network.startswith(prefix)), _MADE_FOR[""]
        )
        reading = replace(self.reading, size=round(side * READ_SIZE), channels=channels)
        return replace(self, network=network, size=side, sigma=sigma, reading=reading)

    def variants(self, values: Sequence[str] = ()) -> list[tuple[str, Self]]:
        """The recipes of an ablation by name; a recipe that varies nothing is its own only variant.

        Args:
            values: those wanted, see `Ablation.chosen`; empty for all.

        Raises:
            BlemishError: there is no such value, or the recipe varies nothing.
        """
        if self.vary is None:
            if values:
                raise BlemishError(f"{self.name} is no ablation and has no values to choose from; leave out --values")
            return [("", self)]
        settings = self.vary.chosen(values) if values else self.vary.settings()
        return [(setting.label, self.with_setting(self.vary.setting, setting.value)) for setting in settings]

    def with_setting(self, path: str, value: Any) -> Self:
        """A copy in which one setting, such as "supervision.limit", is another.

        Raises BlemishError where there is no such setting, or it cannot be set to this.
        """
        head, _, rest = present_name(path, SETTINGS).partition(".")
        try:
            return replace(self, **{head: replace(getattr(self, head), **{rest: value}) if rest else value})
        except (AttributeError, TypeError) as error:
            raise BlemishError(f"there is no setting {path!r} in the recipe {self.name}") from error


def _names(value: Any) -> tuple[str, ...]:
    """How a value may be written, the shortest first."""
    return (str(value),) if isinstance(value, str) else (f"{value:g}", str(value))


def names() -> list[str]:
    """The names of all recipes."""
    return sorted(entry.name.removesuffix(".toml") for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))


_TABLES = {
    "reading": Reading,
    "training": TrainingSchedule,
    "augmentation": Augmentation,
    "supervision": Supervision,
    "vary": Ablation,
}


def _record(kind: Any, table: Any) -> Any:
    if not isinstance(table, dict):
        raise TypeError(f"{kind.__name__.lower()} is {table!r}; it must be a table")
    if unknown := set(table) - {entry.name for entry in fields(kind)}:
        raise TypeError(f"unknown settings {', '.join(sorted(unknown))}")
    required = {entry.name for entry in fields(kind) if entry.default is entry.default_factory is MISSING}
    if missing := required - set(table):
        raise TypeError(f"missing settings {', '.join(sorted(missing))}")
    return kind(**{key: _value(key, value) for key, value in table.items()})


def _value(key: str, value: Any) -> Any:
    if key in _TABLES:
        return _record(_TABLES[key], value)
    if isinstance(value, list):
        return tuple(_value("", entry) for entry in value)
    return value


def _check_choices(record: Any) -> None:
    """Raises BlemishError where a setting with a few possible values has another."""
    for name, hint in get_type_hints(type(record)).items():
        value = getattr(record, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise BlemishError(f"{name} is {value!r}; it must be one of {', '.join(get_args(hint))}")
