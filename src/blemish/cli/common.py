"""What the verbs share: options, progress and messages on stderr, the result on stdout."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from blemish.cli.aliases import renamed_option
from blemish.imaging.outputs import Kind, check_overwriting
from blemish.io.files import atomic_write
from blemish.io.text import as_text, one_line, printable
from blemish.process import threads

if TYPE_CHECKING:
    from blemish.datasets.layouts import DataSet
    from blemish.model.detector import Detector

FILE = click.Path(path_type=Path)  # whoever opens it says in our own words whether it fits

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
seed_option = click.option(
    "--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Seed of every random choice."
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    expose_value=False,
    is_eager=True,  # before anything is read
    callback=lambda context, parameter, value: threads.limit(value),
    help="Processor threads to use (default: all cores).",
)


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between them."""

    name = "names"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        """The names, each once, without empty ones."""
        return tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))


@dataclass(frozen=True)
class DataChoice:
    """The images that a command line names: a folder, and how to read it or which folders of it to take.

    Attributes:
        root: the folder; None where folders were named by hand alone.
        nominal_class: the good class of a folder with one folder a class.
        good, bad, masks: folders named by hand.
    """

    root: Path | None
    nominal_class: str | None = None
    good: tuple[Path, ...] = ()
    bad: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()

    def options(self) -> dict[str, Any]:
        """All but the folder, as `read_data_set` and `train` take it."""
        return {"nominal_class": self.nominal_class, "good": self.good, "bad": self.bad, "masks": self.masks}

    def require_data(self, needed: str) -> None:
        """Raises click.UsageError where nothing is chosen, `needed` being what was left out."""
        if self.root is None and not (self.good or self.bad or self.masks):
            raise click.UsageError(
                f"Missing {needed}: give a folder, or name some with --good DIR and --bad DIR",
                click.get_current_context(),
            )

    def inputs(self) -> list[Path | None]:
        """All folders that are read."""
        return [self.root, *self.good, *self.bad, *self.masks]

    def read(self, notify: Callable[[str], None] | None = None) -> "DataSet":
        """The data set; `notify` is called with a sentence for everything in it that was left out."""
        from blemish.datasets.layouts import read_data_set

        data = read_data_set(self.root, **self.options())
        if notify is not None:
            for warning in data.warnings:
                notify(f"warning: {warning.message}")
        return data


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """The argument DATA and the options on how it is read, which the command gets as one `DataChoice`."""
    options = [
        click.argument("data", type=FILE, required=False, metavar="DATA"),
        click.option("--nominal-class", metavar="NAME", help="The good class, if each class has a folder of its own."),
        *_named_folders,
    ]
    return _with_choice(command, options, needed="argument 'DATA'")


def named_data_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same with an option --data, for a model that knows its nominal class; it may be left out."""
    data = click.option("--data", type=FILE, metavar="DATA", help="The folder that MODEL was trained on.")
    return _with_choice(command, [data, *_named_folders], needed=None)


def _with_choice(
    command: Callable[..., None], options: Sequence[Callable[[Any], Any]], *, needed: str | None
) -> Callable[..., None]:
    names = {field.name for field in fields(DataChoice)} - {"root"}

    @wraps(command)
    def choose(**given: Any) -> None:
        chosen = DataChoice(given.pop("data"), **{name: given.pop(name) for name in names & given.keys()})
        if needed is not None:
            chosen.require_data(needed)
        command(data=chosen, **given)

    for option in reversed(options):
        choose = option(choose)
    return choose


def _folders_option(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", type=FILE, multiple=True, metavar="DIR", help=f"{text} Repeatable.")


_named_folders = (
    _folders_option("good", "A folder of good images, if no layout fits; below DATA or anywhere."),
    _folders_option("bad", "A folder of defective images: one type, or a folder for each."),
    _folders_option("masks", "A folder of masks of the defective images."),
)


def false_alarm_rate_option(*, default: float | None, note: str) -> Callable[[Any], Any]:
    """The option --false-alarm-rate, a share between 0 and 1."""
    return click.option(
        "--false-alarm-rate",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="RATE",
        default=default,
        help=f"Share of good images that may be called anomalous ({note}).",
    )


device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to train.",
)
ignore_mask_option = renamed_option(
    "--ignore-mask",
    old="--ignore",
    type=FILE,
    metavar="MASK|DIR",
    help="What is ignored: a mask for all images, white there, or a folder with a mask for each.",
)
faithfulness_option = click.option(
    "--faithfulness",
    type=click.IntRange(1),
    metavar="N",
    help="Also measure on N defective images whether heatmaps show what the score depends on (seconds an image).",
)
model_rate_option = false_alarm_rate_option(default=None, note="default: the model's own")


class Screen:
    """Progress bars, where stderr is a terminal, and messages, on stderr always."""

    def __init__(self, bars: Progress) -> None:
        """Draws on bars that somebody else starts and stops."""
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def progress(self, stage: str, done: int, total: int) -> None:
        """Moves the bar of a stage, which appears with its first step."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def keep_only(self, stage: str) -> None:
        """Takes the bars of all other stages away: what follows begins anew."""
        for other in [name for name in self._tasks if name != stage]:
            self._bars.remove_task(self._tasks.pop(other))

    def notify(self, sentence: str) -> None:
        """Prints a line above the bars."""
        self._bars.console.print(Text(one_line(sentence)), soft_wrap=True)


def cautions(detector: "Detector") -> list[str]:
    """What a user of this detector should know before its figures are read."""
    record = detector.metadata.ignored
    if record is None or record["everywhere"] or detector.ignore_mask is not None:
        return []
    return [
        f"the model was trained with a mask for each image ({printable(record['mask'])}): "
        "give --ignore-mask DIR here too"
    ]


class _RehearsalError(Exception):
    """Ends a write that was only tried."""


@contextmanager
def open_screen() -> Iterator[Screen]:
    """A screen whose bars go when the work is done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Screen(bars)


def emit(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Prints a verb's result on stdout: one JSON object, or the text."""
    # ASCII, so that any terminal and any file name will do; NaN would be no JSON.
    click.echo(json.dumps(as_text(result), allow_nan=False, indent=2) if as_json else text)


def check_writable(path: Path, *inputs: Path | None, kind: Kind) -> None:
    """Raises BlemishError where `path` cannot be written, is one of the inputs, or has a name of another kind.

    That is to be known before minutes of work, not after.
    """
    check_overwriting(path, inputs, kind=kind)
    with suppress(_RehearsalError), atomic_write(path):
        raise _RehearsalError  # and so the file leaves no trace


def in_megabytes(path: Path) -> str:
    """The file's size, such as "35 MB"."""
    size = os.path.getsize(path) / 1e6
    return f"{size:.0f} MB" if size >= 10 else f"{size:.1f} MB"


def duration(seconds: float) -> str:
    """Such as "0.4 s", "41 s" or "3 min 20 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
