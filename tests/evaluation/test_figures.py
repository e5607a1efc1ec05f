"""The table of figures: what is built in is consistent, and a figure of another package is shown everywhere."""

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blemish.datasets.layouts import Sample
from blemish.errors import BlemishError
from blemish.evaluation import figures
from blemish.evaluation.figures import Figure, all_figures, figures_in, measure, text_lines
from blemish.evaluation.results import EvaluatedImage, ScoredSplit
from blemish.model.scored_image import ScoredImage

MODULE = """
from blemish.evaluation.confidence import exact_interval
from blemish.evaluation.figures import Figure
from blemish.io.text import percent

def certain(split):
    return float((split.scores > 1e9).mean())

CERTAIN = Figure(
    name="certain_rate",
    label="certain",
    compute=certain,
    format=percent,
    interval=lambda resamples: exact_interval(resamples.split.scores > 1e9),
    places=frozenset({"text", "page", "card", "defects"}),
    sentence="{} of the images",
    note=lambda evaluation: f"of {len(evaluation.images)} images",
)
NO_FIGURE = 3
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a package with a figure, whose entry point is the line that is given."""

    def install(entry: str) -> None:
        place = tmp_path / "site"
        info = place / "certain-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: certain\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[blemish.figures]\n{entry}\n")
        (place / "certain_figure.py").write_text(MODULE)
        monkeypatch.syspath_prepend(place)
        monkeypatch.delitem(sys.modules, "certain_figure", raising=False)
        importlib.invalidate_caches()

    return install


def words_of(page: Path) -> str:
    text = re.sub(r"<style>.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_a_figure_of_another_package_is_shown_everywhere(
    installed: Callable, tiny_model: Path, parts: Path, tmp_path: Path, run: Callable
) -> None:
    installed("certain_rate = certain_figure:CERTAIN")
    model = tmp_path / "m.onnx"
    model.write_bytes(tiny_model.read_bytes())
    result = run("evaluate", model, parts, "--json", "--save").json
    assert result["certain_rate"] == 0
    assert result["per_defect"]["stain"]["certain_rate"] == 0
    low, high = result["intervals"]["certain_rate"]
    assert (low, high) == (0, pytest.approx(1 - 0.025 ** (1 / 5)))  # of no image in five

    text = run("evaluate", model, parts).out
    assert "\n  certain      0 % of the images\n" in text
    assert "  pixel AUROC  certain\n" in text

    run("report", model, parts, "-o", tmp_path / "report.html")
    assert "certain 0 % of 5 images" in words_of(tmp_path / "report.html")
    assert "pixel AUROC certain" in words_of(tmp_path / "report.html")

    assert "  certain              0 %  0 % to 52.2 %\n" in run("info", model, "-o", tmp_path / "card.html").out
    assert "certain 0 % 0 % to 52.2 %" in words_of(tmp_path / "card.html")


def test_a_card_without_the_figure_leaves_it_out(
    installed: Callable, tiny_model: Path, parts: Path, tmp_path: Path, run: Callable
) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(tiny_model.read_bytes())
    run("evaluate", model, parts, "--save")
    installed("certain_rate = certain_figure:CERTAIN")
    outcome = run("info", model, "-o", tmp_path / "card.html")
    assert outcome.status == 0
    assert "certain " not in outcome.out


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("other_name = certain_figure:CERTAIN", "no Figure with the name 'other_name'"),
        ("certain_rate = certain_figure:NO_FIGURE", "no Figure with the name 'certain_rate'"),
        ("certain_rate = certain_figure:MISSING", "cannot be loaded"),
        ("certain_rate = no_such_module:CERTAIN", "cannot be loaded"),
    ],
)
def test_a_wrong_entry_point_is_said_in_one_sentence(installed: Callable, entry: str, words: str) -> None:
    installed(entry)
    with pytest.raises(BlemishError, match=words):
        all_figures()


def test_a_built_in_figure_cannot_be_replaced(installed: Callable) -> None:
    installed("image_auroc = certain_figure:CERTAIN")
    assert all_figures()[0].label == "image AUROC"


def test_every_figure_takes_a_missing_value_and_every_continued_line_exists() -> None:
    every = all_figures()
    names = [figure.name for figure in every]
    assert len(set(names)) == len(names)
    for figure in every:
        if figure.places & {"page", "card", "aside", "defects"} and figure.name != "images":
            assert figure.format(None) == "–"
        assert figure.beside is None or figure.beside in {line.name for line in figures_in("text")}
    assert [figure.name for figure in figures_in("export")] == [
        "image_auroc", "pixel_auroc", "detection_rate", "false_alarm_rate"
    ]  # fmt: skip


def split_of(*images: tuple[str | None, float, str]) -> ScoredSplit:
    maps = np.zeros((4, 4), np.float32)
    return ScoredSplit(
        [
            EvaluatedImage(Sample(Path("x"), defect), ScoredImage("x", score, 0.5, verdict, maps, (4, 4)))
            for defect, score, verdict in images
        ]
    )


def test_figures_of_a_split_and_of_each_type_of_defect() -> None:
    split = split_of(
        (None, 1.0, "ok"), (None, 2.0, "unsure"), (None, 3.0, "anomalous"), (None, 0.5, "ok"),
        ("crack", 4.0, "anomalous"), ("dent", 1.5, "ok"),
    )  # fmt: skip
    metrics = measure(split)
    assert metrics["images"] == 6
    assert metrics["image_auroc"] == (4 + 2) / 8
    assert (metrics["detection_rate"], metrics["false_alarm_rate"], metrics["unsure"]) == (0.5, 0.25, 1)
    assert (metrics["pixel_auroc"], metrics["aupro"], metrics["images_per_second"]) == (None, None, None)
    assert metrics["per_defect"] == {
        "crack": {"images": 1, "detected": 1, "image_auroc": 1.0, "pixel_auroc": None, "detection_rate": 1.0},
        "dent": {"images": 1, "detected": 0, "image_auroc": 0.5, "pixel_auroc": None, "detection_rate": 0.0},
    }
    assert list(text_lines(metrics)) == [
        "image AUROC  0.750   average precision 0.750, best F1 0.667",
        "pixel AUROC  –   AUPRO –",
        "detected     50 % of the defective images",
        "false alarms 25 % of the good images",
        "unsure       1 image",
    ]


@pytest.mark.parametrize(
    ("value", "expected"), [(np.float32(0.25), 0.25), (np.int64(3), 3), (None, None), (float("nan"), "is nan")]
)
def test_a_figure_is_a_value_that_json_can_hold(
    value: object, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = Figure(name="given", label="given", compute=lambda split: value)
    monkeypatch.setattr(figures, "all_figures", lambda: [figure])
    split = split_of((None, 1.0, "ok"))
    if isinstance(expected, str):
        with pytest.raises(BlemishError, match=expected):
            measure(split)
    else:
        assert json.dumps(measure(split)) == json.dumps({"given": expected, "per_defect": {}})


def test_figures_of_one_kind_of_images_alone() -> None:
    good = measure(split_of((None, 1.0, "ok"), (None, 2.0, "ok")))
    assert (good["image_auroc"], good["detection_rate"], good["false_alarm_rate"]) == (None, None, 0.0)
    assert good["per_defect"] == {}
    bad = measure(split_of(("crack", 1.0, "ok")))
    assert (bad["image_auroc"], bad["detection_rate"], bad["false_alarm_rate"]) == (None, 0.0, None)
