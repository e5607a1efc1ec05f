"""Files with several images in them: the first is read, every verb says so, and predict can score each."""

import csv
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from blemish.imaging.containers import tiff
from blemish.imaging.decoding import open_image
from blemish.imaging.errors import ImageError
from blemish.imaging.frames import Frame
from blemish.imaging.images import read_image, read_picture
from blemish.imaging.opening import frames_kept_open, frames_of
from blemish.model.detector import Detector
from blemish.prediction import predict
from helpers.images import noise, save_image, stained
from helpers.tiff_files import Page, write_tiff

COLOURS = ("red", "lime", "blue")
REMARK = "only the first of 3 frames is read"


def pictures(colours=COLOURS, size=(16, 12)):
    return [Image.new("RGB", size, colour) for colour in colours]


def encoded(kind, images, **options):
    buffer = io.BytesIO()
    several = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(buffer, kind, **several, **options)
    return buffer.getvalue()


def apng_with_a_still():
    """An APNG whose first picture is no part of the animation."""
    return encoded("PNG", pictures(), default_image=True)


def page(colour, tags=None, size=(16, 12)):
    return Page(np.asarray(Image.new("RGB", size, colour)), photometric=2, tags=tags or {})


SEVERAL = {
    "tiff": lambda: encoded("TIFF", pictures()),
    "compressed tiff": lambda: encoded("TIFF", pictures(), compression="tiff_lzw"),
    "bigtiff": lambda: write_tiff(*map(page, COLOURS), big=True),
    "planar tiff": lambda: write_tiff(*(Page(np.asarray(one), photometric=2, planar=True) for one in pictures())),
    "gif": lambda: encoded("GIF", pictures()),
    "apng": lambda: encoded("PNG", pictures()),
    "apng with a still": apng_with_a_still,
    "webp": lambda: encoded("WEBP", pictures(), lossless=True),
    "mpo": lambda: encoded("MPO", pictures(), quality=100),
}


def colour_of(image):
    """The name of an even image's colour."""
    red, green, blue = np.asarray(image).reshape(-1, 3).mean(axis=0)
    return COLOURS[int(np.argmax([red, green, blue]))]


@pytest.mark.parametrize("kind", SEVERAL)
def test_the_first_is_read_and_the_others_are_said(tmp_path, kind):
    (tmp_path / "frames").write_bytes(SEVERAL[kind]())
    picture = read_picture(tmp_path / "frames")
    assert colour_of(picture.image) == "red"
    assert picture.frames == 3
    assert picture.remarks == (f"{tmp_path / 'frames'}: {REMARK}; blemish predict --frames all scores each",)


@pytest.mark.parametrize("kind", SEVERAL)
def test_each_frame_can_be_read(tmp_path, kind):
    (tmp_path / "frames").write_bytes(SEVERAL[kind]())
    frames = frames_of(tmp_path / "frames")
    assert [str(frame) for frame in frames] == [f"{tmp_path / 'frames'}#{number}" for number in (1, 2, 3)]
    # In any order: a frame may depend on those before it.
    for number in (2, 0, 1):
        picture = read_picture(frames[number])
        assert colour_of(picture.image) == COLOURS[number]
        assert picture.remarks == ()


SINGLE = {
    "png": lambda: encoded("PNG", pictures()[:1]),
    "jpeg": lambda: encoded("JPEG", pictures()[:1]),
    "one page": lambda: encoded("TIFF", pictures()[:1]),
    "one frame": lambda: encoded("GIF", pictures()[:1]),
    "thumbnail behind it": lambda: write_tiff(page("red"), page("blue", {254: (4, (1,))}, size=(4, 3))),
    "thumbnail before it": lambda: write_tiff(page("blue", {254: (4, (1,))}, size=(4, 3)), page("red")),
    "thumbnail of an old kind": lambda: write_tiff(page("red"), page("blue", {255: (3, (2,))}, size=(4, 3))),
    "transparency mask": lambda: write_tiff(page("red"), page("blue", {254: (4, (4,))})),
    "pyramid": lambda: write_tiff(
        page("red"), *(page("blue", {254: (4, (1,))}, size=(side, side)) for side in (8, 4, 2))
    ),
    "jpeg with a preview": lambda: jpeg_of_kind(0x010001, (8, 6)),
    "jpeg with a brightness map": lambda: jpeg_of_kind(0x000000, (8, 6)),
}


def jpeg_of_kind(kind, size):
    """A JPEG with a second picture of a kind that its index (MPF) names."""
    content = bytearray(encoded("MPO", pictures(("red",)) + pictures(("blue",), size)))
    index = content.index(b"MPF\0") + 4  # a little-endian TIFF directory
    for field in range(index + 10, index + 10 + 12 * content[index + 8], 12):
        if int.from_bytes(content[field : field + 2], "little") == 0xB002:
            entries = index + int.from_bytes(content[field + 8 : field + 12], "little")
            content[entries + 16 : entries + 20] = kind.to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize("kind", SINGLE)
def test_thumbnails_and_reduced_copies_are_no_frames(tmp_path, kind):
    (tmp_path / "image").write_bytes(SINGLE[kind]())
    picture = read_picture(tmp_path / "image")
    assert colour_of(picture.image) == "red"
    assert picture.remarks == ()
    assert len(frames_of(tmp_path / "image")) == 1


@pytest.mark.parametrize("kind", [0x020001, 0x020002, 0x020003, 0x000000])
def test_a_second_picture_of_the_same_size_is_a_frame(tmp_path, kind):
    (tmp_path / "image").write_bytes(jpeg_of_kind(kind, (16, 12)))
    assert [colour_of(read_image(frame)) for frame in frames_of(tmp_path / "image")] == ["red", "blue"]


def test_a_frame_that_is_not_there():
    with pytest.raises(Exception, match="it has no frame 4, only 3"):
        open_image(io.BytesIO(SEVERAL["tiff"]()), frame=4)


def test_a_lazy_pil_image_is_remarked_on_at_its_first_frame_only(tmp_path):
    (tmp_path / "frames.tif").write_bytes(SEVERAL["tiff"]())
    with Image.open(tmp_path / "frames.tif") as image:
        assert REMARK in read_picture(image).remarks[0]
    with Image.open(tmp_path / "frames.tif") as image:
        image.seek(1)
        picture = read_picture(image)
        assert (colour_of(picture.image), picture.remarks) == ("lime", ())


def test_more_frames_than_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("blemish.imaging.containers.tiff.MAX_FRAMES", 2)
    (tmp_path / "frames.tif").write_bytes(SEVERAL["tiff"]())
    with pytest.raises(ImageError, match="more than 2 frames; split it"):
        frames_of(tmp_path / "frames.tif")


# ---- scoring ------------------------------------------------------------------------------------------


def save_pages(path, *arrays, **options):
    first, *others = map(Image.fromarray, arrays)
    first.save(path, save_all=True, append_images=others, **options)


def rows(out):
    with open(out / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def stack(tmp_path):
    """A TIFF whose second page alone has a stain, beside an ordinary image."""
    folder = tmp_path / "line3"
    save_image(folder / "plain.png", noise(1))
    save_pages(folder / "a.tif", noise(2), stained(3))
    return folder


def test_predict_says_that_the_first_frame_alone_is_read(run, tiny_model, stack, tmp_path):
    outcome = run("predict", tiny_model, stack, "-o", tmp_path / "out", "--no-heatmaps")
    assert outcome.status == 0
    assert outcome.err.count("only the first of 2 frames is read; blemish predict --frames all") == 1
    assert [Path(row["path"]).name for row in rows(tmp_path / "out")] == ["a.tif", "plain.png"]


def test_predict_makes_each_frame_a_row(run, tiny_model, stack, tmp_path):
    out = tmp_path / "out"
    outcome = run("predict", tiny_model, stack, "-o", out, "--frames", "all", "--save-maps", "npy")
    assert outcome.status == 0
    assert "frames" not in outcome.err
    names = [str(stack / name) for name in ("a.tif#1", "a.tif#2", "plain.png")]
    assert [row["path"] for row in rows(out)] == names
    alone = Detector.load(tiny_model).score([noise(2), stained(3), noise(1)])
    assert [float(row["score"]) for row in rows(out)] == pytest.approx(alone.scores.tolist())
    assert set(json.loads((out / "regions.json").read_text())) == set(names)
    for folder, suffix in (("heatmaps", "png"), ("maps", "npy")):
        found = {path.name for path in (out / folder).iterdir() if not path.name.startswith(".")}
        assert {f"a.tif#1.{suffix}", f"a.tif#2.{suffix}"} <= found
        assert len(found) == 3
    np.testing.assert_allclose(np.load(out / "maps/a.tif#2.npy"), alone.maps[1], rtol=1e-5)


def test_names_that_end_in_a_number_stay_apart(tiny_model, tmp_path):
    folder = tmp_path / "parts"
    save_image(folder / "plain.png", noise(1))
    save_pages(folder / "a.tif", noise(2), noise(3), format="TIFF")
    (folder / "a.tif#2").write_bytes((folder / "plain.png").read_bytes())
    save_pages(folder / "b#2", noise(4), noise(5), format="TIFF")
    images = [folder / "a.tif", folder / "a.tif#2", folder / "b#2", folder / "plain.png"]
    predict(Detector.load(tiny_model), images, tmp_path / "out", frames="all")
    names = [Path(row["path"]).name for row in rows(tmp_path / "out")]
    assert names == ["a.tif#1", "a.tif#2", "a.tif#2#1", "b#2#1", "b#2#2", "plain.png"]
    pictures = {path.name for path in (tmp_path / "out/heatmaps").iterdir() if not path.name.startswith(".")}
    assert pictures == {*(f"{name}.png" for name in names[:-1]), "plain.png"}
    predict(Detector.load(tiny_model), images, tmp_path / "first")
    assert [Path(row["path"]).name for row in rows(tmp_path / "first")] == [path.name for path in images]


def test_a_killed_run_over_frames_goes_on(tiny_model, stack, tmp_path):
    detector, out = Detector.load(tiny_model), tmp_path / "out"

    def die(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(detector, [stack], out, frames="all", progress=die)
    told = []
    prediction = predict(detector, [stack], out, frames="all", notify=told.append)
    assert prediction.resumed == 3
    assert prediction.images == 3
    with pytest.raises(KeyboardInterrupt):
        predict(detector, [stack], out, frames="all", progress=die)
    prediction = predict(detector, [stack], out, notify=told.append)
    assert prediction.resumed == 0
    assert prediction.images == 2
    assert any("other options" in sentence for sentence in told)


def test_a_changed_file_is_scored_again_in_all_its_frames(tiny_model, stack, tmp_path):
    detector, out = Detector.load(tiny_model), tmp_path / "out"

    def die(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(detector, [stack], out, frames="all", progress=die)
    save_pages(stack / "a.tif", noise(7), noise(8), noise(9))
    prediction = predict(detector, [stack], out, frames="all")
    assert (prediction.resumed, prediction.images) == (1, 4)


def test_a_damaged_file_and_a_damaged_page_are_rows(tiny_model, stack, tmp_path):
    (stack / "broken.tif").write_bytes(b"no image")
    content = bytearray((stack / "a.tif").read_bytes())
    (stack / "cut.tif").write_bytes(bytes(content[: len(content) - 2_000]))
    told = []
    prediction = predict(
        Detector.load(tiny_model), [stack], tmp_path / "out", frames="all", heatmaps=False, notify=told.append
    )
    verdicts = {Path(row["path"]).name: row["verdict"] for row in rows(tmp_path / "out")}
    assert verdicts["broken.tif"] == "unreadable"
    assert prediction.failed >= 1
    assert all(told)


def test_ray_carries_frames(tiny_model, stack):
    pyarrow = pytest.importorskip("pyarrow")
    from blemish.prediction.engine import Item
    from blemish.prediction.outputs import OutputPaths
    from blemish.prediction.ray_engine import ITEM_TYPES, Job, ScoreChunk, _as_table, _columns

    actor = ScoreChunk(Job("m.onnx", tiny_model.read_bytes(), None, folder="nowhere", out="nowhere"))
    items = [
        Item(1, f"{stack}/a.tif#2", OutputPaths(None, None), 2),
        Item(2, f"{stack}/plain.png", OutputPaths(None, None)),
    ]
    table = _as_table(_columns(items), ITEM_TYPES)
    assert isinstance(table, pyarrow.Table)
    found = [row["score"] for row in actor(table).to_pylist()]
    assert found == pytest.approx(Detector.load(tiny_model).score([stained(3), noise(1)]).scores.tolist())


def test_the_detector_scores_frames(tiny_model, stack):
    detector = Detector.load(tiny_model)
    both = detector.score(frames_of(stack / "a.tif"))
    np.testing.assert_allclose(both.scores, detector.score([noise(2), stained(3)]).scores)
    one = detector.score(Frame(str(stack / "a.tif"), 2))
    np.testing.assert_allclose(one.scores, both.scores[1:], rtol=1e-5)
    first, second = detector.predict_iter(frames_of(stack / "a.tif"))
    assert (first.source, second.source) == (f"{stack}/a.tif#1", f"{stack}/a.tif#2")
    assert detector.explain(Frame(str(stack / "a.tif"), 2), second).size[0] >= 64


def test_doctor_warns_once_with_the_number(run, parts):
    for name in ("train/good/0.tif", "train/good/1.tif", "test/good/9.tif"):
        save_pages(parts / name, noise(len(name)), noise(5))
    outcome = run("doctor", parts, "--json")
    (problem,) = [one for one in outcome.json["problems"] if "frames" in one["message"]]
    assert problem["severity"] == "warning"
    assert problem["message"].startswith("3 images with several frames, of which only the first is used")
    assert len(problem["paths"]) == 3


def test_training_says_once_that_the_first_frame_alone_is_learned_from(parts):
    from blemish.datasets.layouts import read_data_set
    from blemish.datasets.pixels import read_pixels

    save_pages(parts / "train/good/8.tif", noise(8), stained(8))
    save_pages(parts / "train/good/9.tif", noise(9), stained(9))
    told = []
    pixels = read_pixels(read_data_set(parts).train, (64, 64), progress=lambda *_: None, notify=told.append)
    assert len(pixels.samples) == 6
    (sentence,) = told
    assert sentence.startswith("2 images with several frames, of which only the first is used: ")
    assert "8.tif" in sentence


def test_evaluate_says_that_the_first_frame_alone_is_scored(run, tiny_model, parts):
    save_pages(parts / "test/good/9.tif", noise(9), stained(9))
    outcome = run("evaluate", tiny_model, parts)
    assert outcome.err.count("9.tif: only the first of 2 frames is read") == 1


def test_the_servers_decoder_remarks_on_it():
    from blemish.serving.decoding import decode

    order = {"name": "a.tif", "most_pixels": 10_000, "size": (64, 64), "reading": {}, "picture": False}
    head, _ = decode(order, SEVERAL["tiff"]())
    assert list(head["remarks"]) == [f"a.tif: {REMARK}; blemish predict --frames all scores each"]


# All frames, one after the other


MANY = tuple(COLOURS[number % 3] for number in range(40))


def count_calls(monkeypatch, owner, name):
    """A list that gets an entry for each call of a method or function."""
    calls, original = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given, **options: calls.append(given) or original(*given, **options))
    return calls


@pytest.mark.parametrize("kind", SEVERAL)
def test_frames_of_a_file_that_stays_open_are_the_same_in_any_order(tmp_path, kind):
    (tmp_path / "frames").write_bytes(SEVERAL[kind]())
    frames = frames_of(tmp_path / "frames")
    expected = [np.asarray(read_image(frame)) for frame in frames]
    with frames_kept_open():
        for number in (0, 1, 2, 1, 1, 2, 0, 2):
            np.testing.assert_array_equal(np.asarray(read_image(frames[number])), expected[number])


@pytest.mark.parametrize(
    ("kind", "owner", "method"),
    [
        ("GIF", GifImagePlugin.GifImageFile, "_seek"),
        ("PNG", PngImagePlugin.PngImageFile, "_seek"),
        ("WEBP", WebPImagePlugin.WebPImageFile, "_get_next"),
        ("TIFF", TiffImagePlugin.TiffImageFile, "_seek"),
        ("TIFF", tiff, "read_page"),
    ],
)
def test_the_work_for_all_frames_grows_with_their_number_not_with_its_square(
    tmp_path, monkeypatch, kind, owner, method
):
    options = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "frames").write_bytes(encoded(kind, pictures(MANY), **options))
    frames = frames_of(tmp_path / "frames")
    assert len(frames) == len(MANY)
    calls = count_calls(monkeypatch, owner, method)
    with frames_kept_open():
        assert [colour_of(read_image(frame)) for frame in frames] == list(MANY)
    assert len(calls) <= 4 * len(MANY)


def test_several_threads_decode_each_frame_at_most_once_each(tmp_path, monkeypatch):
    (tmp_path / "frames").write_bytes(encoded("GIF", pictures(MANY)))
    frames = frames_of(tmp_path / "frames")
    calls = count_calls(monkeypatch, GifImagePlugin.GifImageFile, "_seek")
    with frames_kept_open(), ThreadPoolExecutor(3) as pool:
        assert [colour_of(image) for image in pool.map(read_image, frames)] == list(MANY)
    assert len(calls) <= 4 * 3 * len(MANY)


def test_predict_decodes_all_frames_a_few_times_each(tiny_model, tmp_path, monkeypatch):
    many = [Image.new("RGB", (16, 12), (4 * number, 255 - 4 * number, 0)) for number in range(64)]
    (tmp_path / "frames.gif").write_bytes(encoded("GIF", many))
    calls = count_calls(monkeypatch, GifImagePlugin.GifImageFile, "_seek")
    found = predict(Detector.load(tiny_model), tmp_path / "frames.gif", tmp_path / "out", frames="all")
    assert found.images == len(many)
    assert len(calls) <= 20 * len(many)  # each thread that reads decodes them once; one by one it would be 64 times


def test_no_file_stays_open_behind_the_block_and_a_changed_one_is_read_anew(tmp_path):
    path = tmp_path / "frames"
    path.write_bytes(encoded("GIF", pictures()))
    first, second = frames_of(path)[:2]
    with frames_kept_open():
        assert colour_of(read_image(first)) == "red"
        path.write_bytes(encoded("GIF", pictures(("blue", "lime", "blue", "red"))))
        assert colour_of(read_image(second)) == "lime"
    open_files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert str(path) not in open_files
