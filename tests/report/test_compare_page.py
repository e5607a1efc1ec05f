"""The page of a comparison: which images a filter shows, and that names cannot become markup."""

import re

import pytest

from blemish.comparison.run import compare
from blemish.report.compare_page import ComparedImage, IntervalRow, MethodView, interval_plot
from helpers.comparing import pretend_to_train


def view(verdict: str, *, wrong: bool, beside: bool = False) -> MethodView:
    return MethodView("a", "data:", verdict, 0.1, 1.0, 1.0, wrong, beside)


@pytest.mark.parametrize(
    ("defect", "views", "tags"),
    [
        (None, [view("ok", wrong=False)] * 2, "all"),
        (None, [view("ok", wrong=False), view("anomalous", wrong=True)], "all differ false-alarm"),
        ("dent", [view("unsure", wrong=True), view("anomalous", wrong=False, beside=True)], "all differ missed beside"),
        ("dent", [view("ok", wrong=True), view("unsure", wrong=True)], "all missed"),
    ],
)
def test_an_image_has_the_tags_of_what_was_said_of_it(defect, views, tags):
    assert ComparedImage("f", "n", defect, "data:", None, tuple(views)).tags == tags


def test_the_plot_has_a_line_a_dot_and_a_tick_for_each_seed():
    rows = [IntervalRow("a<b", 0.9, [0.88, 0.92], (0.8, 0.95)), IntervalRow("c", 0.5, [0.5], None)]
    plot = interval_plot(rows, label="image AUROC")
    assert "a&lt;b" in plot
    assert plot.count("<circle") == 2
    assert plot.count('stroke-width="5"') == 1
    centres = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', plot)]
    assert centres[0] > centres[1]


def test_names_of_folders_are_no_markup(parts, tmp_path, tiny_model, monkeypatch):
    (parts / "test/stain").rename(parts / "test/<script>x")
    pretend_to_train(monkeypatch, tiny_model)
    found = compare(parts, tmp_path / "out", methods=["gaussian", "padim"])
    page = found.page.read_text()
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
