"""What a model file is calibrated with: one network and the images it left out, or several and their folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blemish.conformal.drift import drift_statistics
from blemish.conformal.split import Calibration
from blemish.conversion.calibration_images import find_calibration_images
from blemish.datasets.layouts import read_data_set
from blemish.datasets.splits import fold_nominal
from blemish.errors import BlemishError
from blemish.evaluation.run import evaluate
from blemish.imaging.images import load
from blemish.model.detector import Detector
from blemish.networks.alignment import Alignment, Frame, Silhouettes
from blemish.networks.build import build_detector
from blemish.networks.detector import DetectorNetwork
from blemish.training import run as training
from blemish.training.run import train
from blemish.training.steps.calibration import drift_reference
from helpers.few_draws import FEW_DRAWS
from helpers.images import save_image
from helpers.keeping import Kept, keeping

SIZE = (64, 64)


def texture(rng: np.random.Generator) -> np.ndarray:
    return (120 + 20 * np.sin(np.arange(64) / 3) + rng.normal(0, 6, SIZE)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for number in range(10):
        save_image(root / f"train/good/{number}.png", texture(rng))
    for number in range(3):
        save_image(root / f"test/good/{number}.png", texture(rng))
        spotted = texture(rng)
        spotted[20:34, 20:34] = 10
        save_image(root / f"test/spot/{number}.png", spotted)
    return root


@dataclass
class Trained(Kept):
    """A detector, and the networks and their material that went into it."""

    detector: Any = None
    path: Path = Path()


def train_and_keep(folder: Path, path: Path, **options: Any) -> Trained:
    kept = Trained(path=path)
    with keeping(kept):
        kept.detector = train(folder, path, size=SIZE, epochs=1, defect_branch=FEW_DRAWS, **options)
    return kept


@pytest.fixture(scope="module")
def crossed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_and_keep(folder, tmp_path_factory.mktemp("crossed") / "m.onnx", cross_conformal=3)


@pytest.fixture(scope="module")
def split(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_and_keep(folder, tmp_path_factory.mktemp("split") / "m.onnx")


def map_of(network: DetectorNetwork, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network.cpu()(torch.from_numpy(np.array(images))).numpy()


def folds_of(kept: Trained) -> list[list[int]]:
    everything = set(range(10))
    return [sorted(everything - {*one.fit}) for one in kept.materials]


def test_every_image_trains_and_calibrates_once(crossed: Trained) -> None:
    folds = folds_of(crossed)
    assert sorted(index for fold in folds for index in fold) == list(range(10))
    assert crossed.detector.calibration.folds == tuple(map(len, folds)) == (4, 3, 3)
    assert crossed.detector.metadata.data["train_images"] == 10
    assert crossed.detector.metadata.data["calibration_images"] == 10
    assert [path.name for path in crossed.path.parent.iterdir()] == ["m.onnx"]


def test_each_fold_is_scored_by_the_network_that_left_it_out(crossed: Trained) -> None:
    images = crossed.materials[0].pixels.images
    literal = [
        map_of(network, images[fold]).max((1, 2))
        for network, fold in zip(crossed.networks, folds_of(crossed), strict=True)
    ]
    np.testing.assert_allclose(crossed.detector.calibration.scores, np.concatenate(literal), rtol=1e-3)


def test_the_map_is_the_smallest_and_its_p_value_no_smaller_than_the_cross_conformal_one(
    crossed: Trained, folder: Path
) -> None:
    samples = read_data_set(folder).test
    images = np.stack([load(sample.path, SIZE)[0] for sample in samples])
    single = np.stack([map_of(network, images) for network in crossed.networks])  # (K, N, H, W)
    maps, scores, p_values = crossed.detector.forward(images)
    np.testing.assert_allclose(maps, single.min(0), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(scores, maps.max((1, 2)))
    left_out = np.split(np.array(crossed.detector.calibration.scores), np.cumsum([4, 3]))
    for of_image, p_value in zip(single.max((2, 3)).T, p_values, strict=True):
        literal = (1 + sum((fold >= 1.001 * score).sum() for fold, score in zip(left_out, of_image, strict=True))) / 11
        assert p_value >= literal - 1e-6
    assert evaluate(crossed.detector, read_data_set(folder)).metrics["image_auroc"] == 1.0


def test_the_guarantee_is_said_with_the_model(crossed: Trained, folder: Path, run: Callable) -> None:
    calibration = Detector.load(crossed.path, false_alarm_rate=0.2).calibration
    assert calibration.guaranteed_rate == pytest.approx(2 * 0.2 + 2 * 0.8 * 2 / 13)
    assert calibration.statement() == (
        "false-alarm rate 20 %, by 10 images in 3 folds that train and calibrate; that or less in practice, "
        "65 % at most is proven"
    )
    assert "asked 1 %: 3 images in 2 folds that train and calibrate support 25 %" in (
        Calibration((1.0, 2.0, 3.0), 0.01, folds=(2, 1)).statement()
    )
    outcome = run("export", crossed.path, "--format", "onnx-int8", "--data", folder)
    assert outcome.status == 2
    assert "cross-conformal" in outcome.err
    assert set(crossed.detector.drift_check()._martingales) == {"brightness", "sharpness"}


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize(("images", "folds"), [(2, 2), (10, 3), (41, 5), (9, 9)])
def test_folds_are_dealt_evenly_and_calibrate_what_they_left_out(images: int, folds: int, validate: bool) -> None:
    splits = fold_nominal(images, folds=folds, seed=0, validate=validate)
    assert sorted(sum((split.calibration for split in splits), ())) == list(range(images))
    sizes = [len(split.calibration) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for split in splits:
        assert sorted(split.fit + split.calibration) == list(range(images))
        assert set(split.validation) < set(split.fit)
        assert bool(split.validation) == (validate and len(split.fit) > 1)


def test_too_many_folds_and_a_folder_of_masks_are_refused(folder: Path, tmp_path: Path, run: Callable) -> None:
    outcome = run("train", folder, "-o", tmp_path / "m.onnx", "--cross-conformal", 11)
    assert (outcome.status, "give 2 to 10" in outcome.err) == (2, True)
    save_image(tmp_path / "masks/0.png", np.eye(64, dtype=np.uint8) * 255)
    with pytest.raises(BlemishError, match="do not go together"):
        train(folder, tmp_path / "m.onnx", cross_conformal=2, ignore_mask=tmp_path / "masks")


@pytest.mark.parametrize("name", ["split", "crossed"])
def test_largest_excesses_are_those_of_the_left_out_maps(name: str, request: pytest.FixtureRequest) -> None:
    """Each with one region at most: the excess is then a plain sum."""
    kept: Trained = request.getfixturevalue(name)
    images, regions = kept.materials[0].pixels.images, kept.detector.metadata.regions
    levels, most = [], []
    for network, material, fold in zip(kept.networks, kept.materials, folds_of(kept), strict=True):
        level = np.quantile(map_of(network, images[list(material.fit)]).max((1, 2)), 0.9)
        levels.append(level)
        most += [np.maximum(one - level, 0).sum() for one in map_of(network, images[fold])]
    assert regions.level == pytest.approx(max(levels), rel=1e-3)
    found = np.array(regions.largest)
    assert (found <= np.array(most) * 1.01 + 1e-3).all()
    assert (found > 0).sum() == (np.array(most) > 1e-6).sum()


def test_regions_have_p_values(split: Trained, folder: Path) -> None:
    detector = Detector.load(split.path, false_alarm_rate=0.4)
    (scored,) = detector.predict_iter([folder / "test/spot/0.png"])
    region, *_ = detector.regions(scored)
    excess = np.maximum(scored.anomaly_map - detector.metadata.regions.level, 0).sum()
    assert excess > max(detector.metadata.regions.largest)
    assert region.p_value == 1 / (1 + detector.calibration.images)
    assert region.as_json()["p_value"] == region.p_value


def test_light_and_focus_of_all_good_images_are_kept(split: Trained, folder: Path) -> None:
    paths = sorted((folder / "train/good").iterdir(), key=lambda path: int(path.stem))
    literal = [drift_statistics(load(path, SIZE)[0], 0.0) for path in paths]
    for name, values in split.detector.metadata.drift_reference.items():
        np.testing.assert_allclose(values, [one[name] for one in literal], atol=1e-3)
    assert len(drift_reference(split.materials[0].pixels, range(3), at_most=1000)["brightness"]) == 3
    check = split.detector.drift_check()
    for scored in split.detector.predict_iter(paths):
        check.add({"score": scored.score, **scored.drift_features})
    assert check.images == 10
    assert check.drift is None


def test_light_under_a_mask_does_not_count() -> None:
    rng = np.random.default_rng(0)
    pixels, ignored = rng.integers(0, 256, (8, 9, 3), np.uint8), rng.random((8, 9)) < 0.3
    other = np.where(ignored[..., None], 0, pixels).astype(np.uint8)
    values = drift_statistics(pixels, 1.0, ignored=ignored)
    assert values == drift_statistics(other, 1.0, ignored=ignored)
    assert values["brightness"] == pytest.approx(pixels[~ignored].mean())
    green, steps = pixels[..., 1].astype(int), ([], [])
    for row in range(8):
        for column in range(9):
            for axis, (r, c) in enumerate(((row + 1, column), (row, column + 1))):
                if r < 8 and c < 9 and not ignored[row, column] and not ignored[r, c]:
                    steps[axis].append(abs(green[r, c] - green[row, column]))
    assert values["sharpness"] == pytest.approx(np.mean([np.mean(one) for one in steps]))


@pytest.mark.slow
def test_the_file_says_what_each_network_decided_where_they_differ(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    """The first network takes images as they are, so what the file says of all holds for one of three."""
    fit_detector, turn = training.fit_detector, iter([False, True, False])
    frame = Alignment(Silhouettes(SIZE, 30.0), torch.rand(120, 24), radius=20.0, size=SIZE, frame=Frame(0.0, 0.0, 1.0))

    def decide(backbone: Any, material: Any, how: Any, **options: Any) -> DetectorNetwork:
        network = fit_detector(backbone, material, how, **options)
        return build_detector(network.pyramid, network.head.distance[0], alignment=frame if next(turn) else None)

    monkeypatch.setattr(training, "fit_detector", decide)
    metadata = train_and_keep(folder, tmp_path / "m.onnx", cross_conformal=3).detector.metadata
    assert metadata.networks == ({"aligned": False}, {"aligned": True}, {"aligned": False})
    assert metadata.aligned
    page = tmp_path / "card.html"
    said = run("info", tmp_path / "m.onnx", "-o", page).out
    for text in (said, page.read_text("utf-8")):
        assert "background counts for less (1 of its 3 networks)" in text


def test_of_one_network_and_of_networks_that_agree_no_number_is_said(crossed: Trained, split: Trained) -> None:
    assert split.detector.metadata.networks == ()
    assert crossed.detector.metadata.networks == ({"aligned": False},) * 3
    assert crossed.detector.metadata.supervision == split.detector.metadata.supervision


# Nothing may know the images held back


@pytest.mark.parametrize("labelled", [pytest.param(0, marks=pytest.mark.slow), 2], ids=["good images only", "labels"])
def test_no_number_of_the_network_depends_on_the_images_held_back(labelled: int, tmp_path: Path) -> None:
    """The premise of the proof: with other images held back all is bit for bit the same."""
    options: dict[str, Any] = {"false_alarm_rate": 0.3}

    def write(root: Path, *, held_back: Sequence[int] = ()) -> Path:
        rng = np.random.default_rng(0)
        for number in range(10):
            pixels = texture(rng)
            other = np.random.default_rng((1, number)).integers(0, 256, SIZE, dtype=np.uint8)
            save_image(root / f"train/good/{number}.png", other if number in held_back else pixels)
        for number in range(labelled):
            spotted = texture(rng)
            spotted[20:34, 20:34] = 10
            save_image(root / f"train/spot/{number}.png", spotted)
        return root

    before = train_and_keep(write(tmp_path / "before"), tmp_path / "before.onnx", **options)
    (network,), (material,) = before.networks, before.materials
    names = [sample.path.stem for sample in material.pixels.samples if not sample.anomalous]
    held_back = sorted(set(range(10)) - {int(names[index]) for index in material.fit})
    assert len(held_back) == before.detector.metadata.data["calibration_images"] > 1

    other = write(tmp_path / "after", held_back=held_back)
    after = train_and_keep(other, tmp_path / "after.onnx", **options)
    assert after.materials[0].fit == material.fit
    assert bool(len(network.head.branches)) == bool(labelled)
    torch.testing.assert_close(after.networks[0].state_dict(), network.state_dict(), rtol=0, atol=0)
    assert before.detector.calibration.scores != after.detector.calibration.scores


def test_calibration_scores_are_those_of_the_written_graph(split: Trained, folder: Path) -> None:
    images = find_calibration_images(split.detector.metadata, read_data_set(folder))
    scores = split.detector.score(images).scores
    np.testing.assert_allclose(scores, split.detector.calibration.scores, rtol=1e-5)
