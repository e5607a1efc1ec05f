"""The second opinion from end to end: it alone knows the images held back, and nothing is calibrated with it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blemish import copies, evidence, gate, learning, training_anomalies
from blemish.datasets.layouts import read_data_set
from blemish.detector import Detector
from blemish.exporting.graphs import first_opinion
from blemish.exporting.held_back import held_back_images
from blemish.training import train
from conftest import save_image
from keeping import Kept, keeping
from test_training import SIZE, striped, write_parts

GOOD = 14
CLOSED_FORMS = ("gaussian.", "second.")


@dataclass
class Trained(Kept):
    """A written detector, and the networks and their material that went into it."""

    path: Path = Path()
    data: Path = Path()

    @property
    def detector(self) -> Detector:
        return Detector.load(self.path)

    @property
    def known(self) -> list[int]:
        """Indices of the images that the last network's second opinion was given."""
        return list(self.materials[-1].held_back)


@pytest.fixture(autouse=True, scope="module")
def few() -> Any:
    """Little of all that a training makes up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "MOST_SYNTHETIC", 24)
        patch.setattr(evidence, "COPIES", 8)
        patch.setattr(training_anomalies, "MOST_LABELLED", 12)
        patch.setattr(copies, "ENOUGH_IMAGES", 20)
        yield


def trained(data: Path, path: Path, **options: Any) -> Trained:
    kept = Trained(path=path, data=data)
    with keeping(kept):
        train(data, path, **({"size": SIZE, "epochs": 1} | options))
    return kept


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """With all that a detector can have."""
    folder = tmp_path_factory.mktemp("usual")
    return trained(write_parts(folder / "parts", good=GOOD, labelled=3), folder / "m.onnx", false_alarm_rate=0.3)


def graphs(kept: Trained, folder: Path) -> tuple[Detector, Detector]:
    """What was written, with the second opinion and without it."""
    path = folder / "first.onnx"
    path.write_bytes(first_opinion(kept.path.read_bytes()))
    return kept.detector, Detector.load(path)


def test_it_knows_what_was_held_back_and_the_closed_form_does_not(usual: Trained) -> None:
    (material,), (network,) = usual.materials, usual.networks
    good = [index for index, sample in enumerate(material.pixels.samples) if not sample.anomalous]
    assert sorted([*material.fit, *usual.known]) == good
    assert set(material.validation) < set(material.fit)
    assert usual.detector.metadata.second_opinion
    with torch.inference_mode():
        features = network.features(torch.from_numpy(np.array(material.pixels.images[usual.known])))
        gaussian, second_opinion = network.head.gaussian, network.head.second
        whitened = gaussian.whiten(features)
        first, second = gaussian.distance(whitened), second_opinion.distance(whitened, gaussian.scale)
    assert second.mean() < 0.95 * first.mean()


def test_labels_change_nothing_of_both_closed_forms(usual: Trained, tmp_path: Path) -> None:
    """What is learned from labels stands beside them, so other defects are found as far as without."""
    alone = trained(write_parts(tmp_path / "parts", good=GOOD), tmp_path / "m.onnx", false_alarm_rate=0.3)
    assert alone.networks[0].head.evidence is None
    of_both, of_good = (
        {name: value for name, value in kept.networks[0].head.state_dict().items() if name.startswith(CLOSED_FORMS)}
        for kept in (usual, alone)
    )
    assert of_both
    torch.testing.assert_close(of_both, of_good, rtol=0, atol=0)


def test_calibration_scores_are_those_of_the_graph_without_it(usual: Trained, tmp_path: Path) -> None:
    deployed, first = graphs(usual, tmp_path)
    images = held_back_images(deployed.metadata, read_data_set(usual.data))
    alone, both = first.score(images), deployed.score(images)
    np.testing.assert_allclose(alone.scores, deployed.calibration.scores, rtol=1e-4)
    assert both.scores.mean() < 0.99 * alone.scores.mean()
    regions = deployed.metadata.regions
    assert regions is not None
    literal = [np.maximum(one - regions.level, 0).sum() for one in alone.maps]  # all regions of an image together
    assert (np.array(regions.largest) <= np.array(literal) * 1.001 + 1e-3).all()
    assert (np.array(regions.largest) > 0).sum() == (np.array(literal) > 1e-3).sum()


def test_no_pixel_of_any_image_is_larger_with_it(usual: Trained, tmp_path: Path) -> None:
    deployed, first = graphs(usual, tmp_path)
    paths = sorted(usual.data.rglob("*.png"))
    pairs = list(zip(deployed.stream(paths), first.stream(paths), strict=True))
    for both, alone in pairs:
        assert (both.anomaly_map <= alone.anomaly_map + 1e-4 * alone.anomaly_map.max()).all()
        assert both.p_value >= alone.p_value - 1e-6
    assert any(both.score < 0.99 * alone.score for both, alone in pairs)


def test_an_export_is_calibrated_without_it(usual: Trained, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from blemish.exporting import export

    made = export(usual.path, usual.data, tmp_path / "m.openvino.onnx", target="openvino")
    there = Detector.load(made.file)
    assert there.metadata.second_opinion
    np.testing.assert_allclose(there.calibration.scores, usual.detector.calibration.scores, rtol=1e-3)
    images = held_back_images(there.metadata, read_data_set(usual.data))
    np.testing.assert_allclose(there.score(images).scores, usual.detector.score(images).scores, rtol=1e-3)


def test_only_higher_scores_are_drift(usual: Trained) -> None:
    """As low as the second opinion can make them; light and focus are watched in both directions."""
    check = usual.detector.drift_check(false_alarm_rate=0.2)
    light = {name: np.median(values) for name, values in usual.detector.metadata.watched.items()}
    for _ in range(100):
        check.add({"score": 0.0, **light})
    assert check._martingales["score"].highest == 0
    assert set(check._martingales["score"]._directions) == {"higher"}
    assert len(set(check._martingales["brightness"]._directions)) == 4


def test_nothing_else_depends_on_the_calibration_images(usual: Trained, tmp_path: Path) -> None:
    """The premise of the proof: other calibration images, and all but the second opinion is bit for bit the same."""
    (material,) = usual.materials
    data, rng = write_parts(tmp_path / "parts", good=GOOD, labelled=3), np.random.default_rng(1)
    for index in usual.known:
        path = material.pixels.samples[index].path
        save_image(data / path.relative_to(usual.data), rng.integers(0, 256, SIZE, dtype=np.uint8))
    again = trained(data, tmp_path / "m.onnx", false_alarm_rate=0.3)
    assert again.materials[0].fit == material.fit
    assert not np.array_equal(again.materials[0].pixels.images, material.pixels.images)

    before, after = (kept.networks[0].state_dict() for kept in (usual, again))
    assert before.keys() == after.keys()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    of_second = {name for name in changed if name.startswith("head.second.")}
    assert {"head.second.shift", "head.second.variances.0.gains"} <= of_second
    assert changed == of_second

    # The same of what is written
    first = [kept.networks[0].first_opinion()(torch.from_numpy(material.pixels.images)) for kept in (usual, again)]
    assert torch.equal(*first)


def test_images_with_a_mask_of_their_own_do_not_join_it(tmp_path: Path) -> None:
    """Nothing fills what they ignore, so that there is nothing ordinary to learn there."""
    data = write_parts(tmp_path / "parts", good=GOOD)
    mask = np.zeros(SIZE, np.uint8)
    mask[10:20, 10:40] = 255
    for_all = save_image(tmp_path / "all.png", mask)
    shared = trained(data, tmp_path / "all.onnx", anomalies="none", ignore=for_all)
    assert len(shared.known) == 3

    masks = [
        tmp_path / "masks" / shared.materials[0].pixels.samples[one].path.relative_to(data) for one in shared.known
    ]
    save_image(masks[1], mask)
    own = trained(data, tmp_path / "own.onnx", anomalies="none", ignore=tmp_path / "masks")
    assert own.known == [shared.known[0], shared.known[2]]
    for path in masks:
        save_image(path, mask)
    none = trained(data, tmp_path / "none.onnx", anomalies="none", ignore=tmp_path / "masks")
    assert none.networks[0].head.second is None
    assert not none.detector.metadata.second_opinion


def test_images_far_out_do_not_join_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they would not have been fitted to: otherwise defects among the calibration images would be ordinary."""
    data = write_parts(tmp_path / "parts", good=157)
    for index in range(10):
        # Each a little darker than the others: identical images would count once.
        save_image(data / f"train/good/wrong{index}.png", striped(2 + index % 4) - np.uint8(index % 5))
    scores = []
    for limit in (learning.ordinary, lambda *_: math.inf):
        monkeypatch.setattr(learning, "ordinary", limit)
        kept = trained(data, tmp_path / "m.onnx", size=(32, 32), anomalies="none")
        names = [kept.materials[0].pixels.samples[index].path.stem for index in kept.known]
        held_back = next(name for name in names if name.startswith("wrong"))
        scores.append(kept.detector.score([data / f"train/good/{held_back}.png"]).scores[0])
    assert scores[1] < 0.2 * scores[0]
