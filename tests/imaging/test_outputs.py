"""Results are no input: what a run wrote is scored, learned from and listed by nobody, and it replaces no input."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.imaging.outputs import MODEL, check_overwriting
from blemish.imaging.results import Results
from blemish.model.detector import Detector
from blemish.prediction import find_images, predict
from blemish.synthetic.outlier_exposure import OutlierFolder
from helpers.images import noise, save_image, stained
from helpers.results import rows

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


def unsign(out: Path) -> None:
    """Pictures as earlier versions wrote them."""
    for picture in [*out.rglob("*.png"), *out.rglob("*.tiff")]:
        with Image.open(picture) as opened:
            pixels = np.array(opened)
        Image.fromarray(pixels).save(picture)


def finished(detector: Detector, line: Path, out: Path) -> None:
    predict(detector, [line], out, save_maps="tiff")


def before_there_was_a_signature(detector: Detector, line: Path, out: Path) -> None:
    predict(detector, [line], out, save_maps="tiff")
    unsign(out)


def with_a_parquet_table(detector: Detector, line: Path, out: Path) -> None:
    pytest.importorskip("pyarrow")
    predict(detector, [line], out, table="parquet", save_maps="tiff")
    unsign(out)


def without_regions(detector: Detector, line: Path, out: Path) -> None:
    before_there_was_a_signature(detector, line, out)
    (out / "regions.json").unlink()


def without_its_table(detector: Detector, line: Path, out: Path) -> None:
    predict(detector, [line], out, save_maps="tiff")
    (out / "scores.csv").unlink()
    (out / "regions.json").unlink()


def moved(detector: Detector, line: Path, out: Path) -> None:
    predict(detector, [line], out, save_maps="tiff")
    (out / "heatmaps").rename(line / "pictures")
    shutil.rmtree(out)
    shutil.copytree(line / "pictures", line / "pictures again")


def killed(detector: Detector, line: Path, out: Path) -> None:
    def engine(chunks: object) -> object:
        for chunk in chunks:
            yield list(score_chunk(detector, chunk))
            raise KeyError

    from blemish.prediction.engine import score_chunk

    with pytest.raises(KeyError):
        predict(detector, [line], out, save_maps="tiff", engine=engine)
    unsign(out)


RUNS = (
    finished,
    before_there_was_a_signature,
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
    monkeypatch.setattr("blemish.prediction.journal.COMMIT_SECONDS", 0)
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
        assert run("predict", tiny_model, line, "-o", line, "--save-maps", "npy", "--json").json["images"] == 3
    assert json.loads((line / "regions.json").read_text()).keys() == {str(line / name) for name in PHOTOS}
    assert np.load(line / "maps/0.png.npy").dtype == np.float32


def test_refusals_are_blemish_errors_in_the_api_too(detector: Detector, line: Path) -> None:
    save_image(line / "maps/0.png", noise(9))
    with pytest.raises(BlemishError, match=r"maps holds 0\.png"):
        predict(detector, [line], line, save_maps="tiff")


# Outputs that would replace an input. Each makes a file in the folder and names the command.


def a_link(folder: Path, name: str, to: str) -> Path:
    (folder / name).symlink_to(folder / to)
    return folder / name


def a_second_name(folder: Path, name: str, to: str) -> Path:
    os.link(folder / to, folder / name)
    return folder / name


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, parts: Path) -> Path:
    """A folder with a model, a data set and files of others."""
    shutil.copy(tiny_model, tmp_path / "m.onnx")
    shutil.copy(tiny_model, tmp_path / "weights.onnx")
    shutil.copy(tiny_model, tmp_path / "model")
    save_image(tmp_path / "mask.png", np.zeros((64, 64), np.uint8))
    (tmp_path / "notes").write_text("Measured on Monday.\n")
    (tmp_path / "other.csv").write_text("part,weight\n")
    (tmp_path / "list.txt").write_text(f"{parts}/test/good/0.png\n")
    return tmp_path


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MODEL_VERBS: dict[str, list[str]] = {
    "train": ["train", "parts", "-o"],
    "export": ["export", "m.onnx", "--format", "openvino", "--data", "parts", "-o"],
}
PAGE_VERBS: dict[str, list[str]] = {
    "info": ["info", "m.onnx", "-o"],
    "report": ["report", "m.onnx", "parts", "-o"],
    "audit": ["audit", "m.onnx", "parts", "-o"],
}
INPUT, NAME_OF_MODEL, NAME_OF_PAGE = "it is an input of this command", "ends in .onnx", "ends in .html or .htm"


def refused() -> list[tuple[str, list[str], str]]:
    cases = []
    for verb, words in PAGE_VERBS.items():
        cases += [
            (verb, [*words, "m.onnx"], INPUT),
            (verb, [*words, "./parts/../m.onnx"], INPUT),
            (verb, [*words, "link:page.html>m.onnx"], INPUT),
            (verb, [*words, "second:page.html>m.onnx"], INPUT),
            (verb, [*words, "weights.onnx"], NAME_OF_PAGE),
            (verb, [*words, "new.onnx"], NAME_OF_PAGE),
            (verb, [*words, "parts/test/good/0.png"], NAME_OF_PAGE),
            (verb, [*words, "other.csv"], NAME_OF_PAGE),
            (verb, [*words, "link:page.html>weights.onnx"], "it is a link to"),
            (verb, [*words, "link:page.html>notes"], "is not a page"),
            (verb, [*words, "notes"], "is not a page"),
            (verb, [*words, "model"], "is not a page"),
        ]
    for verb, words in MODEL_VERBS.items():
        cases += [
            (verb, [*words, "parts/train/good/0.png"], NAME_OF_MODEL),
            (verb, [*words, "other.csv"], NAME_OF_MODEL),
            (verb, [*words, "model.pt"], NAME_OF_MODEL),
            (verb, [*words, "notes"], "is not a model file"),
            (verb, [*words, "link:new.onnx>parts/train/good/0.png"], INPUT),
            (verb, [*words, "link:new.onnx>mask.png"], "it is a link to"),
            (verb, [*words, "second:new.onnx>parts/train/good/0.png"], INPUT),
        ]
    cases += [
        ("export", [*MODEL_VERBS["export"], "m.onnx"], INPUT),
        ("export", [*MODEL_VERBS["export"], "link:new.onnx>m.onnx"], INPUT),
        ("train", [*MODEL_VERBS["train"], "weights.onnx", "--weights", "weights.onnx"], INPUT),
        ("train", [*MODEL_VERBS["train"], "second:mask.onnx>mask.png", "--ignore-mask", "mask.png"], INPUT),
        ("audit", [*PAGE_VERBS["audit"], "second:mask.html>mask.png", "--roi", "mask.png"], INPUT),
        ("report", [*PAGE_VERBS["report"], "second:mask.html>mask.png", "--ignore-mask", "mask.png"], INPUT),
        ("predict", ["predict", "m.onnx", "parts", "-o", "m.onnx"], "a file is in its place"),
        ("predict", ["predict", "m.onnx", "parts", "-o", "results.csv"], "is to be a folder"),
        ("predict", ["predict", "m.onnx", "--from-file", "scores.csv", "-o", "."], "is an input and would be replaced"),
        ("demo", ["demo", "-o", "demo.html"], "is to be a folder"),
        ("demo", ["demo", "-o", "m.onnx"], "a file is in its place"),
    ]
    return cases


@pytest.mark.parametrize(
    ("verb", "words", "sentence"), refused(), ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_an_output_that_would_replace_something_else_is_refused(
    run, place: Path, monkeypatch: pytest.MonkeyPatch, verb: str, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(place)
    (place / "scores.csv").write_text("parts/test/good/0.png\n")
    arguments = []
    for word in words:
        how, _, names = word.partition(":")
        if names:
            name, to = names.split(">")
            {"link": a_link, "second": a_second_name}[how](place, name, to)
            word = name
        arguments.append(word)
    before = everything(place)
    outcome = run(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert sentence in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert everything(place) == before


@pytest.mark.parametrize("name", ["new.html", "NEW.HTM", "old.html", "plain", "plain page", "latest"])
def test_a_page_may_be_new_or_replace_a_page(run, place: Path, name: str) -> None:
    run("info", place / "m.onnx", "-o", place / "old.html")
    (place / "old.html").rename(place / "plain page")
    (place / "old.html").write_text("mine")
    (place / "latest").symlink_to(place / "old.html")
    assert run("info", place / "m.onnx", "-o", place / name).status == 0
    assert (place / name).read_text(encoding="utf-8").lstrip().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("name", ["new.onnx", "weights.onnx", "model", "NEW.ONNX", "new", "screws.v2.onnx"])
def test_a_model_may_be_new_or_replace_a_model(place: Path, name: str) -> None:
    check_overwriting(place / name, [place / "parts", place / "m.onnx", None, "s3://parts/a"], kind=MODEL)


def test_letters_that_the_disk_does_not_tell_apart_are_one_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: object, **options: object) -> os.stat_result:
        return real(str(path).lower() if str(path).endswith(".ONNX") else path, **options)

    real = os.stat
    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(BlemishError, match=INPUT):
        check_overwriting(place / "M.ONNX", [place / "m.onnx"], kind=MODEL)


def test_the_functions_refuse_as_the_verbs_do(detector: Detector, place: Path) -> None:
    from blemish import train
    from blemish.conversion.run import export
    from blemish.evaluation.run import evaluate
    from blemish.model.card import ModelCard
    from blemish.report.card_page import write_card
    from blemish.report.evaluation_page import write_report

    before = everything(place)
    parts, image = place / "parts", place / "parts/train/good/0.png"
    calls = [
        lambda: train(parts, image),
        lambda: export(place / "m.onnx", parts, place / "m.onnx", target="openvino"),
        lambda: write_report(evaluate(detector, read_data_set(parts)), place / "m.onnx"),
        lambda: write_card(ModelCard.read(place / "m.onnx"), place / "m.onnx"),
        lambda: predict(detector, [parts], place / "results.csv"),
    ]
    for call in calls:
        with pytest.raises(BlemishError):
            call()
    assert everything(place) == before


def test_a_table_of_others_is_not_replaced(run, place: Path) -> None:
    (place / "scores.csv").write_text("part,weight\n")
    outcome = run("predict", place / "m.onnx", place / "parts", "-o", place)
    assert outcome.status == 2
    assert "scores.csv is no table of Blemish and would be replaced" in outcome.err
    assert (place / "scores.csv").read_text() == "part,weight\n"


@pytest.mark.parametrize("way", ["folder", "file", "second name"])
def test_a_link_among_the_heatmaps_does_not_lead_to_the_image(run, tiny_model: Path, line: Path, way: str) -> None:
    out = line.parent / "out"
    run("predict", tiny_model, line, "-o", out)
    before = everything(line)
    if way == "folder":
        shutil.rmtree(out / "heatmaps")
        (out / "heatmaps").symlink_to(line)
    else:
        (out / "heatmaps/0.png").unlink()
        (os.symlink if way == "file" else os.link)(line / "0.png", out / "heatmaps/0.png")
    outcome = run("predict", tiny_model, line, "-o", out)
    assert outcome.status == (0 if way == "file" else 2)
    assert everything(line) == before
