"""`blemish experiment`."""

from pathlib import Path
from typing import Any

import click

from blemish.cli.common import FILE, emit, json_option, open_screen
from blemish.errors import BlemishError


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between them."""

    name = "names"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        """The names, without empty ones."""
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


@click.command("experiment")
@click.argument("name")
@click.option("--data", type=FILE, required=True, metavar="DIR", help="The folder with the data set's files.")
@click.option("-o", "--output", type=FILE, metavar="DIR", help="Where runs and tables go.  [default: the name]")
@click.option(
    "--method",
    "methods",
    type=Names(),
    default="fcdd",
    show_default=True,
    metavar="A,B",
    help="Any of fcdd, hsc, autoencoder, closed-form.",
)
@click.option("--classes", type=Names(), default="", metavar="A,B", help="Nominal classes.  [default: all]")
@click.option("--seeds", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Repetitions.")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    help="Instead of the paper's; the learning rates are compressed with them.",
)
@click.option(
    "--outliers",
    metavar="DIR|NAME",
    help="Outlier exposure: a folder of images, or cifar100, emnist or imagenet below --data.",
)
@click.option("--outliers-limit", type=click.IntRange(1), metavar="N", help="Use N random outliers only.")
@click.option(
    "--every-outlier",
    is_flag=True,
    help="All outliers and all nominal images every epoch, instead of half of the draws replaced.",
)
@click.option(
    "--masks", type=click.IntRange(1), metavar="N", help="Masks of each defect type to learn from, in mvtec-semi."
)
@click.option("--network", metavar="NAME", help="Instead of the paper's.")
@click.option("--weights", type=FILE, metavar="FILE", help="torchvision's weights of vgg11_bn.")
@click.option("--download", is_flag=True, help="Let torchvision fetch them.")
@click.option(
    "--mode",
    type=click.Choice(["paper", "sound"]),
    default="paper",
    show_default=True,
    help="As the paper's code computes, or with its questionable choices mended.",
)
@click.option(
    "--precision",
    type=click.Choice(["32-true", "bf16-mixed"]),
    default="32-true",
    show_default=True,
    help="Arithmetic of the training.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to train.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Processes that prepare images.",
)
@json_option
def command(name: str, as_json: bool, **options: Any) -> None:
    """Rerun the experiment NAME of the FCDD paper, and set its figures beside the paper's.

    Finished runs are kept and not made again: an interrupted experiment goes on with the same command. NAME is one
    of cifar10, fashion-mnist, imagenet30, mvtec, mvtec-semi, pascal-voc, their ablations, or planted-cue.

    \b
    Example:
      blemish experiment fashion-mnist --data fashion/ --outliers cifar100 --classes trouser --seeds 3
    """
    from blemish.experiments.recipe import Recipe

    recipe = _adapted(Recipe.load(name), options)
    # Torch takes seconds to import: after the quick checks.
    from blemish.experiments.runner import Plan, check_methods, run_experiment
    from blemish.experiments.trial import Settings

    check_methods(options["methods"])
    chosen = ("mode", "epochs", "device", "precision", "weights", "download", "workers")
    plan = Plan(
        recipe=recipe,
        methods=options["methods"],
        classes=options["classes"],
        seeds=options["seeds"],
        data=options["data"],
        outliers=options["outliers"],
        output=options["output"] or Path(name),
        settings=Settings(**{key: options[key] for key in chosen}),
    )
    with open_screen() as screen:
        written, text = run_experiment(plan, progress=screen.progress, notify=screen.notify)
    emit(written, text, as_json=as_json)


def _adapted(recipe: Any, options: dict[str, Any]) -> Any:
    """The recipe with what the command line says instead."""
    if options["network"]:
        recipe = recipe.with_setting("network", options["network"])
    if options["every_outlier"]:
        recipe = recipe.with_setting("supervision.every", True)
    limit = options["outliers_limit"]
    if options["masks"]:
        if recipe.supervision.kind != "masks":
            raise BlemishError(f"{recipe.name} learns from no masks; use mvtec-semi for --masks")
        limit = options["masks"]
    return recipe.with_setting("supervision.limit", limit) if limit else recipe
