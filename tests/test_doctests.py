"""The examples in the docstrings of the public names run as they stand, in a folder with a tiny model and images."""

import doctest
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.model.detector import Detector
from blemish.model.scored_image import FailedImage
from helpers.images import noise, save_image, stained

PUBLIC = {name: module for name, module in blemish._HOMES.items() if name != "Scores"}
EXAMPLES = {
    example.name: example
    for name, module in PUBLIC.items()
    for example in doctest.DocTestFinder().find(getattr(import_module(module), name), name, extraglobs={})
    if example.examples
}


@pytest.fixture
def folder(tiny_model: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """screws.onnx, the data set screws/, and the images part.png, which is good, and scratched.png, which is not."""
    shutil.copy(tiny_model, tmp_path / "screws.onnx")
    parts.rename(tmp_path / "screws")
    detector = Detector.load(tiny_model, threads=1)
    good = next(noise(seed) for seed in range(500, 600) if detector.predict(noise(seed)).verdicts == ["ok"])
    save_image(tmp_path / "part.png", good)
    save_image(tmp_path / "scratched.png", stained(1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, folder: Path) -> None:
    example = EXAMPLES[name]
    example.globs |= {public: getattr(blemish, public) for public in PUBLIC}
    example.globs |= {"blemish": blemish, "Path": Path, "np": np, "FailedImage": FailedImage}
    example.globs["detector"] = Detector.load("screws.onnx", threads=1)
    said: list[str] = []
    failures, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert failures == 0, "".join(said)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_has_an_example(name: str) -> None:
    assert any(example == name or example.startswith(f"{name}.") for example in EXAMPLES)
