"""The paper's data sets in their publishers' formats: files made here, read back also by torchvision."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5

from blemish.errors import BlemishError
from blemish.experiments.data import cifar, fashion_mnist
from blemish.experiments.data.idx import read_images, read_labels
from blemish.experiments.data.sources import open_outliers, open_source
from helpers.images import save_image

RNG = np.random.default_rng(7)


@pytest.fixture
def unpublished(monkeypatch):
    """No sum is known, so that small files pass for the published ones."""
    monkeypatch.setattr(fashion_mnist, "PUBLISHED_MD5", {})
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", Path("/nonexistent"))


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_fashion_mnist(folder: Path, *, suffix: str = "") -> None:
    for split, count in (("train", 30), ("t10k", 20)):
        write(folder / f"{split}-images-idx3-ubyte{suffix}", idx(RNG.integers(0, 256, (count, 28, 28), np.uint8)))
        write(folder / f"{split}-labels-idx1-ubyte{suffix}", idx((np.arange(count) % 10).astype(np.uint8)))


# Fashion-MNIST


@pytest.mark.usefixtures("unpublished")
def test_fashion_mnist_is_what_torchvision_reads(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    write_fashion_mnist(raw)
    train = torchvision.datasets.FashionMNIST(tmp_path, train=True)
    test = torchvision.datasets.FashionMNIST(tmp_path, train=False)

    source = open_source("fashion-mnist", raw)
    task = source.task("dress")

    number = source.classes.index("dress")
    assert number == [name.lower() for name in train.classes].index("dress")
    assert torch.equal(task.nominal.pixels[:, 0], train.data[train.targets == number])
    assert torch.equal(task.test.pixels[:, 0], test.data)
    assert task.anomalous.tolist() == (test.targets != number).tolist()
    assert task.kinds == tuple(source.classes[target] for target in test.targets)
    assert task.masks is None


@pytest.mark.usefixtures("unpublished")
@pytest.mark.parametrize("place", ["", "fashion-mnist", "system"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_is_found_in_three_places_plain_or_gzipped(tmp_path, monkeypatch, place, suffix):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    write_fashion_mnist(tmp_path / place, suffix=suffix)
    assert len(open_source("fashion-mnist", tmp_path).task("bag").test) == 20


@pytest.mark.usefixtures("unpublished")
def test_fashion_mnist_can_be_read_at_another_size(tmp_path):
    write_fashion_mnist(tmp_path)
    own = open_source("fashion-mnist", tmp_path).task("bag").test
    small = open_source("fashion-mnist", tmp_path, size=14, square=True).task("bag").test
    expected = Image.fromarray(own.read(3)[0].numpy()).resize((14, 14), Image.Resampling.BILINEAR)
    assert np.array_equal(small.read(3)[0], expected)


def test_the_published_fashion_mnist_passes_its_sums():
    if not fashion_mnist.SYSTEM_FOLDER.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    source = open_source("fashion-mnist", fashion_mnist.SYSTEM_FOLDER)
    task = source.task("trouser")
    assert (len(task.nominal), len(task.test), int(task.anomalous.sum())) == (6_000, 10_000, 9_000)
    mean, deviation = (statistic / 255 for statistic in _mean_and_deviation(source.task("t-shirt-top").nominal.pixels))
    assert (mean, deviation) == pytest.approx((0.325608, 0.350739), abs=1e-6)  # the reference implementation's


def _mean_and_deviation(pixels: torch.Tensor) -> tuple[float, float]:
    values = pixels.double()
    return float(values.mean()), float(values.std())


def test_other_content_under_a_published_name_is_refused(tmp_path):
    write_fashion_mnist(tmp_path)
    with pytest.raises(BlemishError, match="not the published train-images-idx3-ubyte"):
        open_source("fashion-mnist", tmp_path)


@pytest.mark.usefixtures("unpublished")
def test_labels_of_other_images_are_refused(tmp_path):
    write_fashion_mnist(tmp_path)
    write(tmp_path / "t10k-labels-idx1-ubyte", idx(np.zeros(19, np.uint8)))
    with pytest.raises(BlemishError, match="t10k-labels-idx1-ubyte: its labels do not belong"):
        open_source("fashion-mnist", tmp_path)


IMAGES = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        pytest.param("a", b"", "not an idx file of images", id="empty"),
        pytest.param("a", IMAGES[:10], "not an idx file of images", id="cut in the header"),
        pytest.param("a", idx(np.zeros(5, np.uint8)), "not an idx file of images", id="labels"),
        pytest.param("a", b"\0\0\x0d" + IMAGES[3:], "not an idx file of images", id="floating-point values"),
        pytest.param("a", b"<html>" * 20, "not an idx file of images", id="a web page"),
        pytest.param("a", IMAGES[:-1], "not an idx file of images, or damaged", id="one value short"),
        pytest.param("a", IMAGES + b"\0", "not an idx file of images, or damaged", id="one value too many"),
        pytest.param("a.gz", gzip.compress(IMAGES)[:-9], "damaged or truncated", id="gzip cut"),
        pytest.param("a.gz", IMAGES, "damaged or truncated", id="not gzip"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, name, content, fault):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BlemishError, match=fault):
        read_images(path)


def test_idx_files_that_cannot_be_opened_are_refused(tmp_path):
    with pytest.raises(BlemishError, match="a folder, not a file"):
        read_labels(tmp_path)


# EMNIST


@pytest.mark.parametrize("place", ["", "emnist", "gzip"])
def test_emnist_letters_are_torchvisions_made_upright(tmp_path, place):
    content = idx(RNG.integers(0, 256, (12, 28, 28), np.uint8))
    raw = tmp_path / "EMNIST" / "raw"
    write(raw / "emnist-letters-train-images-idx3-ubyte", content)
    write(raw / "emnist-letters-train-labels-idx1-ubyte", idx(np.ones(12, np.uint8)))
    reference = torchvision.datasets.EMNIST(tmp_path, split="letters").data

    write(tmp_path / place / "emnist-letters-train-images-idx3-ubyte.gz", content)
    letters = open_outliers("emnist", tmp_path, channels=1, size=28, square=True, limit=None, seed=0)

    assert torch.equal(letters.pixels[:, 0], reference.transpose(1, 2))


# CIFAR


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, as they are in the published files."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, content: bytes) -> None:
        if len(content) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(content)]) + content)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)

    dispatch[bytes] = save_bytes


def python2_pickle(table: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(table)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar_table(count: int, *, key: bytes = b"labels", classes: int = 10) -> dict[bytes, Any]:
    return {
        b"batch_label": b"a batch",
        b"data": RNG.integers(0, 256, (count, 3072), np.uint8),
        key: (np.arange(count) % classes).tolist(),
        b"filenames": [b"some_%d.png" % number for number in range(count)],
    }


def write_cifar10(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        write(folder / name, python2_pickle(cifar_table(20)))
    write(folder / "batches.meta", python2_pickle({b"label_names": [b"x"] * 10}))
    return folder


def archive(folder: Path) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    return file.getvalue()


@pytest.fixture
def publish(monkeypatch):
    """Takes the files of a folder, and their archive, for those that were published."""

    def publish(data_set: type[CIFAR10], folder: Path) -> bytes:
        sums = {path.name: calculate_md5(path) for path in folder.iterdir()}
        for files in ("train_list", "test_list"):
            monkeypatch.setattr(data_set, files, [[name, sums[name]] for name, _ in getattr(data_set, files)])
        monkeypatch.setattr(data_set, "meta", data_set.meta | {"md5": sums[data_set.meta["filename"]]})
        content = archive(folder)
        monkeypatch.setattr(data_set, "tgz_md5", hashlib.md5(content).hexdigest())
        return content

    return publish


def unpickled(path: Path) -> tuple[np.ndarray, list[int]]:
    """Images (N, 32, 32, 3) and labels of a file that was written here."""
    table = pickle.loads(path.read_bytes(), encoding="bytes")
    return table[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), table.get(b"labels", table.get(b"fine_labels"))


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_cifar10_is_read_from_its_folder_or_its_archive(tmp_path, publish, form):
    folder = write_cifar10(tmp_path)
    content = publish(CIFAR10, folder)
    train = [unpickled(folder / f"data_batch_{number}") for number in range(1, 6)]
    test_images, test_labels = unpickled(folder / "test_batch")
    if form == "archive":
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
        folder.rename(tmp_path / "away")

    source = open_source("cifar10", tmp_path)
    task = source.task("deer")

    number = source.classes.index("deer")
    labels = np.concatenate([labels for _, labels in train])
    nominal = np.concatenate([images for images, _ in train])[labels == number]
    assert np.array_equal(task.nominal.pixels, nominal.transpose(0, 3, 1, 2))
    assert np.array_equal(task.test.pixels, test_images.transpose(0, 3, 1, 2))
    assert task.anomalous.tolist() == [label != number for label in test_labels]
    assert sorted(path.name for path in tmp_path.iterdir()) == (
        ["away", "cifar-10-python.tar.gz"] if form == "archive" else ["cifar-10-batches-py"]
    )


def test_cifar100_becomes_small_grey_outliers(tmp_path, publish):
    for name in ("train", "test"):
        table = python2_pickle(cifar_table(30, key=b"fine_labels", classes=100))
        write(tmp_path / "cifar-100-python" / name, table)
    write(tmp_path / "cifar-100-python" / "meta", python2_pickle({b"fine_label_names": [b"x"] * 100}))
    publish(CIFAR100, tmp_path / "cifar-100-python")
    images, _ = unpickled(tmp_path / "cifar-100-python" / "train")

    outliers = open_outliers("cifar100", tmp_path, channels=1, size=28, square=True, limit=None, seed=0)

    assert len(outliers) == 30
    for number, image in enumerate(images):
        expected = Image.fromarray(image).convert("L").resize((28, 28), Image.Resampling.BILINEAR)
        assert np.array_equal(outliers.read(number)[0], expected)


class Calls:
    """Asks whoever unpickles it to call a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_a_pickle_that_calls_functions_is_refused_and_not_run(tmp_path, publish):
    publish(CIFAR10, write_cifar10(tmp_path))
    trace = tmp_path / "it ran"
    table = cifar_table(20) | {b"labels": Calls(os.mkdir, str(trace))}
    write(tmp_path / "cifar-10-batches-py" / "data_batch_3", pickle.dumps(table, protocol=2))
    with pytest.raises(BlemishError, match="data_batch_3: not the published data_batch_3"):
        open_source("cifar10", tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["data_batch_5", "test_batch", "batches.meta"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(None, "no such file; download and unpack the archive again", id="missing"),
        pytest.param(b"", "not the published", id="empty"),
        pytest.param(b"<html>", "not the published", id="a web page"),
        pytest.param(python2_pickle(cifar_table(20))[:-500], "not the published", id="truncated"),
        pytest.param(python2_pickle(cifar_table(20)), "not the published", id="other images"),
    ],
)
def test_damaged_cifar_files_are_refused(tmp_path, publish, name, content, fault):
    folder = write_cifar10(tmp_path)
    publish(CIFAR10, folder)
    (folder / name).unlink() if content is None else write(folder / name, content)
    with pytest.raises(BlemishError, match=rf"{name}: {fault}"):
        open_source("cifar10", tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="truncated"),
        pytest.param(lambda content: b"<html>" + content, id="not an archive"),
        pytest.param(lambda _: archive(Path(__file__).parents[1] / "conftest.py"), id="another archive"),
    ],
)
def test_damaged_cifar_archives_are_refused_before_they_are_unpacked(tmp_path, publish, monkeypatch, damage):
    folder = write_cifar10(tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(damage(publish(CIFAR10, folder)))
    folder.rename(tmp_path / "away")
    monkeypatch.setattr(cifar, "extract_archive", None)
    with pytest.raises(BlemishError, match=r"cifar-10-python\.tar\.gz: not the published archive.*download it again"):
        open_source("cifar10", tmp_path)


def test_the_published_sums_are_in_force(tmp_path):
    write_cifar10(tmp_path)
    with pytest.raises(BlemishError, match="not the published data_batch_1"):
        open_source("cifar10", tmp_path)


# Pascal VOC 2007


def write_voc(root: Path, splits: dict[str, list[list[str]]]) -> None:
    home = root / "VOCdevkit" / "VOC2007"
    for split, objects_of in splits.items():
        names = [f"{split}{number:03}" for number in range(len(objects_of))]
        write(home / "ImageSets" / "Main" / f"{split}.txt", "\n".join(names).encode())
        for name, objects in zip(names, objects_of, strict=True):
            tree = ElementTree.Element("annotation")
            ElementTree.SubElement(tree, "filename").text = f"{name}.jpg"
            for thing in objects:
                entry = ElementTree.SubElement(tree, "object")
                ElementTree.SubElement(entry, "name").text = thing
                part = ElementTree.SubElement(entry, "part")  # a person's head is not an object of its own
                ElementTree.SubElement(part, "name").text = "horse"
            write(home / "Annotations" / f"{name}.xml", ElementTree.tostring(tree))
            save_image(home / "JPEGImages" / f"{name}.jpg", RNG.integers(0, 256, (20, 30, 3), np.uint8))


VOC = {
    "train": [["horse", "person"], ["dog"], ["person", "horse", "horse"], ["car"]],
    "val": [["person", "car"], ["horse"], ["dog", "horse"], ["sheep"], ["dog"]],
}


def test_pascal_voc_is_what_torchvision_reads(tmp_path):
    write_voc(tmp_path, VOC)
    train, val = (torchvision.datasets.VOCDetection(tmp_path, "2007", split) for split in ("train", "val"))

    def shows_horse(target: Any) -> bool:
        return any(entry["name"] == "horse" for entry in target["annotation"]["object"])

    task = open_source("pascal-voc", tmp_path).task("horse")

    horses = [np.array(image) for image, target in train if shows_horse(target)]
    assert len(task.nominal) == len(horses) == 2
    for number, pixels in enumerate(horses):
        assert np.array_equal(task.nominal.read(number), pixels.transpose(2, 0, 1))
    assert task.anomalous.tolist() == [not shows_horse(target) for _, target in val]
    assert task.kinds == ("person", "horse", "horse", "sheep", "dog")


@pytest.mark.parametrize("place", ["VOCdevkit/VOC2007", "VOCdevkit"])
def test_pascal_voc_can_be_given_from_any_of_its_folders(tmp_path, place):
    write_voc(tmp_path, VOC)
    task = open_source("pascal-voc", tmp_path / place, size=10, square=True).task("dog")
    assert task.test.read(0).shape == (3, 10, 10)


@pytest.mark.parametrize(
    ("annotation", "fault"),
    [
        pytest.param(b"<annotation>", "not XML", id="cut"),
        pytest.param(b"<annotation/>", "not an annotation of Pascal VOC", id="no object"),
        pytest.param(
            b"<annotation><object><name>screw</name></object></annotation>",
            "not an annotation of Pascal VOC",
            id="another class",
        ),
        pytest.param(None, "no such file", id="missing"),
    ],
)
def test_damaged_annotations_are_refused(tmp_path, annotation, fault):
    write_voc(tmp_path, VOC)
    path = tmp_path / "VOCdevkit/VOC2007/Annotations/val003.xml"
    path.unlink() if annotation is None else path.write_bytes(annotation)
    with pytest.raises(BlemishError, match=rf"val003\.xml: {fault}"):
        open_source("pascal-voc", tmp_path)
