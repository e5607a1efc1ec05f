"""What a training learns from: labelled defects drawn type by type, copies of good images, outlier exposure."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.datasets.layouts import Sample
from blemish.datasets.pixels import Pixels
from blemish.errors import BlemishError
from blemish.synthetic import Synthetic, unchanged
from blemish.synthetic.confetti import confetti
from blemish.training.anomaly_sources import (
    Anomaly,
    ImageAugmentation,
    labelled_anomalies,
    nominal_copies,
    outlier_anomalies,
    synthetic_anomalies,
)
from blemish.training.config import AugmentationConfig, DefectBranchConfig, TrainConfig
from helpers.images import noise

SIDE = 48
NOMINAL = 5
CONFIG = TrainConfig().defect_branch
AUGMENTATION = ImageAugmentation(TrainConfig().augmentation)
BLUISH = np.array([0, 0, 30], np.uint8)


def ground(seed: int) -> np.ndarray:
    """A nominal image: grey about 100."""
    grey = np.random.default_rng(seed).integers(90, 110, (SIDE, SIDE, 1), dtype=np.uint8)
    return np.repeat(grey, 3, axis=2)


def labelled_pixels(folder: Path, defects: list[str], *, masks: bool = True) -> Pixels:
    """Nominal images first, then one for each defect: bluish, a white square on it, with its mask on disk."""
    images, samples = [ground(i) for i in range(NOMINAL)], []
    for number in range(NOMINAL):
        samples.append(Sample(folder / f"good{number}.png"))
    for number, defect in enumerate(defects):
        image, mask = ground(100 + number) + BLUISH, np.zeros((SIDE, SIDE), np.uint8)
        mask[10 + number : 26 + number, 12:30] = 255
        image[mask > 0] = 250
        path, mask_path = folder / f"{defect}{number}.png", folder / f"{defect}{number}_mask.png"
        Image.fromarray(image).save(path)
        Image.fromarray(mask).save(mask_path)
        images.append(image)
        samples.append(Sample(path, defect=defect, mask=mask_path if masks else None))
    return Pixels(tuple(samples), np.stack(images), tuple(str(i) for i in range(len(images))))


def no_map(image: np.ndarray) -> np.ndarray:
    raise AssertionError("there is a mask")


def made_of(
    pixels: Pixels,
    *,
    seed: int = 0,
    predict_map=no_map,
    config: DefectBranchConfig = CONFIG,
    max_transplant_area: float = AugmentationConfig().max_transplant_area,
) -> list[Anomaly]:
    labelled = list(range(NOMINAL, len(pixels.samples)))
    rng = np.random.default_rng(seed)
    return labelled_anomalies(
        pixels,
        labelled,
        list(range(NOMINAL)),
        augmentation=ImageAugmentation(AugmentationConfig(max_transplant_area=max_transplant_area)),
        predict_map=predict_map,
        rng=rng,
        config=config,
    )


# Labelled defects


@pytest.mark.parametrize(
    "defects",
    [["dent"], ["dent"] * 9 + ["hair"], ["dent"] * 4 + ["hair", "spot"]],
    ids=["one type", "nine to one", "three types"],
)
def test_every_type_is_drawn_as_often_as_any_other(defects: list[str], tmp_path: Path) -> None:
    pixels = labelled_pixels(tmp_path, defects)
    made = made_of(pixels)
    types = sorted(set(defects))
    assert CONFIG.labelled_images <= len(made) < CONFIG.labelled_images + len(types)
    for one, index in zip(made, range(NOMINAL, len(pixels.samples)), strict=False):  # first all as they are
        np.testing.assert_array_equal(one.image, pixels.images[index])
        np.testing.assert_array_equal(one.mask, pixels.mask(index))
        assert one.kind == pixels.samples[index].defect
    drawn = Counter(one.kind for one in made[len(defects) :])
    assert sorted(drawn) == types
    assert len(set(drawn.values())) == 1
    assert drawn.total() == len(made) - len(defects)


def test_more_labels_are_all_used_and_as_many_made(tmp_path: Path) -> None:
    few = DefectBranchConfig(labelled_images=4)
    assert len(made_of(labelled_pixels(tmp_path, ["dent"] * 6), config=few)) == 12


@pytest.mark.parametrize(("large", "transplanted"), [(0.0, False), (1.0, True)], ids=["large", "small"])
def test_large_defects_stay_where_they_are(large: float, transplanted: bool, tmp_path: Path) -> None:
    made = made_of(labelled_pixels(tmp_path, ["dent"]), max_transplant_area=large)[1:]
    tints = [np.median(one.image[~one.mask].astype(int) @ (-1, 0, 1)) for one in made]
    assert (0 in tints) == transplanted  # a ground without tint is a nominal image's


@pytest.mark.parametrize("types", [1, 2, 3])
def test_every_type_is_both_turned_and_transplanted(types: int, tmp_path: Path) -> None:
    pixels = labelled_pixels(tmp_path, ["dent", "hair", "spot"][:types])
    ways: Counter[tuple[str, bool]] = Counter()
    for one in made_of(pixels, max_transplant_area=1.0)[types:]:
        tint = np.median(one.image[~one.mask].astype(int) @ (-1, 0, 1))
        assert tint == 0 or tint > 10
        ways[one.kind, tint == 0] += 1  # grey ground: set into a nominal image
    assert len(ways) == 2 * types
    assert min(ways.values()) > CONFIG.labelled_images / types / 4


def test_the_mask_of_everything_made_is_on_the_defect(tmp_path: Path) -> None:
    for one in made_of(labelled_pixels(tmp_path, ["dent", "hair"])):
        assert one.mask.any()
        assert one.image.dtype == np.uint8
        assert one.image[one.mask].mean() > one.image[~one.mask].mean() + 60


def test_the_seed_decides(tmp_path: Path) -> None:
    pixels = labelled_pixels(tmp_path, ["dent", "hair"])
    first, again, other = (made_of(pixels, seed=seed) for seed in (1, 1, 2))
    assert all((a.image == b.image).all() and (a.mask == b.mask).all() for a, b in zip(first, again, strict=True))
    assert any((a.image != b.image).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("masks", [False, True], ids=["no mask", "an empty mask"])
def test_without_a_mask_the_defect_is_where_the_map_is_high(masks: bool, tmp_path: Path) -> None:
    pixels = labelled_pixels(tmp_path, ["dent"], masks=masks)
    if masks:
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(pixels.samples[-1].mask)
    asked = []

    def predict_map(image: np.ndarray) -> np.ndarray:
        asked.append(image)
        values = np.zeros((SIDE, SIDE), np.float32)
        values[3, 5:9] = (8, 8 * CONFIG.pseudo_mask_level, 8 * CONFIG.pseudo_mask_level - 0.01, 2)
        return values

    made = made_of(pixels, predict_map=predict_map)
    assert len(asked) == 1
    np.testing.assert_array_equal(asked[0], pixels.images[-1])
    assert np.argwhere(made[0].mask).tolist() == [[3, 5], [3, 6]]


# Other sources


def test_copies_are_of_nominal_images_only_and_of_them_all() -> None:
    images = np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in (40, 200, 120)])
    copies = nominal_copies(images, [0, 2], 60, np.random.default_rng(0), augmentation=AUGMENTATION)
    means = np.array([copy.mean() for copy in copies])
    assert len(means) == 60
    near = np.abs(means[:, None] - [40, 200, 120]).argmin(1)  # flat images keep their mean but for the brightness
    assert set(near) == {0, 2}
    assert 12 < (near == 0).sum() < 48


def test_outliers_are_anomalous_everywhere(tmp_path: Path) -> None:
    for number in range(6):
        Image.fromarray(ground(number)).save(tmp_path / f"{number}.png")
    made = outlier_anomalies(tmp_path, (24, 36), np.random.default_rng(0), at_most=500)
    assert len(made) == 6
    for one in made:
        assert one.image.shape == (24, 36, 3)
        assert one.mask.shape == (24, 36)
        assert one.mask.all()
        assert one.kind == "outlier exposure"
    assert len(outlier_anomalies(tmp_path, (24, 36), np.random.default_rng(0), at_most=4)) == 4


def test_a_missing_outlier_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="nowhere"):
        outlier_anomalies(tmp_path / "nowhere", (24, 36), np.random.default_rng(0), at_most=500)


def test_synthetic_anomalies_are_copies_of_nominal_images_that_differ_within_the_mask():
    images = np.stack([noise(seed) for seed in range(5)])
    made = synthetic_anomalies(images, [1, 3], confetti, 6, np.random.default_rng(0), name="confetti")
    assert len(made) == 6
    for anomaly in made:
        assert anomaly.kind == "synthetic confetti"
        assert any(((anomaly.image != images[index]).any(2) == anomaly.mask).all() for index in (1, 3))


def test_a_synthetic_anomaly_that_changes_nothing_or_the_size_is_refused():
    images = np.stack([noise(seed) for seed in range(2)])
    rng = np.random.default_rng(0)
    with pytest.raises(BlemishError, match="the synthetic anomaly none changes none of these images"):
        synthetic_anomalies(images, [0, 1], unchanged, 3, rng, name="none")

    def smaller(image, rng):
        return Synthetic(image[::2], np.ones(image.shape[:2], dtype=bool))

    with pytest.raises(BlemishError, match="both must keep its size"):
        synthetic_anomalies(images, [0, 1], smaller, 3, rng, name="smaller")
