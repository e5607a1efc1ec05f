"""The file of all runs of the paper's experiments, and the tables of docs/paper.md."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from blemish.errors import BlemishError
from blemish.experiments.results import Point, Result
from blemish.experiments.runs import save_result
from helpers.scripts import load_script

paper_book, paper_runs, paper_tables = map(load_script, ("paper_book", "paper_runs", "paper_tables"))
DOCS = Path(__file__).parents[2] / "docs"


def finished(folder: Path, *, method: str = "fcdd", recipe: str = "mvtec", kinds: tuple[str, ...] = ("good", "bad")):
    """A finished run of two or more test images, whose scores rise."""
    notes = {
        "mode": "paper",
        "network": "lite0-f",
        "epochs": "3 of 200",
        "precision": "32-true",
        "anomalies": "confetti",
    }
    result = Result(
        recipe=recipe,
        method=method,
        nominal_class="screw",
        seed=1,
        image_auroc=0.75,
        pixel_auroc=0.5,
        anomalous=np.arange(len(kinds)) > 0,
        scores=np.arange(len(kinds), dtype=np.float32),
        kinds=kinds,
        curve=(Point(1, 0.5, 2.5),),
        seconds=2.5,
        notes=notes,
    )
    folder.mkdir(parents=True)
    save_result(folder, result, key="k")


KNOWN = {"commit": "abc", "machine": "a machine", "draws": 90, "notes": ""}


def test_a_run_becomes_a_row(tmp_path):
    finished(tmp_path / "runs/fcdd/screw/seed-1")
    (run,) = paper_runs.collect(tmp_path, **KNOWN)
    assert run == paper_book.PaperRun(
        experiment="mvtec", data="mvtec", nominal_class="screw", method="fcdd", network="lite0-f", anomalies="confetti",
        seed=1, epochs=3, draws=90, image_auroc=0.75, pixel_auroc=0.5, seconds=2.5, commit="abc", machine="a machine",
        notes="precision 32-true",
    )  # fmt: skip


def test_a_variant_is_kept_and_gaussians_have_no_epochs(tmp_path):
    finished(tmp_path / "runs/fcdd/screw/sigma-4.0/seed-1", recipe="mvtec-sigma")
    finished(tmp_path / "runs/gaussian/screw/seed-1", method="gaussian")
    first, second = paper_runs.collect(tmp_path, **KNOWN)
    assert (first.experiment, first.variant, first.epochs) == ("mvtec-sigma", "sigma-4.0", 3)
    assert (second.method, second.variant, second.epochs) == ("gaussian", "", None)


def test_the_planted_cue_has_its_own_figures(tmp_path):
    folder = tmp_path / "runs/fcdd/dog/watermark-0.2/seed-1"
    kinds = ("foreign", "foreign with watermark", "dog", "dog with watermark")
    names = load_names()
    finished(folder, recipe="planted-cue", kinds=tuple(names[kind] for kind in kinds))
    (folder / "masses.json").write_text(json.dumps({"without": [0.1, 0.3], "marked": [0.5, 0.7]}), "utf-8")
    (run,) = paper_runs.collect(tmp_path, **KNOWN)
    assert (run.variant, run.mass_without, run.mass_with) == ("watermark-0.2", pytest.approx(0.2), pytest.approx(0.6))
    assert (run.image_auroc, run.auroc_with, run.auroc_watermark) == (1, 1, 1)


def load_names() -> dict[str, str]:
    from blemish.experiments.planted import photographs

    return {
        "foreign": photographs.OTHER,
        "foreign with watermark": photographs.MARKED_OTHER,
        "dog": photographs.DOG,
        "dog with watermark": photographs.MARKED_DOG,
    }


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(BlemishError, match="no finished run; give the output folder"):
        list(paper_runs.collect(tmp_path, **KNOWN))


def row(name: str, auroc: float | None, *, seed: int = 0, epochs: int | None = 3, **more: object):
    given = {"experiment": "cifar10", "data": "cifar10", "method": "fcdd", "image_auroc": auroc} | more
    return paper_book.PaperRun(nominal_class=name, seed=seed, epochs=epochs, **given)


def test_a_run_replaces_the_one_with_its_key_and_what_is_written_is_read_back(tmp_path):
    file = tmp_path / "runs.csv"
    first = row("cat", 0.5, notes='a, "b"', commit="before")
    other = row("cat", 0.25, seed=1, epochs=None, pixel_auroc=0.125)
    paper_book.add_runs(file, [first, other])
    assert set(paper_book.read_runs(file)) == {first, other}
    again = row("cat", 0.625, commit="abc", seconds=12.5)
    paper_book.add_runs(file, [again])
    assert set(paper_book.read_runs(file)) == {again, other}
    longer = row("cat", 0.75, epochs=60)
    paper_book.add_runs(file, [longer])
    assert set(paper_book.read_runs(file)) == {again, other, longer}


def cells(lines) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_table_has_means_over_seeds_of_the_longest_runs():
    few = row("cat", 0.9, epochs=70, anomalies="outliers of photographs")
    runs = [few, row("cat", 0.1), row("cat", 0.5, epochs=60), row("cat", 0.75, epochs=60, seed=1), row("dog", 0.25)]
    header, _, *rows = cells(paper_tables.cifar10(runs))
    assert header == ["class", "FCDD", "FCDD, paper"]
    first = ["cat", "0.625 ± 0.177", "0.90"]  # the deviation of 0.5 and 0.75
    assert rows == [first, ["dog", "0.250", "0.93"], ["**mean**", "**0.438**", "**0.915**"]]


def test_a_mean_needs_all_of_its_sets_and_the_papers_classes_have_one_of_their_own():
    def of(name: str, experiment: str, pixel: float):
        return row(name, 0.5, experiment=experiment, pixel_auroc=pixel)

    runs = [of(name, "mvtec", pixel) for name, pixel in (("screw", 0.8), ("bottle", 0.9), ("tile of mine", 0.4))]
    _, _, *rows = cells(paper_tables.mvtec([*runs, of("screw", "mvtec-semi", 0.95)]))
    assert [r[:5] for r in rows] == [
        ["bottle", "0.900", "0.97", "", "0.96"],
        ["screw", "0.800", "0.86", "0.950", "0.93"],
        ["tile of mine", "0.400", "", "", ""],
        ["**mean of 3 sets**", "**0.700**", "", "", ""],
        ["**mean of bottle and screw**", "**0.850**", "**0.915**", "", "**0.945**"],
    ]


def test_an_ablation_has_a_row_a_value_and_the_points_that_are_printed():
    def of(name: str, sigma: str, pixel: float):
        return row(name, 0.5, experiment="mvtec-sigma", variant=f"sigma-{sigma}", pixel_auroc=pixel)

    header, _, *rows = cells(paper_tables.sigma([of("screw", "12.0", 0.8), of("bottle", "4.0", 0.9),
                                                 of("screw", "4.0", 0.7), row("screw", 0.1)]))  # fmt: skip
    assert header == ["σ, pixels", "bottle", "screw", "mean", "paper, all sets"]
    assert rows == [["4", "0.900", "0.700", "0.800", "0.857"], ["12", "", "0.800", "", ""]]


def test_all_outliers_are_those_of_the_experiment_that_has_no_limit():
    def limited(name: str, limit: int, figure: float):
        return row(name, figure, experiment="cifar10-outliers", variant=f"limit-{limit}")

    runs = [limited("cat", 128, 0.6), limited("cat", 8, 0.5), row("cat", 0.7), row("cat", 0.9, epochs=60),
            row("dog", 0.8), row("cat", 0.1, anomalies="outliers of photographs")]  # fmt: skip
    header, _, *rows = cells(paper_tables.outliers(runs))
    assert header == ["outliers", "cat", "mean"]
    assert rows == [["8", "0.500", "0.500"], ["128", "0.600", "0.600"], ["all", "0.700", "0.700"]]


def test_an_unknown_marker_is_refused(tmp_path):
    document = tmp_path / "paper.md"
    document.write_text("<!-- runs:horses -->\n<!-- /runs:horses -->\n", "utf-8")
    with pytest.raises(BlemishError, match="no table called horses"):
        paper_tables.write([], document)


def test_the_tables_of_the_documentation_are_those_of_the_file(tmp_path):
    document = tmp_path / "paper.md"
    text = (DOCS / "paper.md").read_text("utf-8")
    document.write_text(text, "utf-8")
    paper_tables.write(paper_book.read_runs(DOCS / "paper_runs.csv"), document)
    assert document.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [([], "give output folders"), (["out"], "runs need --commit and --machine"),
     (["out", "--commit", "a", "--machine", "b", "--draws", "0"], "must be 1 or more")],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, sentence, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paper_runs.py", *arguments])
    with pytest.raises(SystemExit):
        paper_runs.main()
    assert sentence in capsys.readouterr().err
