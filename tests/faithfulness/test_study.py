"""The study of heatmaps: its table, its figures and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.faithfulness.study import study
from blemish.model.detector import Detector
from helpers.images import SIDE, noise, save_image, stained


def test_figures_are_those_of_the_maps(parts: Path, tiny_model: Path, run: Callable) -> None:
    pytest.importorskip("captum")
    pytest.importorskip("onnx2torch")
    result = run("evaluate", tiny_model, parts, "--faithfulness", 5, "--json").json["faithfulness"]
    assert (result["images"], result["masks"], result["filled_from"]) == (2, 2, 7)
    assert list(result["methods"]) == ["blemish", "gradient", "integrated gradients", "occlusion"]
    images = np.stack([stained(400), stained(401)])
    maps, masks = Detector.load(tiny_model).forward(images)[0], (images == 0).all(3)
    ours = result["methods"]["blemish"]
    assert ours["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert ours["pointing"] == np.mean([mask.ravel()[one.argmax()] for one, mask in zip(maps, masks, strict=True)])
    good = Detector.load(tiny_model).forward(np.stack([noise(300 + number) for number in range(3)]))[0]
    excess = np.maximum(maps.astype(float) - np.quantile(good, 0.95), 0)
    literal = np.mean([one[mask].sum() / one.sum() for one, mask in zip(excess, masks, strict=True)])
    assert ours["mass_inside"] == pytest.approx(literal, rel=1e-4)


@pytest.mark.slow
def test_figures_are_the_same_again(parts: Path, tiny_model: Path, run: Callable) -> None:
    pytest.importorskip("captum")
    pytest.importorskip("onnx2torch")
    first, again = (run("evaluate", tiny_model, parts, "--faithfulness", 1, "--json").json for _ in range(2))
    for name, one in first["faithfulness"]["methods"].items():
        assert one | {"milliseconds": 0} == again["faithfulness"]["methods"][name] | {"milliseconds": 0}


def test_evaluate_prints_the_table(parts: Path, tiny_model: Path, run: Callable) -> None:
    pytest.importorskip("captum")
    pytest.importorskip("onnx2torch")
    text = run("evaluate", tiny_model, parts, "--faithfulness", 1).out
    assert "this model's" in text
    assert "on 1 defective image (1 mask)" in text


def test_what_cannot_be_studied_is_refused(parts: Path, tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    detector, data = Detector.load(tiny_model), read_data_set(parts)
    good = type(data)(data.root, data.layout, data.train, tuple(one for one in data.test if not one.anomalous))
    with pytest.raises(BlemishError, match="there is none"):
        study(tiny_model, detector, good, images=3)
    save_image(tmp_path / "mask.png", np.eye(SIDE, dtype=np.uint8) * 255)
    with pytest.raises(BlemishError, match=r"leave out ignore_mask \(--ignore-mask\)"):
        study(tiny_model, Detector.load(tiny_model, ignore_mask=tmp_path / "mask.png"), data, images=3)


@pytest.mark.slow
def test_the_report_has_the_table(parts: Path, tiny_model: Path, tmp_path: Path, run: Callable) -> None:
    pytest.importorskip("captum")
    pytest.importorskip("onnx2torch")
    plain = run("report", tiny_model, parts, "-o", tmp_path / "plain.html")
    assert plain.status == 0
    assert "what the score depends on" not in (tmp_path / "plain.html").read_text()
    assert run("report", tiny_model, parts, "-o", tmp_path / "page.html", "--faithfulness", 1).status == 0
    page = (tmp_path / "page.html").read_text()
    assert "what the score depends on" in page
    assert "integrated gradients" in page
