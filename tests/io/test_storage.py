"""Images behind a URL are read as those on the disk, whatever the storage."""

import sys

import numpy as np
import pytest

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.images import read_image
from blemish.io.storage import is_url
from blemish.model.detector import Detector
from blemish.prediction import find_images, predict
from helpers.images import noise, save_image, stained
from helpers.results import names, rows

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def bucket(tmp_path):
    """Four objects in a storage in memory, with the same files on the disk."""
    storage = fsspec.filesystem("memory")
    for name, pixels in (("line1/10.png", noise(1)), ("line1/9.png", stained(2)), ("line2/a.jpg", noise(3))):
        storage.pipe(f"/bucket/{name}", save_image(tmp_path / "disk" / name, pixels).read_bytes())
    storage.pipe("/bucket/line2/notes.txt", b"no image")
    yield "memory://bucket"
    storage.store.clear()


def test_a_storage_gives_the_rows_and_pictures_of_the_disk(tiny_model, bucket, tmp_path):
    detector = Detector.load(tiny_model)
    predict(detector, [bucket], tmp_path / "remote", save_maps="npy")
    predict(detector, [tmp_path / "disk"], tmp_path / "local", save_maps="npy")
    files = names(tmp_path / "remote")
    assert files == names(tmp_path / "local")
    for name in files:
        if name.startswith(("heatmaps/", "maps/")):
            assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    remote, local = rows(tmp_path / "remote"), rows(tmp_path / "local")
    assert [row.pop("path") for row in remote] == [
        f"memory:///bucket/{name}" for name in ("line1/9.png", "line1/10.png", "line2/a.jpg")
    ]
    assert [row.pop("path") for row in local]
    assert remote == local


@pytest.mark.parametrize(
    ("path", "found"),
    {
        "memory://bucket/*/*.png": ["line1/9.png", "line1/10.png"],
        "memory://bucket/line?": ["line1/9.png", "line1/10.png", "line2/a.jpg"],
        "memory://bucket/line2": ["line2/a.jpg"],
        "memory://bucket/line2/notes.txt": ["line2/notes.txt"],
        "memory://bucket/gone.png": ["gone.png"],
    }.items(),
)
def test_folders_patterns_and_names(bucket, path, found):
    images = [image.replace("memory:///", "memory://") for image in find_images([path])]
    assert images == [f"{bucket}/{name}" for name in found]


def test_a_missing_object_is_an_unreadable_image(bucket):
    with pytest.raises(ImageError, match=r"memory://bucket/gone\.png: no such file"):
        read_image(f"{bucket}/gone.png")


def test_an_empty_and_a_broken_object(bucket):
    fsspec.filesystem("memory").pipe({"/bucket/empty.png": b"", "/bucket/broken.png": b"hello"})
    with pytest.raises(ImageError, match=r"empty \(0 bytes\)"):
        read_image(f"{bucket}/empty.png")
    with pytest.raises(ImageError, match=r"broken\.png: not a PNG"):
        read_image(f"{bucket}/broken.png")


def test_a_library_with_exceptions_of_its_own_is_one_unreadable_image(bucket, monkeypatch):
    def fail(*_: object, **__: object) -> bytes:
        raise LookupError("token expired")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fail)
    with pytest.raises(ImageError, match=r"cannot be read \(LookupError: token expired\)"):
        read_image(f"{bucket}/line1/9.png")


@pytest.mark.parametrize(
    ("url", "sentence"),
    {"frob://bucket/": "frob://", "memory://nothing/*.png": "no image in memory://nothing"}.items(),
)
def test_a_wrong_address_is_a_sentence(url, sentence):
    with pytest.raises(BlemishError, match=sentence.replace("*", r"\*")):
        list(find_images([url]))


def test_without_fsspec_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(BlemishError, match=r'pip install "blemish\[remote\]"'):
        list(find_images(["s3://bucket/prefix/"]))


@pytest.mark.parametrize(
    ("path", "answer"),
    [("s3://b/a.png", True), ("C://a.png", False), ("a/s3:/b.png", False), ("./x://y", False), ("http://h/a", True)],
)
def test_what_is_a_url(path, answer):
    assert is_url(path) == answer


def test_pixels_are_those_of_the_file(bucket, tmp_path):
    for name in ("line1/10.png", "line2/a.jpg"):
        np.testing.assert_array_equal(read_image(f"{bucket}/{name}"), read_image(tmp_path / "disk" / name))
