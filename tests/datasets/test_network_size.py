"""The network size that images of a shape get by default, from their headers to a model at an oblong size."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.datasets.network_size import MIN_SIDE, MULTIPLE, Shape
from blemish.imaging.headers import upright_size, upright_sizes
from blemish.imaging.images import read_image
from blemish.model.detector import Detector
from blemish.networks.alignment import Alignment, Frame, Silhouettes
from blemish.synthetic.augment import Invariances
from blemish.training.config import TrainConfig
from blemish.training.steps.alignment import decide_alignment
from helpers.hammers import SIDE, pictures
from helpers.images import noise, save_image
from helpers.model_files import with_changes

# The choice


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([], (256, 256)),
        ([(384, 384)], (256, 256)),
        ([(1, 1)], (256, 256)),
        ([(700, 700), (90, 90), (1001, 1000)], (256, 256)),
        ([(512, 8192)], (64, 1024)),
        ([(8192, 512)], (1024, 64)),
        ([(1080, 1920)], (192, 352)),
        ([(1920, 1080)], (352, 192)),
        ([(480, 640), (768, 1024)], (224, 288)),
        ([(2000, 3000)], (224, 320)),
        ([(500, 1000)], (192, 384)),
        ([(256, 1024)], (128, 512)),
        ([(100, 650)], (96, 640)),
        ([(100, 100_000)], (64, 1024)),  # nothing is squashed thinner
        ([(480, 640)] * 19 + [(640, 480)], (224, 288)),  # a few odd ones
        ([(480, 640)] * 10 + [(640, 480)] * 10, (256, 256)),  # some upright, some lying
        ([(480, 640)] * 16 + [(640, 480)] * 4, (256, 256)),
        ([(500, 1000)] * 5 + [(500, 2000)] * 5, (192, 384)),  # the one nearer to a square
    ],
)
def test_the_network_has_the_shape_of_the_images(sizes: list[tuple[int, int]], wanted: tuple[int, int]) -> None:
    assert Shape.of(sizes).network_size() == wanted


sides = st.integers(1, 20_000)


@given(height=sides, width=sides, times=st.integers(1, 5), images=st.integers(1, 7))
def test_any_shape_has_a_size_as_large_as_a_square(height: int, width: int, times: int, images: int) -> None:
    rows, columns = Shape.of([(height, width)] * images).network_size()
    assert rows % MULTIPLE == columns % MULTIPLE == 0
    assert min(rows, columns) >= MIN_SIDE
    assert 1 / 1.34 < rows * columns / 256**2 < 1.34
    if 1 / 16 <= height / width <= 16:
        assert 1 / 1.17 < (rows / columns) / (height / width) < 1.17
    assert Shape.of([(width, height)]).network_size() == (columns, rows)  # turned alike
    assert Shape.of([(times * height, times * width)]).network_size() == (rows, columns)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=12))
def test_the_shape_lies_among_those_of_the_images(sizes: list[tuple[int, int]]) -> None:
    shape, ratios = Shape.of(sizes), [height / width for height, width in sizes]
    assert min(ratios) <= shape.ratio <= max(ratios)
    assert shape.ratio in ratios or shape.ratio == 1
    assert Shape.of(sizes[::-1]).ratio == shape.ratio


@pytest.mark.parametrize(
    ("sizes", "size", "words"),
    [
        ([(100, 100)], (256, 256), None),
        ([], (256, 256), None),
        ([(1080, 1920)], (192, 352), None),
        ([(1080, 1920)], (256, 256), "are 1 : 1.78 .* squashed to 256 x 256: a size of 192x352 keeps their shape"),
        ([(100, 100)], (64, 1024), "are 1 : 1 .* squashed to 64 x 1024: a size of 256x256"),
        ([(9000, 300)], (1024, 64), "are 30 : 1 .* squashed to 1024 x 64: cut such long ones into pieces"),
        ([(480, 640)] * 5 + [(640, 480)] * 5, (256, 256), "several shapes, 1 : 1.33 to 1.33 : 1 .*: 10 of 10 are dist"),
        ([(480, 640)] * 5 + [(480, 480)] * 5, (256, 256), "several shapes, 1 : 1.33 to 1 : 1 .*: 5 of 10 are dist"),
        ([(480, 640)] * 19 + [(640, 480)], (224, 288), "1 of 20 images have another shape"),
        ([(200, 210), (210, 200)], (256, 256), None),
    ],
)
def test_distortion_is_said(sizes: list[tuple[int, int]], size: tuple[int, int], words: str | None) -> None:
    remark = Shape.of(sizes).remark(size)
    if words is None:
        assert remark is None
    else:
        assert remark is not None
        assert re.search(words, remark)


@pytest.mark.parametrize(
    ("sizes", "size", "aspect"),
    [
        ([(300, 300)], (256, 256), 1),
        ([(300, 303)], (256, 256), 1),  # hardly
        ([(1080, 1920)], (256, 256), 1080 / 1920),
        ([(1080, 1920)], (192, 352), 1.03125),
        ([(512, 8192)], (64, 1024), 1),
        ([(480, 640)] * 5 + [(640, 480)] * 5, (256, 256), 1),  # no one number holds for all
        ([(480, 640)] * 5 + [(640, 480)] * 5, (128, 512), 1),
    ],
)
def test_how_high_a_pixel_is(sizes: list[tuple[int, int]], size: tuple[int, int], aspect: float) -> None:
    assert Shape.of(sizes).pixel_aspect(size) == pytest.approx(aspect)


@pytest.mark.parametrize("multiple", [14, 16, 32, 64])
@pytest.mark.parametrize("own", [(100, 100), (54, 96), (1000, 100)])
def test_other_networks_have_other_multiples(own: tuple[int, int], multiple: int) -> None:
    shape = Shape.of([own])
    rows, columns = shape.network_size(multiple)
    assert rows % multiple == columns % multiple == 0
    assert min(rows, columns) >= MIN_SIDE
    if 32 % multiple == 0:
        assert (rows, columns) == shape.network_size()
    assert 0.5 < rows * columns / 256**2 < 2


# Sizes of files


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "gif", "pgm"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_a_size_is_that_of_the_upright_image(suffix: str, orientation: int | None, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    options: dict[str, Any] = {}
    if orientation is not None and suffix in ("png", "jpg", "tif", "webp"):
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif
    image = Image.fromarray(noise(1, size=(20, 50)))
    (image.convert("L") if suffix == "pgm" else image).save(path, **options)
    shown = read_image(path)
    assert upright_size(path) == (shown.height, shown.width)


def test_no_pixel_is_decoded_for_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save_image(tmp_path / f"a.{suffix}", noise(1, size=(20, 50))) for suffix in ("png", "jpg", "tif", "bmp")]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    assert upright_sizes(paths) == [(20, 50)] * 4


def test_what_cannot_be_read_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [tmp_path / name for name in ("text.png", "empty.png", "missing.png")]
    assert upright_sizes([*paths, save_image(tmp_path / "a.png", noise(1))]) == [None, None, None, (64, 64)]


# Turning in undistorted pixels


def squashed(images: np.ndarray, width: int) -> np.ndarray:
    return np.stack([np.array(Image.fromarray(one).resize((width, SIDE), Image.Resampling.BILINEAR)) for one in images])


def errors(aspect: float, width: int) -> np.ndarray:
    """Degrees by which directions of squashed parts are off, but for what all have in common; none where none turn."""
    found = decide_alignment(squashed(pictures(24)[0], width), range(24), aspect=aspect).fitted
    if found is None:
        return np.array([180.0])
    new, angles, _ = pictures(40, seed=1)
    with torch.inference_mode():
        poses = found.alignment.poses(torch.from_numpy(squashed(new, width))).numpy()
    off = (poses[:, 2] + 1j * poses[:, 3]) / np.exp(1j * np.deg2rad(angles))
    return np.rad2deg(abs(np.angle(off / off.mean())))


@pytest.mark.parametrize("width", [64, 96, 192])
def test_squashed_parts_are_turned_as_they_lie(width: int) -> None:
    aspect = width / SIDE
    assert errors(aspect, width).max() < 4
    assert errors(aspect, width).max() < errors(1.0, width).max() / 2


def test_what_is_upright_is_alike_although_it_is_squashed() -> None:
    images = squashed(pictures(24)[0], 64)
    spread = {}
    for aspect in (0.5, 1.0):
        found = decide_alignment(images, range(24), aspect=aspect).fitted
        if found is not None:
            pixels = torch.from_numpy(images)
            spread[aspect] = float(found.alignment.to_canonical(pixels, found.alignment.poses(pixels)).std(0).mean())
    assert spread[0.5] < 0.35 * images.std(0).mean()
    assert spread[0.5] < 0.8 * spread.get(1.0, np.inf)


@given(
    angle=st.floats(0, 6.28),
    aspect=st.sampled_from([0.3, 0.5625, 1.0, 2.0]),
    zoom=st.floats(0.5, 1.25),
    off=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
)
def test_the_way_back_undoes_the_way_there(angle: float, aspect: float, zoom: float, off: tuple[float, float]) -> None:
    size = (64, 96)
    alignment = Alignment(
        Silhouettes(size, 30.0), torch.rand(120, 24), radius=20.0, size=size, frame=Frame(*off, zoom), aspect=aspect
    )
    pose = torch.tensor([[30.0, 50.0, np.cos(angle), np.sin(angle)]])
    rows, columns = alignment._in_image(pose)
    # The same by hand: stretched to square pixels, turned, squashed again.
    places = zoom * (np.indices(size).reshape(2, -1) - [[31.5], [47.5]]) + np.array([[off[0]], [off[1]]])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    stretch = np.diag([aspect, 1.0])
    wanted = np.linalg.inv(stretch) @ turn @ stretch @ places + np.array([[30.0], [50.0]])
    found = torch.stack([rows[0], columns[0]]).reshape(2, -1).numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    alignment.rows, alignment.columns = rows[0], columns[0]  # now of those places in the picture
    back = torch.stack([half[0] for half in alignment._in_picture(pose)]).numpy()
    np.testing.assert_allclose((back - 0.5) / 2, np.indices(size), atol=0.02)


@given(seed=st.integers(0, 99), aspect=st.floats(0.2, 5))
def test_copies_of_squashed_images_are_squashed_copies(seed: int, aspect: float) -> None:
    plain = Invariances(max_zoom=0.15, max_shift=0.05).draw(np.random.default_rng(seed), (60, 80))
    there = Invariances(max_zoom=0.15, max_shift=0.05, aspect=aspect).draw(np.random.default_rng(seed), (60, 80))
    stretch = np.diag([aspect, 1.0])
    np.testing.assert_allclose(there.matrix, np.linalg.inv(stretch) @ plain.matrix @ stretch, rtol=1e-9)
    np.testing.assert_array_equal(there.shift, plain.shift)


# Training


def write_web(root: Path, size: tuple[int, int], *, good: int = 8) -> Path:
    for index in range(good):
        save_image(root / f"train/good/{index}.png", noise(index, size=size))
    for index in range(3):
        save_image(root / f"test/good/{index}.png", noise(50 + index, size=size))
        spot = noise(60 + index, size=size)
        spot[10:40, size[1] // 2 : size[1] // 2 + 30] = 0
        save_image(root / f"test/spot/{index}.png", spot)
        mask = np.zeros(size, np.uint8)
        mask[10:40, size[1] // 2 : size[1] // 2 + 30] = 255
        save_image(root / f"ground_truth/spot/{index}_mask.png", mask)
    return root


@pytest.mark.parametrize(
    ("ratio", "size", "words"),
    [
        (1.0, (64, 64), None),
        (1.0, (70, 64), None),
        (1.0, (64, 128), "its shape is 1 : 2 (height : width), that of the images that the model was trained on 1 : 1"),
        (0.5, (64, 128), None),
        (0.5, (128, 64), "its shape is 2 : 1 (height : width), that of the images that the model was trained on 1 : 2"),
        (None, (64, 128), None),  # trained on several shapes, or before this was kept
    ],
)
def test_a_scored_image_of_another_shape_is_said(
    ratio: float | None, size: tuple[int, int], words: str | None, tiny_model: Path, tmp_path: Path
) -> None:
    model = with_changes(tiny_model, tmp_path / "m.onnx", settings={"image_ratio": ratio})
    detector = Detector.load(model)
    (scored,) = detector.predict_iter([save_image(tmp_path / "a.png", noise(1, size=size))])
    assert len(scored.remarks) == (words is not None)
    assert words is None or f"a.png: {words}: " in scored.remarks[0]


def test_the_command_line_takes_auto_and_refuses_words(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def learn(data: Path, output: Path, config: TrainConfig, **options: Any) -> None:
        asked.append(config.size)
        raise KeyboardInterrupt

    monkeypatch.setattr("blemish.train", learn)
    for words in ((), ("--size", "AUTO"), ("--size", "64x96"), ("--size", "128")):
        run("train", tmp_path, "-o", tmp_path / "m.onnx", *words)
    assert asked == ["auto", "auto", (64, 96), (128, 128)]
    refused = run("train", tmp_path, "-o", tmp_path / "m.onnx", "--size", "square")
    assert refused.status == 2
    assert "give auto, N or HxW" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize("own", [(64, 1024), (1040, 60), (90, 600)])
def test_a_model_of_long_images_does_everything(own: tuple[int, int], tmp_path: Path, run: Callable[..., Any]) -> None:
    web, model = write_web(tmp_path / "web", own, good=10), tmp_path / "m.onnx"
    if own[0] > own[1]:
        web = write_web(tmp_path / "tall", own, good=10)
    assert run("train", web, "-o", model, "--epochs", "2").status == 0
    detector = Detector.load(model)
    assert min(detector.metadata.size) < 128 < 512 < max(detector.metadata.size)
    out = tmp_path / "out"
    assert run("predict", model, web / "test", "-o", out, "--save-maps", "npy").status == 0
    raw = np.load(next((out / "maps").rglob("spot/0*.npy")))
    assert raw.shape == own
    row, column = np.unravel_index(raw.argmax(), own)
    assert 5 <= row < 45
    assert own[1] // 2 - 5 <= column < own[1] // 2 + 35
    regions = json.loads((out / "regions.json").read_text("utf-8"))
    assert regions
    figures = run("evaluate", model, web, "--json")
    assert figures.json["pixel_auroc"] > 0.95
    assert run("report", model, web, "-o", tmp_path / "report.html").status == 0
    assert run("info", model, "-o", tmp_path / "card.html").status == 0
