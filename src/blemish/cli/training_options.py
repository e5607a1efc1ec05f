"""The options of a training that `blemish train` and `blemish compare` share, and the configuration that they make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from blemish.cli.aliases import renamed_option
from blemish.cli.common import FILE, device_option, false_alarm_rate_option, ignore_mask_option
from blemish.plugins import SYNTHETIC
from blemish.training.config import TrainConfig

DEFAULTS = TrainConfig()


class NetworkSize(click.ParamType["tuple[int, int] | Literal['auto']"]):
    """N or HxW as (height, width), or "auto"; whether a network can have it is for training to say."""

    name = "size"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int] | Literal["auto"]:
        """Both sides in pixels."""
        if str(value).lower() == "auto":
            return "auto"
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() for side in sides):
            self.fail(f"{value} is no size: give auto, N or HxW, such as 256 or 256x384", parameter, context)
        return int(sides[0]), int(sides[-1])


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--config",
        "config_file",
        type=FILE,
        metavar="FILE.toml",
        help="Options and constants by the names of blemish.TrainConfig; options given here take precedence.",
    ),
    click.option(
        "--size",
        type=NetworkSize(),
        metavar="auto|N|HxW",
        default=DEFAULTS.size,
        show_default=True,
        help="Network size in pixels, multiples of 32, or of a transformer's patch; auto: the shape of the good "
        "images, about 256 x 256 pixels.",
    ),
    false_alarm_rate_option(default=DEFAULTS.false_alarm_rate, note=f"default: {DEFAULTS.false_alarm_rate}"),
    click.option(
        "--memory",
        type=click.IntRange(1),
        metavar="N",
        default=DEFAULTS.memory,
        show_default=True,
        help="Largest number of vectors in the memory bank of patchcore.",
    ),
    click.option(
        "--backbone",
        metavar="NAME",
        default=DEFAULTS.backbone,
        show_default=True,
        help="A timm model, or a network of the FCDD paper.",
    ),
    click.option("--weights", type=FILE, help="A local file with the backbone's weights."),
    click.option("--download", is_flag=True, help="Let timm fetch the backbone's weights."),
    renamed_option(
        "--outlier-exposure",
        old="--outliers",
        type=FILE,
        metavar="DIR",
        help="A folder of unrelated images to learn from as anomalies.",
    ),
    click.option(
        "--synthetic",
        metavar="NAME",
        default=DEFAULTS.synthetic,
        show_default=True,
        help=f"Learn from copies of good images with a synthetic anomaly: {', '.join(SYNTHETIC)}. None of them made "
        "the default method better where it was measured (docs/research.md, Tried and lost); fcdd and hsc take "
        "confetti where there are no other anomalies.",
    ),
    ignore_mask_option,
    click.option(
        "--bits",
        type=click.IntRange(8, 16),
        metavar="N",
        help="Bits of the values in 16-bit images, 8 to 16 (default: by the largest value of all training images).",
    ),
    click.option(
        "--cross-conformal",
        type=click.IntRange(2),
        metavar="K",
        help="Let all good images train and calibrate, in K folds: for small sets, with a weaker guarantee.",
    ),
    click.option(
        "--groups",
        metavar="PATTERN|FILE.csv",
        help="Which good images show the same part and are held out together: a regular expression on paths below "
        "DATA, whose first group names the part, or a table of columns path and group.",
    ),
    click.option(
        "--align/--no-align",
        default=DEFAULTS.align,
        help="Turn parts upright if they lie in any direction on a plain background (default: on).",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(1),
        metavar="N",
        default=DEFAULTS.epochs,
        show_default=True,
        help="Passes over known anomalies: labelled defects, outliers and synthetic ones; of fcdd and hsc, parts of "
        "the training, 1,600 images each.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "32-true", "bf16-mixed"]),
        default=DEFAULTS.precision,
        show_default=True,
        help="Arithmetic of the training; auto: bf16-mixed on a CUDA device.",
    ),
    device_option,
)


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that are sensible for every method; `configured` makes a `TrainConfig` of their values.

    The file comes as `config_file`, everything else by the names of the fields of `TrainConfig`.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def configured(file: Path | None, options: dict[str, Any]) -> TrainConfig:
    """The configuration of the file, or the defaults, with the options that the command line gives in their place."""
    context = click.get_current_context()
    given = {
        name: value
        for name, value in options.items()
        # By an option's old name the value comes without a source.
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT or value != getattr(DEFAULTS, name)
    }
    return (DEFAULTS if file is None else TrainConfig.from_toml(file)).with_options(**given)
