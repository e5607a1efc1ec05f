"""Results are no input: what a run wrote is scored, learned from and listed by nobody, and it replaces no input."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blemish.datasets.layouts import read_data_set
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.prediction import find_images, predict
from blemish.results import MARKER, Results
from blemish.synthetic.outliers import OutlierFolder
from conftest import noise, save_image, stained
from test_prediction import rows

PHOTOS = ("0.png", "1.png", "2.jpg")


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector.load(tiny_model, threads=1)


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """Three photographs of a line."""
    for number, name in enumerate(PHOTOS):
        save_image(tmp_path / "line3" / name, stained(number) if number == 0 else noise(number))
    return tmp_path / "line3"


def finished(detector: Detector, line: Path, out: Path) -> None:
    predict(detector, [line], out, raw="tiff")


def before_there_was_a_marker(detector: Detector, line: Path, out: Path) -> None:
    predict(detector, [line], out, raw="tiff")
    for marker in out.rglob(MARKER):
        marker.unlink()


def with_a_parquet_table(detector: Detector, line: Path, out: Path) -> None:
    pytest.importorskip("pyarrow")
    predict(detector, [line], out, table="parquet", raw="tiff")
    for marker in out.rglob(MARKER):
        marker.unlink()


def without_regions(detector: Detector, line: Path, out: Path) -> None:
    before_there_was_a_marker(detector, line, out)
    (out / "regions.json").unlink()


def without_its_table(detector: Detector, line: Path, out: Path) -> None:
    predict(detector, [line], out, raw="tiff")
    (out / "scores.csv").unlink()
    (out / "regions.json").unlink()


def moved(detector: Detector, line: Path, out: Path) -> None:
    predict(detector, [line], out, raw="tiff")
    (out / "heatmaps").rename(line / "pictures")
    shutil.rmtree(out)
    shutil.copytree(line / "pictures", line / "pictures again")


def killed(detector: Detector, line: Path, out: Path) -> None:
    def engine(chunks: object) -> object:
        for chunk in chunks:
            yield list(score_chunk(detector, chunk))
            raise KeyError

    from blemish.prediction.scoring import score_chunk

    with pytest.raises(KeyError):
        predict(detector, [line], out, raw="tiff", engine=engine)
    for marker in out.rglob(MARKER):
        marker.unlink()


RUNS = (
    finished,
    before_there_was_a_marker,
    with_a_parquet_table,
    without_regions,
    without_its_table,
    moved,
    killed,
)


@pytest.mark.parametrize("earlier", RUNS, ids=lambda function: function.__name__)
def test_an_earlier_run_is_neither_scored_nor_learned_from(
    detector: Detector, line: Path, earlier: Callable[[Detector, Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.prediction.journal.SECONDS_TO_LOSE", 0)
    earlier(detector, line, line / "monday")
    said: list[str] = []
    prediction = predict(detector, [line], line / "tuesday", notify=said.append)
    assert [Path(row["path"]).name for row in rows(line / "tuesday")] == list(PHOTOS)
    assert prediction.results_left_out == 6
    assert len([sentence for sentence in said if sentence.startswith("6 images left out, results of Blemish: ")]) == 1
    data = read_data_set(line)
    assert [sample.path.name for sample in data.train] == list(PHOTOS)
    assert not any("not used" in note for note in data.notes)
    assert sum("left out, results of Blemish" in note for note in data.notes) == 1
    assert len(OutlierFolder(line)) == len(PHOTOS)


def test_the_second_run_counts_only_photographs(run, tiny_model: Path, line: Path) -> None:
    first = run("predict", tiny_model, line, "-o", line / "monday", "--json")
    second = run("predict", tiny_model, line, "-o", line / "tuesday", "--json")
    assert (first.json["images"], first.json["results_left_out"]) == (3, 0)
    assert (second.json["images"], second.json["results_left_out"]) == (3, 3)
    assert first.json["anomalous"] == second.json["anomalous"]
    assert second.err == f"3 images left out, results of Blemish: {line / 'monday/heatmaps'}\n"


@pytest.mark.parametrize("way", ["pattern", "deep pattern", "list", "shell", "folder of the run", "link"])
def test_results_are_left_out_however_they_are_named(detector: Detector, line: Path, way: str, tmp_path: Path) -> None:
    predict(detector, [line], line / "monday")
    monday = [line / "monday/heatmaps" / name for name in ("0.png", "1.png", "2.jpg.png")]
    table = [line / "monday/scores.csv", line / "monday/regions.json"]
    photos = [str(line / name) for name in PHOTOS]
    os.symlink(line / "monday/heatmaps", tmp_path / "last")
    given = {
        "pattern": [line / "**/*.*"],
        "deep pattern": [line, line / "*/*/*.png"],
        "list": [*photos, *monday, line / "monday"],
        "shell": [*photos, line / "monday/heatmaps", *table],
        "folder of the run": [line / "monday", *photos],
        "link": [tmp_path / "last", *photos],
    }[way]
    results = Results()
    found = [image for image in find_images(given, results=results) if image in photos or pytest.fail(image)]
    assert found == photos
    assert results.number >= 3


def test_results_alone_are_no_images(run, tiny_model: Path, line: Path, tmp_path: Path) -> None:
    run("predict", tiny_model, line, "-o", line / "monday")
    place = line / "monday/heatmaps"
    for arguments in (["predict", tiny_model, place, "-o", tmp_path / "out"], ["doctor", place]):
        outcome = run(*arguments)
        assert outcome.status == 2
        assert f"(3 images left out, results of Blemish: {place})" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_only_has_such_a_name_is_searched(detector: Detector, line: Path) -> None:
    for name in ("heatmaps", "maps"):
        save_image(line / name / "thermal.png", noise(7))
    (line / "scores.csv").write_text("part,weight\n1,2\n")
    results = Results()
    assert len(list(find_images([line], results=results))) == 5
    assert results.number == 0


def test_a_demo_set_is_left_out_of_other_sets_and_used_where_it_is_named(line: Path) -> None:
    demo = line / "demo/bricks"
    for split in ("train", "test"):
        save_image(demo / split / "good/0.png", noise(1))
    (demo / "README.txt").write_text("Blemish demo set, seed 0.\n\nCrops of one photograph\n")
    assert len(list(find_images([line]))) == 3
    assert [sample.path.name for sample in read_data_set(line).train] == list(PHOTOS)
    for named in (demo, demo.parent, demo / "test", demo / "test/good/0.png", demo / "*/good/*"):
        assert list(find_images([named]))
    assert read_data_set(demo).layout == "mvtec"


def test_results_in_a_storage_are_left_out(detector: Detector, line: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    predict(detector, [line], line / "monday")
    storage = fsspec.filesystem("memory")
    for path in line.rglob("*"):
        if path.is_file():
            storage.pipe(f"/parts/{path.relative_to(line).as_posix()}", path.read_bytes())
    photos = [f"memory://parts/{name}" for name in PHOTOS]
    for given in (["memory://parts"], ["memory://parts/**"], [*photos, "memory://parts/monday/heatmaps/0.png"]):
        results = Results()
        found = [image.replace("memory:///", "memory://") for image in find_images(given, results=results)]
        assert list(dict.fromkeys(found)) == photos  # a pattern with ** matches folders as well
        assert results.number > 0
        assert "parts/monday/heatmaps" in str(results.sentence())


def test_every_verb_leaves_results_out(run, tiny_model: Path, parts: Path) -> None:
    plain = run("evaluate", tiny_model, parts, "--json").json["images"]
    for place in (parts / "out", parts / "test/good/out", parts / "test/out"):
        run("predict", tiny_model, parts / "test", "-o", place)
    assert run("evaluate", tiny_model, parts, "--json").json["images"] == plain
    doctor = run("doctor", parts, "--json").json
    assert (doctor["train"]["images"], doctor["test"]["images"]) == (4, 5)
    assert [one["message"] for one in doctor["problems"] if "results of Blemish" in one["message"]]


def test_pictures_of_others_in_the_place_of_heatmaps_are_kept(run, tiny_model: Path, line: Path) -> None:
    thermal = save_image(line / "heatmaps/0.png", noise(9)).read_bytes()
    outcome = run("predict", tiny_model, line, "-o", line)
    assert outcome.status == 2
    assert "heatmaps holds 0.png, which is no result of Blemish and might be replaced" in outcome.err
    assert (line / "heatmaps/0.png").read_bytes() == thermal
    assert not (line / "scores.csv").exists()
    assert run("predict", tiny_model, line, "-o", line, "--no-heatmaps").status == 0


def test_a_run_into_its_own_folder_is_repeated(run, tiny_model: Path, line: Path) -> None:
    for _ in range(2):
        assert run("predict", tiny_model, line, "-o", line, "--raw", "npy", "--json").json["images"] == 3
    assert json.loads((line / "regions.json").read_text()).keys() == {str(line / name) for name in PHOTOS}
    assert np.load(line / "maps/0.png.npy").dtype == np.float32


def test_refusals_are_blemish_errors_in_the_api_too(detector: Detector, line: Path) -> None:
    save_image(line / "maps/0.png", noise(9))
    with pytest.raises(BlemishError, match=r"maps holds 0\.png"):
        predict(detector, [line], line, raw="tiff")
