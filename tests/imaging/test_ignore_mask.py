"""Regions of no interest: what lies under a mask has no way into what counts, in training, in the file, in scoring."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.evaluation.metrics import PixelMetrics
from blemish.evaluation.run import evaluate
from blemish.imaging.ignore_mask import IgnoreMask, fill_image
from blemish.imaging.images import load
from blemish.imaging.masks import read_mask
from blemish.imaging.resizing import resize_mask
from blemish.model.detector import Detector
from blemish.model.scored_image import FailedImage
from blemish.networks.detector import CalibratedNetwork
from blemish.networks.input_mask import InputMask
from blemish.training.onnx_export import to_onnx
from blemish.training.run import train
from helpers.images import noise, save_image, stained
from helpers.model_files import with_changes
from helpers.small_networks import fitted_network

OWN, SIZE = (90, 140), (64, 96)  # of the pictures, of the network
STAMP = (slice(8, 30), slice(100, 132))  # where the watermark is, in the pictures


def stamp_mask(path: Path, *, size: tuple[int, int] = OWN) -> Path:
    mask = np.zeros(size, np.uint8)
    mask[STAMP] = 255
    return save_image(path, mask)


def part(rng: np.random.Generator, *, watermark: bool, spot: bool = False) -> np.ndarray:
    """Grey texture, uint8 (90, 140); perhaps a watermark in the corner, perhaps a dark spot elsewhere."""
    pixels = (120 + 20 * np.sin(np.arange(140) / 4) + rng.normal(0, 6, OWN)).clip(0, 255).astype(np.uint8)
    if watermark:
        pixels[STAMP] = np.where(np.indices((22, 32)).sum(0) % 6 < 3, 255, 0)
    if spot:
        pixels[50:70, 30:50] = 20
    return pixels


def write_parts(root: Path, *, marked: Callable[[int], bool], seed: int = 0) -> Path:
    """Sixteen good parts to learn from, four good and four spotted ones to test on."""
    rng = np.random.default_rng(seed)
    for number in range(16):
        save_image(root / f"train/good/{number}.png", part(rng, watermark=marked(number)))
    for number in range(4):
        save_image(root / f"test/good/{number}.png", part(rng, watermark=False))
        save_image(root / f"test/spot/{number}.png", part(rng, watermark=True, spot=True))
        spot = np.zeros(OWN, np.uint8)
        spot[50:70, 30:50] = 255
        save_image(root / f"ground_truth/spot/{number}.png", spot)
    return root


# Reading masks


@given(
    own=st.tuples(st.integers(20, 200), st.integers(20, 200)),
    size=st.tuples(st.integers(8, 120), st.integers(8, 120)),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_pixel_outside_has_anything_of_one_under_the_mask(
    own: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros(own, bool)
    row, column = rng.integers(0, own[0]), rng.integers(0, own[1])
    mask[row : row + rng.integers(1, own[0]), column : column + rng.integers(1, own[1])] = True
    one = rng.integers(0, 256, (*own, 3), np.uint8)
    other = np.where(mask[..., None], rng.integers(0, 256, (*own, 3), np.uint8), one)
    reached = resize_mask(mask, size, rule="touched")
    np.testing.assert_array_equal(load(one, size)[0][~reached], load(other, size)[0][~reached])


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a/good/000.jpg", "good/000.png"),
        ("a/crack/000.jpg", "000.png"),
        ("a/crack/Ünder.JPG", "ünder.png"),
        ("a/good/001.jpg", None),
        ("a/ood/000.jpg", "000.png"),
    ],
)
def test_the_longest_path_that_an_image_ends_in_is_its_mask(image: str, mask: str | None, tmp_path: Path) -> None:
    places = {"good/000.png": 1, "000.png": 2, "ünder.png": 3}
    for name, rows in places.items():
        pixels = np.zeros((10, 10), np.uint8)
        pixels[:rows] = 255
        save_image(tmp_path / name, pixels)
    found = IgnoreMask(tmp_path).mask(image, (10, 10))
    assert (0 if found is None else int(found.any(1).sum())) == (0 if mask is None else places[mask])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"no image"), "not a PNG"),
        (lambda path: save_image(path, np.full((9, 9), 255, np.uint8)), "white everywhere"),
        (lambda path: save_image(path, np.zeros((9, 9), np.uint8)), "nothing in it is white"),
        (lambda path: path.mkdir(), "no mask in it"),
    ],
)
def test_what_is_no_mask_is_refused(
    make: Callable, words: str, run: Callable, tmp_path: Path, tiny_model: Path
) -> None:
    make(tmp_path / "mask.png")
    with pytest.raises(BlemishError, match=words):
        IgnoreMask(tmp_path / "mask.png")
    save_image(tmp_path / "images/a.png", noise(0))
    for verb in (
        ("predict", tiny_model, tmp_path / "images", "-o", tmp_path / "out"),
        ("evaluate", tiny_model, tmp_path / "images"),
        ("train", tmp_path / "images", "-o", tmp_path / "m.onnx"),
    ):
        outcome = run(*verb, "--ignore-mask", tmp_path / "mask.png")
        assert outcome.status == 2
        assert words in outcome.err
        assert len(outcome.err.splitlines()) <= 2


# Training and the file


def test_the_filling_is_the_mean_of_what_counts_and_the_nearest_mean_where_nothing_does() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), np.uint8)
    masks = {number: np.zeros((6, 8), bool) for number in range(4)}
    for number, mask in masks.items():
        mask[:, 7] = True  # in the fifth image, which is not chosen, it counts
        mask[number, 0] = True
    made = fill_image(images, masks, [0, 1, 2, 3])
    for row in range(6):
        for column in range(7):
            values = [images[n, row, column] for n in range(4) if not masks[n][row, column]]
            np.testing.assert_array_equal(made[row, column], np.rint(np.mean(values, axis=0)))
        np.testing.assert_array_equal(made[row, 7], made[row, 6])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models trained on parts with and without watermarks, with the mask; and one without it."""
    root = tmp_path_factory.mktemp("blind")
    mask = stamp_mask(root / "mask.png")
    half = write_parts(root / "half", marked=lambda number: number % 2 == 0)
    none = write_parts(root / "none", marked=lambda number: False)
    train(half, root / "half.onnx", size=SIZE, ignore_mask=mask)
    train(none, root / "none.onnx", size=SIZE, ignore_mask=mask)
    train(none, root / "seeing.onnx", size=SIZE)
    return {"root": root, "mask": mask}


def test_training_is_blind_to_what_lies_under_the_mask(trained: dict[str, Path]) -> None:
    one, other = (Detector.load(trained["root"] / f"{name}.onnx") for name in ("half", "none"))
    pixels = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
    for here, there in zip(one.forward(pixels), other.forward(pixels), strict=True):
        np.testing.assert_array_equal(here, there)
    assert one.calibration == other.calibration


def test_no_watermark_changes_the_score_of_a_detector_that_ignores_it(trained: dict[str, Path]) -> None:
    rng = np.random.default_rng(1)
    for spot in (False, True):
        clean = part(rng, watermark=False, spot=spot)
        variants = []
        for number in range(4):
            variant = clean.copy()
            variant[STAMP] = rng.integers(0, 256, (22, 32)) if number else 255
            variants.append(variant)
        ignoring = Detector.load(trained["root"] / "half.onnx")
        reference = ignoring.score([clean] * 4)
        found = ignoring.score(variants)
        np.testing.assert_array_equal(found.scores, reference.scores)
        for one, other in zip(found.maps, reference.maps, strict=True):
            np.testing.assert_array_equal(one, other)
            assert not one[STAMP].any()
        if not spot:  # without the mask it is the watermark that the score is about
            seeing = Detector.load(trained["root"] / "seeing.onnx")
            assert seeing.score(variants).scores.min() > 2 * seeing.score([clean]).scores[0]


def test_it_still_finds_what_is_elsewhere_and_says_what_it_ignores(trained: dict[str, Path], run: Callable) -> None:
    result = run("evaluate", trained["root"] / "half.onnx", trained["root"] / "half", "--json").json
    assert result["image_auroc"] == 1.0
    assert result["pixel_auroc"] > 0.95
    detector = Detector.load(trained["root"] / "half.onnx")
    mask = resize_mask(read_mask(trained["mask"]), SIZE, rule="touched")
    assert mask is not None
    assert result["ignored"] == pytest.approx(mask.mean())
    (scored,) = detector.predict_iter([noise(0)])
    np.testing.assert_array_equal(scored.ignored, mask)
    assert detector.metadata.ignored["mask"] == "mask.png"
    assert "ignored" in run("evaluate", trained["root"] / "half.onnx", trained["root"] / "half").out


def test_module_and_graph_are_blind_alike() -> None:
    torch.manual_seed(0)
    mask = np.zeros((64, 64), bool)
    mask[40:, :20] = True
    network = fitted_network([noise(seed) for seed in range(16)], input_mask=InputMask(mask, noise(99)))
    images = np.stack([noise(7), stained(8), noise(9)])  # not as many as the exporter was shown
    other = np.where(mask[..., None], 255, images).astype(np.uint8)
    with torch.inference_mode():
        maps, changed = (network(torch.from_numpy(some)).numpy() for some in (images, other))
    import onnxruntime

    session = onnxruntime.InferenceSession(to_onnx(CalibratedNetwork(network, [1.0]), (64, 64)))
    here, there = (session.run(None, {"pixels": some}) for some in (images, other))
    np.testing.assert_array_equal(maps, changed)
    np.testing.assert_array_equal(here[0], there[0])
    np.testing.assert_allclose(here[0], maps, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(here[1], here[0].max((1, 2)))
    assert not maps[:, mask].any()
    assert (maps[:, ~mask] > 0).all()


@pytest.mark.slow
def test_masks_for_single_images_keep_what_they_cover_from_teaching(tmp_path: Path) -> None:
    """The same parts with and without watermarks, which masks cover, give the same network."""
    for number in range(0, 16, 2):
        stamp_mask(tmp_path / f"masks/train/good/{number}.png")
    for number in range(4):
        stamp_mask(tmp_path / f"masks/test/spot/{number}.png")
    pixels, found = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8), []
    for name, share in (("half", 2), ("fourth", 4)):
        parts = write_parts(tmp_path / name, marked=lambda number, share=share: number % share == 0)
        detector = train(parts, tmp_path / "m.onnx", size=SIZE, ignore_mask=tmp_path / "masks")
        found.append(detector.forward(pixels)[0])
    np.testing.assert_array_equal(*found)
    assert detector.metadata.ignored == {"mask": "masks", "everywhere": False, "share": None, "png": None}
    detector = Detector.load(tmp_path / "m.onnx", ignore_mask=tmp_path / "masks")
    assert evaluate(detector, read_data_set(parts)).metrics["image_auroc"] == 1.0


def test_a_folder_of_masks_for_other_images_is_refused(tmp_path: Path) -> None:
    stamp_mask(tmp_path / "masks/other.png")
    parts = write_parts(tmp_path / "parts", marked=lambda number: False)
    with pytest.raises(BlemishError, match="belongs to a training image"):
        train(parts, tmp_path / "m.onnx", size=SIZE, ignore_mask=tmp_path / "masks")


# Scoring with a mask that the model does not know


def test_scores_are_the_maximum_outside_the_mask(tiny_model: Path, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:40, 10:60] = 255
    save_image(tmp_path / "mask.png", mask)
    plain, ignoring = Detector.load(tiny_model), Detector.load(tiny_model, ignore_mask=tmp_path / "mask.png")
    images = [noise(1), stained(2), stained(3)]
    bare, _, _ = plain.forward(np.stack(images))
    for one, other, whole in zip(plain.predict_iter(images), ignoring.predict_iter(images), bare, strict=True):
        assert other.score == whole[~other.ignored].max()
        assert not other.anomaly_map[other.ignored].any()
        np.testing.assert_array_equal(other.ignored, resize_mask(mask > 0, (64, 64), rule="touched"))
        assert other.score <= one.score
        assert other.p_value >= one.p_value
        for region in ignoring.regions(other):
            assert mask[region.peak[1], region.peak[0]] == 0


def test_predict_and_evaluate_with_masks(parts: Path, tiny_model: Path, tmp_path: Path, run: Callable) -> None:
    everything = np.zeros((64, 64), np.uint8)
    everything[8:56, 8:56] = 255  # all that is stained
    save_image(tmp_path / "masks/stain/0.png", everything)
    save_image(tmp_path / "masks/stain/1.png", np.full((64, 64), 255, np.uint8))
    outcome = run(
        "predict", tiny_model, parts / "test/stain", "-o", tmp_path / "out", "--ignore-mask", tmp_path / "masks"
    )
    assert outcome.status == 0
    first, second = csv.DictReader((tmp_path / "out/scores.csv").open())
    expected = Detector.load(tiny_model, ignore_mask=tmp_path / "masks")
    scored, failed = expected.predict_iter([parts / "test/stain/0.png", parts / "test/stain/1.png"])
    assert float(first["score"]) == pytest.approx(scored.score)
    assert isinstance(failed, FailedImage)
    assert second["verdict"] == "unreadable"
    assert "leaves nothing to score" in outcome.err

    result = run("evaluate", tiny_model, parts, "--ignore-mask", tmp_path / "masks", "--json").json
    assert (result["hidden"], result["failed"], result["images"]) == (1, 1, 3)
    assert result["image_auroc"] is None
    save_image(tmp_path / "masks/stain/1.png", np.pad(np.full((20, 64), 255, np.uint8), ((0, 44), (0, 0))))
    result = run("evaluate", tiny_model, parts, "--ignore-mask", tmp_path / "masks", "--json").json
    assert (result["hidden"], result["failed"], result["images"]) == (1, 0, 4)
    detector = Detector.load(tiny_model)
    maps, truth = [], []
    for path, stain in ((parts / "test/stain/1.png", True), *((parts / f"test/good/{n}.png", False) for n in range(3))):
        (one,) = detector.predict_iter([path])
        counts = np.ones((64, 64), bool)
        if stain:
            counts[:21] = False  # one row more than the mask where it is resized; here it is not, so see below
            counts = ~np.pad(np.ones((20, 64), bool), ((0, 44), (0, 0)))
        maps.append(one.anomaly_map[counts])
        truth.append((stained(401) == 0).all(2)[counts] if stain else np.zeros(counts.sum(), bool))
    assert result["pixel_auroc"] == pytest.approx(roc_auc_score(np.concatenate(truth), np.concatenate(maps)))


def test_pixel_figures_without_ignored_pixels_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(4, 30, 40)).astype(np.float32).round(1)
    masks, ignored = rng.random((4, 30, 40)) < 0.1, rng.random((4, 30, 40)) < 0.4
    with PixelMetrics() as pixels:
        for one, mask, left_out in zip(maps, masks, ignored, strict=True):
            pixels.update(one, mask, ignored=left_out)
        result = pixels.compute()
    assert result.auroc == pytest.approx(roc_auc_score(masks[~ignored], maps[~ignored]))
    assert result.nominal_pixels == (~masks & ~ignored).sum()


def test_a_picture_shows_what_does_not_count(tiny_model: Path, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    save_image(tmp_path / "mask.png", mask)
    detector = Detector.load(tiny_model, ignore_mask=tmp_path / "mask.png")
    image = Image.fromarray(noise(0, size=(256, 256)))
    (scored,) = detector.predict_iter([image])
    picture = np.asarray(detector.explain(image, scored).convert("L"), dtype=float)[:256, :256]
    assert picture[:120].mean() < 0.7 * picture[136:].mean()
    assert scored.full_ignored()[:120].all()


def test_whoever_forgets_the_masks_of_single_images_is_told(
    tiny_model: Path, parts: Path, tmp_path: Path, run: Callable
) -> None:
    ignored = {"mask": "masks", "everywhere": False, "share": None, "png": None}  # as training records it, see above
    model = with_changes(tiny_model, tmp_path / "m.onnx", ignored=ignored)
    stamp_mask(tmp_path / "masks/test/good/0.png", size=(64, 64))
    assert "give --ignore-mask DIR here too" in run("evaluate", model, parts).err
    assert "--ignore-mask" not in run("evaluate", model, parts, "--ignore-mask", tmp_path / "masks").err
