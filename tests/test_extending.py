"""The package of docs/extending.md, installed and used as it stands there: every registry from outside Blemish."""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from blemish.model.detector import Detector
from blemish.plugins import EXTRACTORS, FIGURES, METHODS, SYNTHETIC
from blemish.synthetic.registry import synthetic_anomaly
from helpers.images import noise, save_image, stained

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text(encoding="utf-8")
LONGEST = 45  # lines of an example


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def as_package(folder: Path) -> None:
    """Writes the page's modules and what an installer would write of its entry points."""
    package, installed = folder / "my_package", folder / "my_package-1.0.dist-info"
    package.mkdir()
    installed.mkdir()
    (package / "__init__.py").touch()
    for code in blocks("python"):
        name = re.match(r"# my_package/(\w+\.py)\n", code)
        assert name, "an example says first in which file it is"
        (package / name[1]).write_text(code, encoding="utf-8")
    groups = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in names.items()) for group, names in groups.items()]
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("\n\n".join(lines) + "\n")


@pytest.fixture
def my_package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("site")
    as_package(folder)
    monkeypatch.syspath_prepend(folder)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """24 good training images, 4 of them and 3 stained ones to test."""
    for i in range(24):
        save_image(tmp_path / f"parts/train/good/{i}.png", noise(i))
    for i in range(4):
        save_image(tmp_path / f"parts/test/good/{i}.png", noise(100 + i))
    for i in range(3):
        save_image(tmp_path / f"parts/test/stain/{i}.png", stained(200 + i))
    return tmp_path / "parts"


def test_examples_are_short() -> None:
    assert len(blocks("python")) == 4
    assert max(len(code.splitlines()) for code in blocks("python")) <= LONGEST


def test_every_registry_finds_what_another_package_adds(my_package: None) -> None:
    added = {"diagonal": METHODS, "colours": EXTRACTORS, "stripe": SYNTHETIC, "certain_rate": FIGURES}
    assert [name for name, registry in added.items() if name not in registry] == []
    assert METHODS.load("diagonal").__module__ == "my_package.diagonal"
    assert next(iter(METHODS)) == "gaussian"  # the built-in ones come first


def test_a_synthetic_anomaly_of_another_package_changes_what_its_mask_marks(my_package: None) -> None:
    image = noise(0)
    made = synthetic_anomaly("stripe")(image, np.random.default_rng(0))
    assert made.mask.any()
    assert (made.image[~made.mask] == image[~made.mask]).all()


def test_another_packages_method_backbone_anomaly_and_figure_work_by_name(
    my_package: None, images: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "parts.onnx"
    options = ["--method", "diagonal", "--backbone", "colours", "--synthetic", "stripe", "--size", 64, "--epochs", 1]
    trained = run("train", images, "-o", model, *options, "--json")
    assert trained.status == 0, trained.err

    evaluated = run("evaluate", model, images, "--json").json
    assert evaluated["image_auroc"] == 1.0
    assert evaluated["certain_rate"] is not None
    assert "certain" in run("evaluate", model, images).out
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "my_package").exists()])
    scores = Detector.load(model).score_samples(noise(300))  # the file needs no package of others
    assert scores.shape == (1,)
