import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from blemish.datasets import demo as demo_set
from blemish.datasets.demo import build_demo_set, load_photograph, paint_defect, plan_images, render
from blemish.errors import BlemishError

DEFECTS = ("hole", "scratch", "stain")


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_demo_set(tmp_path_factory.mktemp("demo") / "wall", seed=0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of images: for tests of the building, not of the pictures."""
    monkeypatch.setattr(demo_set, "TRAIN_GOOD", 2)
    monkeypatch.setattr(demo_set, "TEST_GOOD", 2)
    monkeypatch.setattr(demo_set, "PER_DEFECT", 2)


def test_layout_is_mvtec_with_one_mask_a_defective_image(built: Path) -> None:
    counts = {
        str(folder.relative_to(built).as_posix()): len(list(folder.glob("*.png")))
        for folder in built.rglob("*")
        if folder.is_dir() and any(folder.glob("*.png"))
    }
    assert counts == {
        "train/good": 200,
        "test/good": 40,
        **{f"test/{defect}": 14 for defect in DEFECTS},
        **{f"ground_truth/{defect}": 14 for defect in DEFECTS},
    }
    for image in built.glob("test/*/*.png"):
        mask = built / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"
        assert mask.is_file() == (image.parent.name != "good")


def test_images_are_grey_256_and_masks_are_black_and_white(built: Path) -> None:
    for path in built.rglob("*.png"):
        pixels = read(path)
        assert pixels.shape == (256, 256)
        assert pixels.dtype == np.uint8
        if "ground_truth" in path.parts:
            assert set(np.unique(pixels)) == {0, 255}


@pytest.mark.parametrize("seed", range(5))
def test_training_and_test_crops_are_drawn_alike(seed: int) -> None:
    tops: dict[str, list[int]] = {"train": [], "test": []}
    for planned in plan_images(seed):
        left, top, right, bottom = planned.crop.box
        assert 0 <= left < right <= 512
        assert 0 <= top < bottom <= 512
        if planned.defect is None:
            tops[planned.path.parts[0]].append(top)
    # Two samples of one distribution: otherwise no false-alarm rate could be promised.
    assert ks_2samp(tops["train"], tops["test"]).pvalue > 0.005


def test_a_rendered_crop_depends_on_no_pixel_outside_its_box() -> None:
    wall = load_photograph()
    crop = plan_images(0)[0].crop
    left, top, right, bottom = crop.box
    elsewhere = np.zeros_like(wall)
    elsewhere[top:bottom, left:right] = wall[top:bottom, left:right]
    np.testing.assert_array_equal(render(elsewhere, crop), render(wall, crop))


def test_good_images_are_the_photograph(built: Path) -> None:
    """Held to Pillow's own crop, mirror and flip, and a brightness table."""
    photograph = Image.fromarray(load_photograph())
    for planned in plan_images(0)[::7]:
        if planned.defect is not None:
            continue
        crop = planned.crop
        expected = photograph.crop(crop.box).resize((256, 256), Image.Resampling.BICUBIC)
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.mirrored else expected
        expected = expected.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if crop.flipped else expected
        assert 0.95 <= crop.brightness <= 1.05
        expected = expected.point([min(255, round(value * crop.brightness)) for value in range(256)])
        np.testing.assert_array_equal(read(built / planned.path), np.asarray(expected))


def test_masks_are_the_difference_between_the_image_and_its_clean_crop(built: Path) -> None:
    wall = load_photograph()
    defective = [planned for planned in plan_images(0) if planned.defect is not None]
    assert len(defective) == 42
    for planned in defective:
        image = read(built / planned.path).astype(int)
        truth = built / "ground_truth" / str(planned.defect) / f"{planned.path.stem}_mask.png"
        mask = read(truth) > 0
        difference = np.abs(image - render(wall, planned.crop))
        assert not difference[~mask].any(), planned.path
        # What a mask holds beside visible changes is pinholes, where a change crosses zero.
        assert (difference[mask] >= 4).mean() > 0.9, planned.path


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("seed", range(4))
def test_every_defect_is_large_and_strong_enough_for_a_person(defect: str, seed: int) -> None:
    clean = render(load_photograph(), plan_images(seed)[-1].crop)
    for severity in (0.0, 1.0):
        painted = paint_defect(clean, defect, severity=severity, rng=np.random.default_rng(seed))
        assert painted.clean is clean
        assert 80 <= painted.mask.sum() <= 0.2 * painted.mask.size
        change = np.abs(painted.image.astype(int) - clean)[painted.mask]
        assert change.mean() > 10  # grey levels; within a brick the photograph varies by about 2


@pytest.mark.parametrize("defect", DEFECTS)
def test_severity_makes_a_defect_larger(defect: str) -> None:
    clean = np.full((256, 256), 100, np.uint8)
    areas = [
        paint_defect(clean, defect, severity=severity, rng=np.random.default_rng(3)).mask.sum()
        for severity in (0.0, 0.5, 1.0)
    ]
    assert areas[0] < areas[1] < areas[2]


@pytest.mark.usefixtures("small")
def test_same_seed_same_bytes_and_another_seed_other_pixels(tmp_path: Path) -> None:
    first, again, other = (
        contents(build_demo_set(tmp_path / name, seed=seed)) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


@pytest.mark.usefixtures("small")
def test_progress_counts_every_image_once(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    build_demo_set(tmp_path / "set", progress=lambda stage, done, total: calls.append((done, total)))
    assert calls == [(done, 10) for done in range(1, 11)]


@pytest.mark.usefixtures("small")
def test_an_interrupted_build_is_built_again(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    root = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        build_demo_set(root, progress=interrupt)
    torn = root / "train" / "good" / "000.png"
    torn.write_bytes(torn.read_bytes()[:50])
    assert contents(build_demo_set(root)) == contents(build_demo_set(tmp_path / "whole"))


@pytest.mark.usefixtures("small")
def test_a_finished_set_is_kept_as_it_is(tmp_path: Path) -> None:
    root = build_demo_set(tmp_path)  # an empty folder is fine
    (root / "train" / "good" / "mine.txt").write_text("kept")
    before = contents(root)
    assert build_demo_set(root) == root
    assert contents(root) == before


def _holding_a_file(root: Path) -> None:
    root.mkdir()
    (root / "holiday.jpg").write_bytes(b"mine")


def _being_a_file(root: Path) -> None:
    root.write_bytes(b"mine")


def _of_another_seed(root: Path) -> None:
    build_demo_set(root, seed=1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("prepare", [_holding_a_file, _being_a_file, _of_another_seed])
def test_never_writes_over_anything_else(tmp_path: Path, prepare) -> None:
    root = tmp_path / "set"
    prepare(root)
    before = contents(tmp_path)
    with pytest.raises(BlemishError, match="another folder"):
        build_demo_set(root, seed=0)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("small")
def test_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the demo set reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    build_demo_set(tmp_path / "set")


@pytest.mark.parametrize("found", ["no package", "no photograph"])
def test_a_missing_photograph_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    class Incomplete:
        submodule_search_locations = (str(tmp_path),)

    spec = None if found == "no package" else Incomplete()
    monkeypatch.setattr(demo_set.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(BlemishError, match=r'pip install "blemish\[train\]"'):
        build_demo_set(tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_imports_nothing_of_the_training_layer() -> None:
    code = (
        "import sys, blemish.datasets.demo as d; d.load_photograph();"
        "print([m for m in ('torch', 'torchvision', 'timm', 'sklearn', 'skimage') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
