"""Bad input through the command line: one clear sentence each, the rest goes on, nothing half-written stays."""

import csv
import errno
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.images import noise, save_image, stained

GREY = noise(0)[:, :, 0]


def encoded(path: Path, image: Image.Image, **options: object) -> None:
    image.save(path, **options)


def truncated(path: Path) -> None:
    save_image(path, noise(0))
    path.write_bytes(path.read_bytes()[:-2000])


def decompression_bomb(path: Path) -> None:
    """A PNG of a few hundred bytes whose header claims 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))


def animated(path: Path) -> None:
    frames = [Image.fromarray(noise(seed)) for seed in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    Image.fromarray(noise(0, size=(40, 80))).save(path, exif=exif)


def damaged(path: Path) -> None:
    save_image(path, noise(0))
    content = bytearray(path.read_bytes())
    content[200:2000] = bytes(1800)
    path.write_bytes(content)


# Name, how to make it, and the sentence; None where the image is unusual but sound.
IMAGES: dict[str, tuple[str, Callable[[Path], object], str | None]] = {
    "truncated": ("x.png", truncated, "truncated after"),
    "damaged": ("x.png", damaged, "damaged, or truncated after"),
    "zero bytes": ("x.png", lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    "text called .png": ("x.png", lambda path: path.write_text("hello"), "not a PNG, JPEG"),
    "decompression bomb": ("x.png", decompression_bomb, "400,000,000 pixels, above the limit"),
    "broken link": ("x.png", lambda path: path.symlink_to("nowhere"), "no such file"),
    "named pipe": ("x.png", os.mkfifo, "not a regular file"),
    "floating point": (
        "x.tiff",
        lambda path: encoded(path, Image.fromarray(GREY.astype(np.float32))),
        "floating-point",
    ),
    "16 bit": ("x.png", lambda path: encoded(path, Image.fromarray(GREY.astype(np.uint16) * 257)), None),
    "CMYK": ("x.jpg", lambda path: encoded(path, Image.fromarray(noise(0)).convert("CMYK")), None),
    "palette": ("x.png", lambda path: encoded(path, Image.fromarray(noise(0)).convert("P")), None),
    "alpha": ("x.png", lambda path: encoded(path, Image.fromarray(noise(0)).convert("RGBA")), None),
    "1 x 1": ("x.png", lambda path: save_image(path, noise(0, size=(1, 1))), None),
    "1 x 500": ("x.png", lambda path: save_image(path, noise(0, size=(1, 500))), None),
    "EXIF-rotated": ("x.jpg", rotated, None),
    "non-ASCII name": ("Kratzer größer 傷.png", lambda path: save_image(path, noise(0)), None),
    "newline in the name": ("a\nb.png", lambda path: save_image(path, noise(0)), None),
    "name that is no UTF-8": (os.fsdecode(b"\xff\xfe.png"), lambda path: save_image(path, noise(0)), None),
    "markup in the name": ("[red]x.png", lambda path: path.write_bytes(b""), "[red]x.png: empty (0 bytes)"),
}


@pytest.mark.parametrize(("name", "make", "sentence"), IMAGES.values(), ids=IMAGES)
def test_a_bad_image_is_one_line_and_the_rest_is_scored(run, tiny_model, tmp_path, name, make, sentence):
    folder, out = tmp_path / "images", tmp_path / "out"
    save_image(folder / "good.png", noise(1))
    make(folder / name)
    save_image(folder / "stained.png", stained(2))
    outcome = run("predict", tiny_model, folder, "-o", out, "--json")
    assert outcome.status == 0
    with open(out / "scores.csv", encoding="utf-8", newline="") as file:
        verdicts = [row["verdict"] for row in csv.DictReader(file)]
    regions = json.loads((out / "regions.json").read_text(encoding="utf-8"))
    heatmaps = [path for path in (out / "heatmaps").iterdir() if path.suffix == ".png"]
    if sentence is None:
        assert outcome.err == ""
        assert "unreadable" not in verdicts
    else:
        assert sentence in outcome.err
        assert len(outcome.err.splitlines()) == 1
        assert verdicts.count("unreadable") == 1
    assert outcome.json["images"] == len(regions) == len(heatmaps) == 2 + (sentence is None)
    assert outcome.json["failed"] == (sentence is not None)
    assert outcome.json["anomalous"] >= 1  # the stained one, whatever came before it
    assert not list(out.rglob(".*"))


def test_of_several_frames_the_first_is_scored_and_that_is_said(run, tiny_model, tmp_path):
    animated(tmp_path / "x.gif")
    outcome = run("predict", tiny_model, tmp_path / "x.gif", "-o", tmp_path / "out", "--json")
    assert (outcome.status, outcome.json["images"], outcome.json["failed"]) == (0, 1, 0)
    assert "only the first of 3 frames is read" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_rotated_photograph_is_upright_in_its_heatmap(run, tiny_model, tmp_path):
    rotated(tmp_path / "x.jpg")
    run("predict", tiny_model, tmp_path / "x.jpg", "-o", tmp_path / "out", "--save-maps", "npy")
    assert np.load(tmp_path / "out/maps/x.jpg.npy").shape == (80, 40)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_without_permission(run, tiny_model, tmp_path):
    save_image(tmp_path / "good.png", noise(0))
    save_image(tmp_path / "secret.png", noise(1)).chmod(0)
    outcome = run("predict", tiny_model, tmp_path, "-o", tmp_path / "out", "--json")
    assert (outcome.json["images"], outcome.json["failed"]) == (1, 1)
    assert "secret.png: no permission" in outcome.err


@pytest.mark.parametrize("verb", ["doctor", "evaluate", "report"])
@pytest.mark.parametrize(
    ("fault", "sentence"),
    {
        "truncated": (truncated, "truncated after"),
        "bomb": (decompression_bomb, "above the limit"),
        "zero bytes": (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    }.values(),
    ids=["truncated", "bomb", "zero bytes"],
)
def test_a_bad_test_image_is_told_and_the_rest_counts(run, tiny_model, parts, tmp_path, verb, fault, sentence):
    fault(parts / "test/good/x.png")
    outcome = run(*command(verb, tiny_model, parts, tmp_path), "--json")
    assert outcome.status == 0
    if verb == "doctor":
        (problem,) = (one for one in outcome.json["problems"] if one["severity"] == "warning")
        assert sentence in problem["message"]
        assert problem["paths"] == [str(parts / "test/good/x.png")]
    else:
        assert (outcome.json["images"], outcome.json["failed"]) == (5, 1)
        assert outcome.err.count("\n") == 1
        assert f"{parts / 'test/good/x.png'}: " in outcome.err
        assert sentence in outcome.err


def command(verb: str, model: Path, data: Path, tmp_path: Path) -> list[object]:
    return {
        "doctor": ["doctor", data],
        "evaluate": ["evaluate", model, data],
        "report": ["report", model, data, "-o", tmp_path / "report.html"],
    }[verb]


def test_a_mask_of_another_shape_is_told_and_left_out(run, tiny_model, parts):
    mask = save_image(parts / "ground_truth/stain/0_mask.png", np.full((64, 20), 255, dtype=np.uint8))
    outcome = run("evaluate", tiny_model, parts, "--json")
    assert outcome.status == 0
    assert (outcome.json["images"], outcome.json["failed"]) == (5, 1)
    assert outcome.json["pixel_auroc"] is not None  # from the other mask
    assert outcome.err.startswith(f"{mask}: the mask is 64 x 20 but its image is 64 x 64")
    assert "the mask is 64 x 20" in run("doctor", parts).out


def test_a_mask_without_an_image_is_a_note(run, tiny_model, parts):
    save_image(parts / "ground_truth/stain/9_mask.png", np.full((64, 64), 255, dtype=np.uint8))
    assert "1 mask without an image: ground_truth/stain/9_mask.png" in run("doctor", parts).out
    assert run("evaluate", tiny_model, parts).status == 0


def test_a_folder_with_one_image_is_not_ready_and_says_why(run, tmp_path):
    save_image(tmp_path / "one/a.png", noise(0))
    outcome = run("doctor", tmp_path / "one", "--json")
    assert outcome.status == 0
    assert not outcome.json["ready"]
    assert outcome.json["problems"][0]["message"].startswith("1 good training image: training needs at least 2")


def test_only_bad_images_is_status_2_with_the_table_left_to_read(run, tiny_model, tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).write_bytes(b"")
    outcome = run("predict", tiny_model, tmp_path / "images", "-o", tmp_path / "out", "--json")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.splitlines()[-1].startswith("blemish: nothing was scored: 2 files given")
    assert (tmp_path / "out/scores.csv").read_text().count("unreadable") == 2
    assert json.loads((tmp_path / "out/regions.json").read_text()) == {}


def foreign_model(path: Path) -> None:
    """A sound ONNX model that another program made."""
    onnx = pytest.importorskip("onnx")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "text": (lambda path: path.write_text("hello"), "not an ONNX model"),
    "empty": (lambda path: path.write_bytes(b""), "not an ONNX model"),
    "a folder": (lambda path: path.mkdir(), "a folder, not a file"),
    "another program's": (foreign_model, "not one that blemish train wrote"),
}


@pytest.mark.parametrize("verb", ["predict", "evaluate", "report"])
@pytest.mark.parametrize(("make", "sentence"), MODELS.values(), ids=MODELS)
def test_a_bad_model_is_one_sentence(run, parts, tmp_path, make, sentence, verb):
    model = tmp_path / "bad.onnx"
    make(model)
    arguments = {"predict": [parts / "test", "-o", tmp_path / "out"], "evaluate": [parts], "report": [parts]}
    outcome = run(verb, model, *arguments[verb], *(["-o", tmp_path / "r.html"] if verb == "report" else []))
    assert one_sentence(outcome).startswith(f"{model}: ")
    assert sentence in outcome.err
    assert {path.name for path in tmp_path.iterdir()} <= {"bad.onnx", "parts"}


def test_a_model_cut_short_is_one_sentence(run, tiny_model, parts, tmp_path):
    model = tmp_path / "short.onnx"
    model.write_bytes(tiny_model.read_bytes()[:-5000])
    assert "short.onnx: " in one_sentence(run("evaluate", model, parts))


@pytest.mark.parametrize("verb", ["doctor", "evaluate", "report", "predict"])
def test_an_empty_folder_is_one_sentence(run, tiny_model, tmp_path, verb):
    (tmp_path / "empty").mkdir()
    arguments: list[object] = (
        ["predict", tiny_model, tmp_path / "empty", "-o", tmp_path / "out"]
        if verb == "predict"
        else command(verb, tiny_model, tmp_path / "empty", tmp_path)
    )
    assert "no image in" in one_sentence(run(*arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_results_cannot_go_where_a_file_is(run, tiny_model, parts, tmp_path):
    (tmp_path / "out").write_text("mine")
    for place in ("out", "out/deeper"):
        outcome = run("predict", tiny_model, parts / "test", "-o", tmp_path / place)
        assert "a file is in its place" in one_sentence(outcome)
    assert (tmp_path / "out").read_text() == "mine"
    assert "a file is in its place" in one_sentence(run("demo", "-o", tmp_path / "out"))


@pytest.mark.parametrize("verb", ["predict", "report"])
def test_a_full_disk_is_one_sentence_and_nothing_half_written(run, tiny_model, parts, tmp_path, monkeypatch, verb):
    """The disk fills up after the first file has been written; earlier results stay as they were."""
    arguments: dict[str, list[object]] = {
        "predict": ["predict", tiny_model, parts / "test", "-o", tmp_path / "out"],
        "report": ["report", tiny_model, parts, "-o", tmp_path / "report.html"],
    }
    assert run(*arguments[verb]).status == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fill_up(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("blemish.io.files.os.fsync", fill_up)
    another = run(*arguments[verb], "--false-alarm-rate", "0.5")  # would change every file
    assert "the disk is full; free some space" in one_sentence(another)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def one_sentence(outcome) -> str:
    """The one line of a fault, without the program's name."""
    assert (outcome.status, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("blemish: ")
    return line.removeprefix("blemish: ")
