"""`import blemish`: its public names, that they stay what they are, and that they cost nothing until they are used."""

import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import blemish
from helpers.light import ABSENT, loaded_after

NAMES = [name for name in blemish.__all__ if name != "__version__"]
LAZY = [name for name in NAMES if name != "BlemishError"]
PACKAGES = {module.name for module in pkgutil.iter_modules([str(Path(blemish.__file__).parent)])}


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def test_no_public_name_is_that_of_a_package() -> None:
    """Importing blemish.x sets the attribute x of blemish, which would take a function's place."""
    assert not PACKAGES & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(blemish, name)
    assert callable(value)
    assert inspect.getdoc(value)


@pytest.mark.parametrize("first", [pytest.param("the name", marks=pytest.mark.slow), "the packages"])
def test_names_stay_what_they_are_whatever_is_imported(first: str) -> None:
    """In a fresh process: all names and then all packages with all their modules, and the reverse."""
    names = f"from blemish import {', '.join(LAZY)}"
    modules = (
        "import blemish, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(blemish.__path__, 'blemish.'):\n"
        "    if module.name not in ('blemish.__main__',):\n"
        "        importlib.import_module(module.name)"
    )
    order = [names, modules] if first == "the name" else [modules, names]
    check = (
        f"import blemish, types\n"
        f"bad = [name for name in {LAZY} if getattr(blemish, name) is not globals()[name]\n"
        f"       or isinstance(getattr(blemish, name), types.ModuleType)]\n"
        f"print(bad)"
    )
    assert printed("\n".join([*order, check])) == "[]"


@pytest.mark.parametrize("name", ["evaluate", "predict", "read_data_set", "write_report", "TrainConfig", "Predictions"])
def test_names_of_the_runtime_need_no_torch(name: str) -> None:
    assert not {"torch", "timm", "onnx"} & loaded_after(f"from blemish import {name}")


def test_names_are_listed_without_being_imported() -> None:
    loaded = loaded_after("import blemish; assert set(blemish.__all__) <= set(dir(blemish))")
    assert not {"numpy", "torch", "onnxruntime"} & loaded


@pytest.mark.parametrize(("name", "extra"), [("train", "train"), ("export", "export")])
def test_a_name_whose_packages_are_absent_says_what_to_install(name: str, extra: str) -> None:
    use = f"import blemish\ntry:\n    blemish.{name}\nexcept blemish.BlemishError as error:\n    print(error)"
    assert f'pip install "blemish[{extra}]"' in printed(f"{ABSENT}\n{use}")


def test_the_version_is_written_once() -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert 'path = "src/blemish/__init__.py"' in project
    assert 'dynamic = ["version"]' in project
    assert blemish.__version__.count(".") == 2
