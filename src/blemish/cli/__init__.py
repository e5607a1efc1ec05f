"""The command line: one small module a verb, imported when it is called."""

import io
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from blemish import __version__
from blemish.errors import BlemishError
from blemish.io.text import one_line
from blemish.process import threads
from blemish.process.privacy import remove_compiler_folder

# The words are here and not in the modules, so that `blemish --help` imports none of them.
VERBS = {
    "doctor": "Check a folder: what it holds, what is wrong with it, how it would be used.",
    "train": "Train on a folder of images and write one model file.",
    "evaluate": "Measure a model on the test images of a folder.",
    "predict": "Score images: a table, heatmaps and regions.",
    "report": "Evaluate a model and write one page to look at.",
    "compare": "Train several methods on a folder, and show on one page where they differ.",
    "audit": "Find out what a model looks at, and flag spurious cues.",
    "serve": "Score images over HTTP, with a page to drop them on.",
    "info": "Print the model card of a model file, as text or as a page.",
    "export": "Write a model for another runtime or precision, and measure it.",
    "experiment": "Rerun an experiment of the FCDD paper and compare the figures.",
    "demo": "Build a small inspection set, train on it and write the report.",
}
FAULT, INTERRUPTED = 2, 130
_NO_TEMPORARY_FOLDER = ("No usable temporary directory", "Matplotlib requires access to a writable cache directory")


class Verbs(click.Group):
    """A group that knows its commands by name and imports a command's module when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The verbs in the order of a first day's work."""
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The verb's command, or None."""
        if name not in VERBS:
            return None
        command: click.Command = import_module(f"blemish.cli.{name}").command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the verbs from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="blemish")
@click.pass_context
def cli(context: click.Context) -> None:
    """Find what is wrong in an image, and show where.

    \b
    Example:
      blemish train screws/ -o screws.onnx
      blemish predict screws.onnx line3/ -o out/
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status: 0, 2 for a user's mistake, 130 when interrupted."""
    threads.sleep_while_waiting()
    threads.limit(None)
    for stream in (sys.stdout, sys.stderr):
        # A name or a sign that the terminal's encoding lacks is escaped; it ends no run.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        status = cli.main(arguments, prog_name="blemish", standalone_mode=False)
    except BlemishError as error:
        return _complain(str(error))
    except click.ClickException as error:
        return _complain(_usage(error))
    except OSError as error:
        # Raised wherever a package asks for a temporary folder: torch and Matplotlib do when they are imported.
        if not (error.strerror or str(error)).startswith(_NO_TEMPORARY_FOLDER):
            raise
        return _complain("there is no folder for temporary files: set TMPDIR to one that can be written")
    except (KeyboardInterrupt, click.Abort):
        click.echo("blemish: interrupted", err=True)
        return INTERRUPTED
    finally:
        remove_compiler_folder()
    return status if isinstance(status, int) else 0


def _usage(error: click.ClickException) -> str:
    """Click's words as one sentence that says where to look."""
    text = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{text}; see {error.ctx.command_path} --help"
    return text


def _complain(sentence: str) -> int:
    click.echo(f"blemish: {one_line(sentence)}", err=True)
    return FAULT
