"""Arguments under their old names."""

import warnings

import pytest

from blemish.errors import BlemishError
from blemish.process.deprecation import renamed_arguments


@renamed_arguments(fresh="restart", raw="save_maps")
def example(path: str, *, restart: bool = False, save_maps: str | None = None) -> tuple[str, bool, str | None]:
    """What it does."""
    return path, restart, save_maps


def test_new_names_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert example("a", restart=True, save_maps="npy") == ("a", True, "npy")
    assert example.__doc__ == "What it does."


def test_an_old_name_does_as_the_new_one_and_warns_the_caller() -> None:
    with pytest.warns(DeprecationWarning, match="is now called") as caught:
        assert example("a", fresh=True, raw="npy") == ("a", True, "npy")
    assert [str(warning.message) for warning in caught] == [
        "example(fresh=...) is now called example(restart=...); the next release removes the old name",
        "example(raw=...) is now called example(save_maps=...); the next release removes the old name",
    ]
    assert {warning.filename for warning in caught} == {__file__}


def test_both_names_are_refused() -> None:
    with pytest.raises(BlemishError, match="fresh is the old name of restart: give restart alone"):
        example("a", fresh=True, restart=False)
