"""Prediction writes what the detector says, under names that never collide, and keeps nothing in memory."""

import io
import json
import os
import sys
import weakref
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.datasets.layouts import natural_key, read_data_set
from blemish.errors import BlemishError
from blemish.evaluation.run import evaluate
from blemish.imaging.errors import ImageError
from blemish.imaging.heatmaps import encode_png
from blemish.model.detector import BATCH_SIZE, Detector
from blemish.model.scored_image import ScoredImage
from blemish.prediction import engine as scoring
from blemish.prediction import find_images, predict, read_list
from blemish.prediction.listing import natural_order
from blemish.report.evaluation_page import write_report
from helpers.images import noise, save_image, stained
from helpers.results import names, picture_names, rows


@pytest.fixture(scope="module")
def detector(tiny_model) -> Detector:
    return Detector.load(tiny_model)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Images of several sizes and formats in two folders with the same names."""
    root = tmp_path / "photos"
    save_image(root / "line1/a.png", noise(1))
    save_image(root / "line1/a.jpg", noise(2, size=(50, 90)))
    save_image(root / "line1/10.png", stained(3))
    save_image(root / "line1/9.png", noise(4, size=(200, 31)))
    save_image(root / "line2/a.png", stained(5, size=(80, 40)))
    return root


def test_rows_are_what_the_detector_says(detector, photos, tmp_path):
    prediction = predict(detector, [photos], tmp_path / "out")
    paths = [
        str(photos / name) for name in ("line1/9.png", "line1/10.png", "line1/a.jpg", "line1/a.png", "line2/a.png")
    ]
    expected = detector.score(paths, batch_size=1)
    table = rows(tmp_path / "out")
    assert list(table[0]) == ["path", "score", "p_value", "verdict"]
    assert [row["path"] for row in table] == paths
    assert [row["verdict"] for row in table] == expected.verdicts
    # One image at a time and eight at once need not agree to the last bit.
    np.testing.assert_allclose([float(row["score"]) for row in table], expected.scores, rtol=1e-5)
    np.testing.assert_array_equal([float(row["p_value"]) for row in table], expected.p_values)
    for verdict in ("anomalous", "unsure", "ok"):
        assert getattr(prediction, verdict) == expected.verdicts.count(verdict)
    assert (prediction.images, prediction.failed) == (5, 0)


def test_regions_are_those_of_the_detector_and_empty_unless_anomalous(detector, photos, tmp_path):
    predict(detector, [photos], tmp_path / "out", heatmaps=False)
    regions = json.loads((tmp_path / "out/regions.json").read_text(encoding="utf-8"))
    scored = {one.source: one for one in detector.predict_iter(find_images([photos]))}
    assert list(regions) == [row["path"] for row in rows(tmp_path / "out")]
    for path, found in regions.items():
        assert found == [region.as_json() for region in detector.regions(scored[path])]
        assert bool(found) == (scored[path].verdict == "anomalous")
    assert any(regions.values())


def test_heatmaps_are_the_detectors_own(detector, photos, tmp_path):
    predict(detector, [photos], tmp_path / "out")
    assert names(tmp_path / "out/heatmaps") == [
        "line1/10.png",
        "line1/9.png",
        "line1/a.jpg.png",
        "line1/a.png",
        "line2/a.png",
    ]
    path = str(photos / "line2/a.png")
    (scored,) = detector.predict_iter([path])
    with Image.open(tmp_path / "out/heatmaps/line2/a.png") as drawn:
        np.testing.assert_array_equal(np.array(drawn), np.array(detector.explain(path, scored)))


def test_heatmaps_and_raw_maps_are_optional(detector, photos, tmp_path):
    predict(detector, [photos], tmp_path / "out", heatmaps=False)
    assert names(tmp_path / "out") == ["regions.json", "scores.csv"]


@pytest.mark.parametrize("raw", ["tiff", "npy"])
def test_raw_maps_are_32_bit_at_the_images_own_size(detector, photos, tmp_path, raw):
    predict(detector, [photos], tmp_path / "out", heatmaps=False, save_maps=raw)
    images = list(find_images([photos]))
    for image, expected in zip(images, detector.score(images).maps, strict=True):
        place = tmp_path / "out/maps" / (Path(image).relative_to(photos).as_posix() + f".{raw}")
        values = np.load(place) if raw == "npy" else np.array(Image.open(place))
        assert values.dtype == np.float32
        with Image.open(image) as original:
            assert values.shape == (original.height, original.width)
        np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert len(names(tmp_path / "out/maps")) == len(images)


def test_old_names_of_arguments_still_work_and_warn(detector, photos, tmp_path):
    with pytest.warns(DeprecationWarning, match="is now called") as caught:
        predict(detector, [photos], tmp_path / "out", heatmaps=False, raw="npy", fresh=True)
    assert [str(warning.message).split(";")[0] for warning in caught] == [
        "predict(raw=...) is now called predict(save_maps=...)",
        "predict(fresh=...) is now called predict(restart=...)",
    ]
    assert len(names(tmp_path / "out/maps")) == 5


def test_old_names_of_options_still_work_and_say_so(run, tiny_model, photos, tmp_path):
    (tmp_path / "list.txt").write_text(f"{photos}\n")
    old = ["--list", tmp_path / "list.txt", "--raw", "npy", "--fresh"]
    outcome = run("predict", tiny_model, *old, "--no-heatmaps", "-o", tmp_path / "out", "--json")
    assert (outcome.status, outcome.json["images"]) == (0, 5)
    assert len(names(tmp_path / "out/maps")) == 5
    assert sorted(outcome.err.splitlines()) == [
        f"warning: {before} is now called {now}; the next release removes the old name"
        for before, now in (("--fresh", "--restart"), ("--list", "--from-file"), ("--raw", "--save-maps"))
    ]


def test_files_folders_and_patterns_are_found_in_natural_order(photos):
    (photos / "notes.txt").write_text("no image")
    (photos / ".hidden").mkdir()
    save_image(photos / ".hidden/b.png", noise(0))
    line1 = [str(photos / "line1" / name) for name in ("9.png", "10.png", "a.jpg", "a.png")]
    line2 = [str(photos / "line2/a.png")]
    assert list(find_images([photos])) == line1 + line2
    assert list(find_images([photos / "line2", photos / "line1"])) == line2 + line1
    assert list(find_images([photos / "*/*.png"])) == [line1[0], line1[1], line1[3], *line2]
    assert list(find_images([photos / "**/a.*"])) == [line1[2], line1[3], *line2]
    assert list(find_images([photos / "line?"])) == line1 + line2
    named = str(photos / "notes.txt")
    assert list(find_images([named])) == [named]  # named outright: reading it will tell


def test_a_name_with_a_bracket_is_a_file_and_not_a_pattern(tmp_path):
    path = save_image(tmp_path / "part[1].png", noise(0))
    assert list(find_images([path])) == [str(path)]


def test_links_are_followed_but_not_round_in_circles(photos):
    os.symlink(photos / "line1", photos / "line2/up")
    os.symlink(photos, photos / "line1/round")
    found = [os.path.realpath(image) for image in find_images([photos / "line2"])]
    assert len(found) == len(set(found)) == 5


def test_a_second_run_does_not_score_the_first_runs_pictures(detector, photos):
    for _ in range(2):
        prediction = predict(detector, [photos], photos / "out", save_maps="tiff")
        assert prediction.images == 5


@pytest.mark.parametrize("pattern", ["*.png", "", "empty"])
def test_no_image_is_a_sentence(tmp_path, pattern):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BlemishError, match=r"no image in .*; give image files or folders"):
        list(find_images([tmp_path / pattern]))


def test_one_image_has_its_name_and_two_folders_theirs():
    assert picture_names(["/x/y/a.bmp"], ".png") == [PurePosixPath("a.bmp.png")]
    assert picture_names(["/x/y/a.png", "/x/z/a.png"], ".png") == [PurePosixPath("y/a.png"), PurePosixPath("z/a.png")]


part = st.sampled_from(["a", "b", "a.png", "a.jpg", "a.jpg.png", "a.png.png", "b.tiff"])


@given(st.lists(st.lists(part, min_size=1, max_size=3).map("/".join), min_size=1, unique=True))
def test_no_two_pictures_share_a_name(paths):
    pictures = picture_names([f"/data/{path}" for path in paths], ".png")
    assert len(set(pictures)) == len(paths)
    assert all(str(picture).endswith(".png") and ".." not in picture.parts for picture in pictures)


def test_progress_counts_every_image_and_notify_names_the_unreadable(detector, photos, tmp_path):
    (photos / "line1/broken.png").write_bytes(b"not a picture")
    steps, messages = [], []
    prediction = predict(
        detector,
        [photos],
        tmp_path / "out",
        progress=lambda stage, done, total: steps.append((done, total)),
        notify=messages.append,
    )
    assert steps[-1] == (6, 6)
    assert all(total == 6 for _, total in steps)
    assert len(messages) == prediction.failed == 1
    assert messages[0].startswith(f"{photos / 'line1/broken.png'}: ")
    row = next(row for row in rows(tmp_path / "out") if row["path"].endswith("broken.png"))
    assert (row["score"], row["p_value"], row["verdict"]) == ("", "", "unreadable")


def test_an_image_that_goes_while_it_is_scored_is_a_failed_one(detector, photos, tmp_path, monkeypatch):
    stream = Detector.predict_iter

    def losing(self, images, **options):
        for result in stream(self, images, **options):
            if result.source.endswith("10.png"):
                os.remove(result.source)
            yield result

    monkeypatch.setattr(Detector, "predict_iter", losing)
    prediction = predict(detector, [photos], tmp_path / "out")
    assert (prediction.images, prediction.failed) == (4, 1)
    assert sum(row["verdict"] == "unreadable" for row in rows(tmp_path / "out")) == 1


def test_memory_holds_a_few_results_however_many_images(detector, tmp_path, monkeypatch):
    picture = save_image(tmp_path / "one.png", stained(1))
    (tmp_path / "many").mkdir()
    for i in range(300):
        os.symlink(picture, tmp_path / f"many/{i}.png")
    alive: list[weakref.ref[ScoredImage]] = []
    stream = Detector.predict_iter

    def watched(self, images, **options):
        for result in stream(self, images, **options):
            alive.append(weakref.ref(result))
            yield result

    monkeypatch.setattr(Detector, "predict_iter", watched)
    most = 0

    def count(stage: str, done: int, total: int) -> None:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in alive))

    prediction = predict(detector, [tmp_path / "many"], tmp_path / "out", heatmaps=False, progress=count)
    assert prediction.images == 300
    assert most <= 2 * BATCH_SIZE


def test_an_image_named_in_several_ways_has_one_row(detector, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    prediction = predict(detector, ["line2/a.png", photos / "line2", "line1/../line2/*.png"], tmp_path / "out")
    assert prediction.images == 1
    assert [row["path"] for row in rows(tmp_path / "out")] == ["line2/a.png"]


def test_the_table_is_the_same_with_any_number_of_workers(detector, tmp_path, monkeypatch):
    monkeypatch.setattr("blemish.prediction.run.CHUNK", BATCH_SIZE)  # six chunks for up to five workers
    for i in range(44):
        save_image(tmp_path / f"photos/{i}.png", stained(i) if i % 9 == 0 else noise(i))
    (tmp_path / "photos/20.png").write_bytes(b"")
    for workers in (1, 2, 5):
        predict(detector, [tmp_path / "photos"], tmp_path / f"out{workers}", workers=workers)
    names_and_bytes = [
        {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        for out in (tmp_path / f"out{workers}" for workers in (1, 2, 5))
    ]
    assert len(names_and_bytes[0]) == 2 + 43
    assert names_and_bytes[0] == names_and_bytes[1] == names_and_bytes[2]
    assert [Path(row["path"]).stem for row in rows(tmp_path / "out2")] == [str(i) for i in range(44)]


def test_parquet_holds_what_csv_holds(detector, photos, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (photos / "line1/broken.png").write_bytes(b"not a picture")
    for table in ("csv", "parquet"):
        predict(detector, [photos], tmp_path / table, heatmaps=False, table=table)
    assert names(tmp_path / "parquet") == ["regions.json", "scores.parquet"]
    table = parquet.read_table(tmp_path / "parquet/scores.parquet")
    assert table.column_names == ["path", "score", "p_value", "verdict"]
    as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table.to_pylist()]
    assert as_text == rows(tmp_path / "csv")
    assert [str(kind) for kind in table.schema.types] == ["string", "double", "double", "string"]


def test_parquet_without_pyarrow_is_a_sentence_before_the_work(detector, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BlemishError, match=r'pip install "blemish\[parquet\]"'):
        predict(detector, [photos], tmp_path / "out", table="parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("standard_input", [False, True], ids=["a file", "standard input"])
def test_a_list_names_one_path_a_line(run, tiny_model, photos, tmp_path, monkeypatch, standard_input):
    odd = save_image(photos / os.fsdecode(b"\xff and space .png"), noise(9))
    lines = [photos / "line2/a.png", "", photos / "line1", photos / "line2/a.png", odd, photos / "gone.png"]
    content = b"\r\n".join(os.fsencode(line) for line in lines)
    (tmp_path / "list.txt").write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    outcome = run(
        "predict", tiny_model, "--from-file", "-" if standard_input else tmp_path / "list.txt", "-o", tmp_path / "out"
    )
    assert outcome.status == 0
    assert outcome.err.splitlines() == [f"{photos / 'gone.png'}: no such file"]
    line1 = [str(photos / "line1" / name) for name in ("9.png", "10.png", "a.jpg", "a.png")]
    escaped = f"{photos}/\\udcff and space .png"
    assert [row["path"] for row in rows(tmp_path / "out")] == [
        str(photos / "line2/a.png"),
        *line1,
        escaped,
        str(photos / "gone.png"),
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    {
        "neither paths nor list": ([], "no images: give PATHS or --from-file FILE"),
        "no such list": (["--from-file", "nowhere.txt"], "nowhere.txt: no such file; give a text file"),
        "an empty list": (["--from-file", os.devnull], "no image in nothing"),
        "no workers": (["x.png", "--workers", "0"], "--workers"),
        "no such format": (["x.png", "--format", "xlsx"], "parquet"),
    }.values(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_about_the_images_is_one_sentence(run, tiny_model, tmp_path, arguments, sentence):
    outcome = run("predict", tiny_model, *arguments, "-o", tmp_path / "out")
    assert outcome.status == 2
    assert sentence in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_read_list_keeps_lines_as_they_are(tmp_path):
    (tmp_path / "list").write_bytes(b" a.png\nb.png \r\n\n# c.png")
    assert list(read_list(tmp_path / "list")) == [" a.png", "b.png ", "# c.png"]


letters = st.text("aAbB019٣ß. -\udcff", min_size=1, max_size=6).filter(lambda part: part not in (".", ".."))


@given(st.lists(st.lists(letters, min_size=1, max_size=3).map("/".join), max_size=12, unique=True))
def test_natural_order_is_that_of_the_folder_layouts(paths):
    assert sorted(sorted(paths), key=natural_order) == sorted(paths, key=lambda path: natural_key(PurePosixPath(path)))


def replaced_while_scoring(monkeypatch, path: Path, by: np.ndarray) -> None:
    """Another picture takes the file's place once its first version was scored."""
    stream = Detector.predict_iter

    def replacing(self, images, **options):
        for result in stream(self, images, **options):
            if getattr(result, "source", None) == str(path):
                status = path.stat()
                Image.fromarray(by).save(path, compress_level=0)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            yield result

    monkeypatch.setattr(Detector, "predict_iter", replacing)


@pytest.mark.parametrize("size", [(64, 64), (31, 90)], ids=["same size", "another size"])
def test_a_file_replaced_meanwhile_has_the_row_of_its_picture(detector, tmp_path, monkeypatch, size):
    for number in range(3):
        save_image(tmp_path / f"photos/{number}.png", noise(number))
    path = tmp_path / "photos/1.png"
    with monkeypatch.context() as patch:
        replaced_while_scoring(patch, path, stained(1, size=size))
        predict(detector, [tmp_path / "photos"], tmp_path / "out", save_maps="npy")
    (now,) = detector.predict_iter([str(path)])
    row = rows(tmp_path / "out")[1]
    assert (row["verdict"], float(row["score"])) == (now.verdict, pytest.approx(now.score, rel=1e-5))
    with Image.open(tmp_path / "out/heatmaps/1.png") as drawn:
        difference = np.abs(np.array(drawn).astype(int) - np.array(detector.explain(path, now)))
    assert difference.max() <= 1
    assert np.load(tmp_path / "out/maps/1.png.npy").shape == size
    regions = json.loads((tmp_path / "out/regions.json").read_text(encoding="utf-8"))
    assert len(regions[str(path)]) == len(detector.regions(now)) > 0


@pytest.mark.parametrize("kind", ["grey", "colour", "16 bit", "large"])
def test_a_file_that_stays_is_known_again(detector, tmp_path, kind):
    pixels = {
        "grey": noise(1)[..., 0],
        "colour": noise(1),
        "16 bit": noise(1)[..., 0].astype(np.uint16) * 256,
        "large": noise(1, size=(300, 207)),
    }[kind]
    path = save_image(tmp_path / "a.png", pixels)
    (scored,) = detector.predict_iter([path])
    detector.explain(path, scored)
    save_image(path, stained(2))
    with pytest.raises(ImageError, match=r"a\.png: it has changed since it was scored"):
        detector.explain(path, scored)


def test_a_report_is_not_drawn_from_replaced_files(detector, parts, tmp_path):
    evaluation = evaluate(detector, read_data_set(parts))
    save_image(parts / "test/good/0.png", stained(3))
    with pytest.raises(BlemishError, match=r"0\.png: it has changed since it was scored"):
        write_report(evaluation, tmp_path / "page.html")


UNREADABLE = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no picture"),
    "named pipe": lambda path: os.mkfifo(path),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("step", ["overlay", "encode_map"])
def test_pictures_beyond_memory_are_one_row(detector, photos, tmp_path, monkeypatch, step):
    real = getattr(scoring, step)

    def draw(image, *arguments, **options):
        if (image.shape[0] if step == "encode_map" else image.height) == 200:
            raise MemoryError
        return real(image, *arguments, **options)

    monkeypatch.setattr(scoring, step, draw)
    told = []
    prediction = predict(detector, [photos], tmp_path / "out", save_maps="npy", notify=told.append)
    assert (prediction.images, prediction.failed) == (4, 1)
    assert told == [f"{photos}/line1/9.png: too large for this machine's memory; shrink it first"]
    assert rows(tmp_path / "out")[0]["verdict"] == "unreadable"
    assert not [name for name in names(tmp_path / "out") if "9" in name]


@pytest.mark.parametrize(
    "name", ["a.png", "a[1].png", "a*.png", "x" * 300 + ".png", "a.png/b.png", "frob://x/a.png", *UNREADABLE]
)
def test_an_unreadable_file_that_is_named_is_one_row(run, tiny_model, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "good.png", noise(1))
    if name in UNREADABLE:
        UNREADABLE[name](tmp_path / "broken.png")
        name = "broken.png"
    outcome = run("predict", tiny_model, name, "good.png", "-o", "out", "--json")
    assert (outcome.status, outcome.json["images"], outcome.json["failed"]) == (0, 1, 1)
    assert [(row["path"], row["verdict"] == "unreadable") for row in rows(Path("out"))] == [
        (name, True),
        ("good.png", False),
    ]
    assert len(outcome.err.splitlines()) == 1


def test_a_folder_that_cannot_be_read_is_one_row(detector, photos, tmp_path, monkeypatch):
    walk = os.walk

    def refusing(top, *, onerror, **options):
        for folder, subfolders, files in walk(top, onerror=onerror, **options):
            if folder.endswith("line2"):
                onerror(PermissionError(13, "Permission denied", folder))
            else:
                yield folder, subfolders, files

    monkeypatch.setattr("blemish.prediction.listing.os.walk", refusing)
    said: list[str] = []
    prediction = predict(detector, [photos], tmp_path / "out", notify=said.append)
    assert (prediction.images, prediction.failed) == (4, 1)
    assert len(said) == 1
    assert said[0].startswith(f"{photos / 'line2'}: a folder")


@pytest.mark.parametrize("error", [BlemishError("disk full"), KeyboardInterrupt()])
def test_rows_are_kept_when_the_disk_is_full(detector, photos, tmp_path, monkeypatch, error):
    monkeypatch.setattr("blemish.prediction.run.CHUNK", 2)
    written = []

    def failing(picture):
        written.append(picture)
        if len(written) > 2:
            raise error
        return encode_png(picture)

    with monkeypatch.context() as patch:
        patch.setattr("blemish.prediction.engine.encode_png", failing)
        with pytest.raises(type(error)):
            predict(detector, [photos], tmp_path / "out")
    prediction = predict(detector, [photos], tmp_path / "out")
    assert (prediction.resumed, prediction.images) == (2, 5)
