"""`blemish experiment`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blemish.cli.aliases import renamed_option
from blemish.cli.common import FILE, Names, device_option, emit, json_option, open_screen, threads_option
from blemish.errors import BlemishError
from blemish.experiments.former_names import METHODS as FORMER_METHODS
from blemish.experiments.former_names import MODES as FORMER_MODES
from blemish.imaging.outputs import check_folder_name
from blemish.process.deprecation import renamed

if TYPE_CHECKING:
    from blemish.experiments.recipe import Recipe

# What a recipe must learn from for an option to mean something.
NEEDED_KINDS = {
    "outliers": "outliers",
    "outliers_limit": "outliers",
    "full_outlier_epochs": "outliers",
    "masks": "masks",
}


class Methods(Names):
    """Names of methods; those of the release before are replaced."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        """The present names."""
        names = super().convert(value, parameter, context)
        for name in FORMER_METHODS.keys() & set(names):
            _notify_of_new_name(f"--method {name}", f"--method {FORMER_METHODS[name]}")
        return tuple(dict.fromkeys(FORMER_METHODS.get(name, name) for name in names))


class ModeChoice(click.Choice[str]):
    """A mode; that of the release before is replaced."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        """The present name."""
        if value in FORMER_MODES:
            _notify_of_new_name(f"--mode {value}", f"--mode {FORMER_MODES[value]}")
        return super().convert(FORMER_MODES.get(value, value), parameter, context)


def _notify_of_new_name(former: str, present: str) -> None:
    click.echo(f"warning: {renamed(former, present)}", err=True)


@click.command("experiment")
@click.argument("name")
@click.option("--data", type=FILE, required=True, metavar="DIR", help="The folder with the data set's files.")
@click.option("-o", "--output", type=FILE, metavar="DIR", help="Where runs and tables go.  [default: the name]")
@click.option(
    "--method",
    "methods",
    type=Methods(),
    default="fcdd",
    show_default=True,
    metavar="A,B",
    help="Any of fcdd, hsc, autoencoder, gaussian.",
)
@click.option("--classes", type=Names(), default="", metavar="A,B", help="Nominal classes.  [default: all]")
@click.option("--seeds", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Repetitions.")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    help="Number of epochs instead of the paper's; the learning-rate schedule is compressed.",
)
@click.option(
    "--outliers",
    metavar="DIR|NAME",
    help="Outlier exposure: a folder of images, or cifar100, emnist or imagenet below --data.",
)
@click.option("--outliers-limit", type=click.IntRange(1), metavar="N", help="Use N random outliers only.")
@renamed_option(
    "--full-outlier-epochs",
    old="--every-outlier",
    is_flag=True,
    help="All outliers and all nominal images every epoch, instead of half of the draws replaced.",
)
@click.option(
    "--masks",
    type=click.IntRange(1),
    metavar="N",
    help="Masks of each defect type to learn from, in mvtec-semi and custom.",
)
@click.option("--values", type=Names(), default="", metavar="A,B", help="Of an ablation, these values.  [default: all]")
@click.option(
    "--models",
    is_flag=True,
    help="Write the model.onnx of each run for predict, evaluate and the other verbs; a fifth of the nominal images "
    "calibrates it and is not trained on.",
)
@click.option("--network", metavar="NAME", help="Network instead of the paper's.")
@click.option("--weights", type=FILE, metavar="FILE", help="torchvision's weights of vgg11_bn.")
@click.option("--download", is_flag=True, help="Let torchvision download them.")
@click.option(
    "--mode",
    type=ModeChoice(["paper", "corrected"]),
    default="paper",
    show_default=True,
    help="As the paper's code computes, or with its questionable choices corrected.",
)
@click.option(
    "--precision",
    type=click.Choice(["32-true", "bf16-mixed"]),
    default="32-true",
    show_default=True,
    help="Arithmetic of the training.",
)
@device_option
@click.option(
    "--workers",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Processes that prepare images.",
)
@threads_option
@json_option
def command(name: str, as_json: bool, **options: Any) -> None:
    """Rerun the experiment NAME of the FCDD paper, and compare its figures with the paper's.

    Finished runs are kept: the same command continues an interrupted experiment. NAME is one
    of cifar10, fashion-mnist, imagenet30, mvtec, mvtec-semi, pascal-voc, their ablations, planted-cue, or
    custom for any folder: good images and defects, or train/CLASS and test/CLASS. It learns from confetti, from
    --outliers, or from --masks.

    \b
    Example:
      blemish experiment fashion-mnist --data fashion/ --outliers cifar100 --classes trouser --seeds 3
      blemish experiment custom --data parts/ --method fcdd,hsc,autoencoder,gaussian
    """
    from blemish.experiments.recipe import Recipe

    recipe = _adapted(_with_own_supervision(Recipe.load(name), options), options)
    if options["output"] is not None:
        check_folder_name(options["output"])
    try:  # after the quick checks: torch takes seconds to import
        from blemish.experiments.planted import run_planted
        from blemish.experiments.runner import Plan, run_experiment
        from blemish.experiments.trial import Settings
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("blemish"):
            raise
        raise BlemishError(
            f'experiments need more packages, {error.name} for one: pip install "blemish[train]"'
        ) from error
    chosen = ("mode", "epochs", "device", "precision", "weights", "download", "workers")
    plan = Plan(
        recipe=recipe,
        methods=options["methods"],
        classes=options["classes"],
        seeds=options["seeds"],
        data=options["data"],
        outliers=options["outliers"],
        output=options["output"] or Path(name),
        values=options["values"],
        settings=Settings(**{key: options[key] for key in chosen}),
        models=options["models"],
    )
    with open_screen() as screen:
        if recipe.source == "planted-cue":
            written, text = run_planted(plan, progress=screen.progress, notify=screen.notify)
        else:
            written, text = run_experiment(plan, progress=screen.progress, notify=screen.notify, measured=screen.notify)
    emit(written, text, as_json=as_json)


def _with_own_supervision(recipe: "Recipe", options: dict[str, Any]) -> "Recipe":
    """The recipe for a folder of one's own with what the options give to learn from; any other recipe as it is."""
    if recipe.source != "custom":
        return recipe
    if options["outliers"] and options["masks"]:
        raise BlemishError("--outliers and --masks are two ways to learn from anomalies; give one of them")
    for option in ("outliers", "masks"):
        if options[option]:
            recipe = recipe.with_setting("supervision.kind", option)
    return recipe.with_network(options["network"]) if options["network"] else recipe


def _adapted(recipe: "Recipe", options: dict[str, Any]) -> "Recipe":
    """The recipe with what the command line says instead. Raises BlemishError for what would have no effect."""
    for option, kind in NEEDED_KINDS.items():
        if options[option] and recipe.supervision.kind != kind:
            raise BlemishError(f"{recipe.name} learns from no {kind}; leave out --{option.replace('_', '-')}")
    given = {
        "network": options["network"],
        "supervision.every": options["full_outlier_epochs"],
        "supervision.limit": options["masks"] or options["outliers_limit"],
    }
    for setting, value in given.items():
        if value and recipe.vary is not None and recipe.vary.setting == setting:
            raise BlemishError(f"{recipe.name} varies {setting} itself; leave out the option that sets it")
        recipe = recipe.with_setting(setting, value) if value else recipe
    recipe.variants(options["values"])  # which refuses those that it does not have
    return recipe
