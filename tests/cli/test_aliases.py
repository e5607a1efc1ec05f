"""Options under their old names."""

import click
import pytest
from click.testing import CliRunner

from blemish.cli.aliases import renamed_option


@click.command()
@click.option("--before", default=1)
@renamed_option("--restart", old="--fresh", is_flag=True, help="Again.")
@renamed_option("--ignore-mask", "ignored", old="--ignore", metavar="MASK", help="A mask.")
@renamed_option("--level", old="--height", type=click.IntRange(1, 9), default=5, help="A level.")
@renamed_option("--part", old="--piece", multiple=True, help="A part.")
def example(before: int, restart: bool, ignored: str | None, level: int, part: tuple[str, ...]) -> None:
    click.echo(f"{before} {restart} {ignored} {level} {part}")


@pytest.mark.parametrize(
    ("arguments", "values", "warned"),
    [
        ([], "1 False None 5 ()", []),
        (["--restart", "--ignore-mask", "a", "--level", "2", "--part", "x"], "1 True a 2 ('x',)", []),
        (["--fresh"], "1 True None 5 ()", [("--fresh", "--restart")]),
        (["--ignore", "a", "--before", "3"], "3 False a 5 ()", [("--ignore", "--ignore-mask")]),
        (["--height", "5"], "1 False None 5 ()", [("--height", "--level")]),
        (["--piece", "x", "--piece", "y"], "1 False None 5 ('x', 'y')", [("--piece", "--part")]),
        (["--fresh", "--height", "9"], "1 True None 9 ()", [("--fresh", "--restart"), ("--height", "--level")]),
    ],
)
def test_an_old_name_does_as_the_new_one_and_says_so_once(
    arguments: list[str], values: str, warned: list[tuple[str, str]]
) -> None:
    result = CliRunner().invoke(example, arguments)
    assert result.exit_code == 0
    assert result.stdout == values + "\n"
    said = [f"warning: {old} is now called {new}; the next release removes the old name" for old, new in warned]
    assert sorted(result.stderr.splitlines()) == sorted(said)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--fresh", "--restart"], "--fresh is the old name of --restart: give --restart alone"),
        (["--height", "2", "--level", "2"], "--height is the old name of --level: give --level alone"),
        (["--height", "12"], "Invalid value for '--height'"),
    ],
)
def test_bad_input_is_refused(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(example, arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_help_names_the_new_ones_alone() -> None:
    text = CliRunner().invoke(example, ["--help"]).stdout
    assert all(new in text for new in ("--restart", "--ignore-mask", "--level", "--part"))
    assert not any(old in text for old in ("--fresh", "--ignore ", "--height", "--piece"))
