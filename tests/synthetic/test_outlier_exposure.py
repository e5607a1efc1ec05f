import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from blemish.errors import BlemishError
from blemish.synthetic.outlier_exposure import OutlierFolder


def save(path, *, value=0, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Ten plain images of values 0, 20, …, 180, in nested folders, beside what is not an image."""
    for index in range(10):
        save(
            tmp_path / ("a" if index % 2 else "b/c") / f"{index}.{'PNG' if index % 3 else 'bmp'}",
            value=20 * index,
        )
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_every_image_below_the_folder_is_drawn_equally_often(folder):
    outliers, rng = OutlierFolder(folder), np.random.default_rng(0)
    assert len(outliers) == 10
    values = [int(outliers.sample(rng, (8, 8))[0, 0, 0]) for _ in range(1000)]
    for value in range(0, 200, 20):
        assert abs(values.count(value) - 100) < 4 * np.sqrt(1000 * 0.1 * 0.9)


def test_a_seed_fixes_the_samples(folder):
    first, second = (
        [OutlierFolder(folder).sample(rng, (16, 12)).tolist() for _ in range(5)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert first == second


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 300), st.integers(20, 300), st.integers(8, 96), st.integers(8, 96), st.integers(0, 99))
def test_samples_have_the_size_asked_for_and_come_from_inside(tmp_path_factory, height, width, h, w, seed):
    root = tmp_path_factory.mktemp("outliers")
    save(root / "x.png", value=77, size=(width, height))
    crop = OutlierFolder(root).sample(np.random.default_rng(seed), (h, w))
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, np.full((h, w, 3), 77))


@pytest.mark.parametrize("size", [(900, 300), (300, 900), (90, 30), (300, 300)], ids=str)
def test_a_circle_stays_a_circle_and_the_crop_is_as_large_as_can_be(tmp_path, size):
    image = Image.new("RGB", size)
    short = min(size)
    for left in range(0, size[0], short):
        for top in range(0, size[1], short):
            ImageDraw.Draw(image).ellipse((left, top, left + short - 1, top + short - 1), fill="white")
    image.save(tmp_path / "circles.png")
    outliers, rng = OutlierFolder(tmp_path), np.random.default_rng(0)
    for _ in range(20):
        white = outliers.sample(rng, (60, 60))[..., 0] > 127  # one whole period of circles, cut anywhere
        assert white.mean() == pytest.approx(np.pi / 4, abs=0.02)
        rows, cols = white.mean(axis=1), white.mean(axis=0)
        np.testing.assert_allclose(np.sort(rows), np.sort(cols), atol=0.05)


def test_crops_come_from_all_along_the_image(tmp_path):
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (64, 256, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    outliers, rng = OutlierFolder(tmp_path), np.random.default_rng(0)
    middles = np.array([outliers.sample(rng, (64, 64)).mean() for _ in range(300)])
    assert middles.min() < 36
    assert middles.max() > 219
    assert middles.mean() == pytest.approx(127.5, abs=12)


def test_unreadable_files_are_skipped_and_recorded(folder):
    broken = {folder / "broken.jpg", folder / "a" / "empty.png"}
    for path in broken:
        path.write_bytes(b"not an image" if path.suffix == ".jpg" else b"")
    outliers, rng = OutlierFolder(folder), np.random.default_rng(0)
    assert len(outliers) == 12
    for _ in range(200):
        outliers.sample(rng, (8, 8))
    assert set(outliers.unreadable) == broken
    assert len(outliers.unreadable) == 2
    assert len(outliers) == 10


def test_only_unreadable_files_are_an_error_that_names_one(tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    outliers = OutlierFolder(tmp_path)
    for _ in range(2):
        with pytest.raises(BlemishError, match=r"none of its 1 outlier images can be read, such as torn\.png"):
            outliers.sample(np.random.default_rng(0), (8, 8))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such folder; give"),
        ("notes.txt", "no such folder; give"),
        ("folder.png", "holds no images; put"),
    ],
    ids=["missing", "file", "empty"],
)
def test_unfit_folders_are_refused(folder, name, message):
    with pytest.raises(BlemishError, match=message):
        OutlierFolder(folder / name)


def test_no_pixels_are_kept(tmp_path):
    for index in range(8):
        save(tmp_path / f"{index}.png", size=(256, 256))
    outliers, rng = OutlierFolder(tmp_path), np.random.default_rng(0)
    outliers.sample(rng, (256, 256))
    tracemalloc.start()
    try:
        for _ in range(24):
            outliers.sample(rng, (256, 256))
        kept, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 256 * 256 * 3  # less than a single image of the 24
