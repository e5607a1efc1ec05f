"""The method "fcdd": what it learns, that it resumes, its backbones, and that its model file computes the same."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.images import read_image
from blemish.imaging.resizing import to_network_size
from blemish.methods.fcdd import Fcdd
from blemish.model.detector import Detector
from blemish.networks.build import map_upsampling
from blemish.networks.extractor import load_extractor
from blemish.networks.grid_convolutions import GridConvolutions
from blemish.networks.losses import image_loss, pixel_loss
from blemish.networks.trained_backbone import layers_of, trainable_from
from blemish.training import gradient_method
from blemish.training import run as training_run
from blemish.training.config import FcddConfig, TrainConfig
from blemish.training.run import plan, train
from helpers.keeping import Kept, keeping
from helpers.parts import write_parts
from helpers.small_networks import random_pyramid

SIZE = (64, 96)
FEW = FcddConfig(epoch_images=128, batch=8, learning_rate=1e-2, hidden_channels=16, watched_images=2, sigma=5)
OPTIONS: dict[str, Any] = {"size": SIZE, "method": "fcdd", "fcdd": FEW, "epochs": 3}


def figures(detector: Detector, root: Path) -> tuple[float, float]:
    """Image AUROC of the test split, and the share of the highest hundredth of the maps that lies on defects."""
    good = detector.predict(sorted((root / "test/good").iterdir())).scores
    paths = sorted((root / "test/spot").iterdir())
    found = detector.predict(paths)
    bad, on_defect = found.scores, []
    for path, anomaly_map in zip(paths, found.maps, strict=True):
        mask = np.asarray(Image.open(root / "ground_truth/spot" / f"{path.stem}_mask.png")) > 0
        on_defect.append(mask[anomaly_map >= np.quantile(anomaly_map, 0.99)].mean())
    auroc = np.mean([(b > g) + (b == g) / 2 for b in bad for g in good])
    return float(auroc), float(np.mean(on_defect))


@pytest.mark.parametrize(
    ("labelled", "masks", "supervision"),
    [
        (0, True, "good images + synthetic anomalies (confetti)"),
        (3, True, "good images + 3 labelled defects (3 masks)"),
        pytest.param(3, False, "good images + 3 labelled defects (no masks)", marks=pytest.mark.slow),
    ],
    ids=["confetti", "masks", "labels"],
)
def test_it_finds_and_shows_defects(labelled: int, masks: bool, supervision: str, tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", labelled=labelled, masks=masks)
    said: list[str] = []
    detector = train(parts, tmp_path / "m.onnx", notify=said.append, **OPTIONS)
    auroc, on_defect = figures(detector, parts)
    assert auroc == 1
    assert on_defect > 0.5
    assert detector.metadata.supervision == supervision
    losses = [float(one.split("loss ")[1].split(",")[0]) for one in said if one.startswith("fcdd: epoch")]
    assert len(losses) == 3
    assert losses[-1] < 0.8 * losses[0]


def test_outlier_exposure_is_learned_from(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    outliers = write_parts(tmp_path / "others", good=2, labelled=2) / "train" / "spot"
    decided = plan(parts, **OPTIONS, outlier_exposure=outliers)
    assert decided.supervision == "good images + outlier exposure (spot)"
    detector = train(parts, tmp_path / "m.onnx", **OPTIONS, outlier_exposure=outliers)
    assert figures(detector, parts)[0] == 1


def test_the_file_computes_what_the_module_does(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", labelled=2)
    kept = Kept()
    with keeping(kept):
        detector = train(parts, tmp_path / "m.onnx", **OPTIONS)
    paths = sorted((parts / "test").rglob("*.png"))
    pixels = np.stack([to_network_size(read_image(path), SIZE) for path in paths])
    with torch.inference_mode():
        expected = kept.networks[0](torch.from_numpy(pixels)).amax((1, 2)).numpy()
    np.testing.assert_allclose(detector.predict(paths).scores, expected, rtol=1e-4)


def test_a_killed_training_goes_on_to_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = write_parts(tmp_path / "parts")
    whole = train(parts, tmp_path / "whole.onnx", **OPTIONS)
    batch, drawn = gradient_method.ImageDraws.batch, []

    def stops(draws: gradient_method.ImageDraws, epoch: int, step: int, *, size: int) -> Any:
        drawn.append(epoch)
        if epoch == 1 and step == 3:
            raise KeyboardInterrupt
        return batch(draws, epoch, step, size=size)

    with monkeypatch.context() as patch:
        patch.setattr(gradient_method.ImageDraws, "batch", stops)
        with pytest.raises(KeyboardInterrupt):
            train(parts, tmp_path / "m.onnx", **OPTIONS)
    assert (tmp_path / ".m.onnx.fcdd.checkpoint").is_dir()
    said: list[str] = []
    resumed = train(parts, tmp_path / "m.onnx", notify=said.append, **OPTIONS)
    assert "fcdd: resumed after epoch 1 of 3" in said
    assert resumed.calibration.scores == whole.calibration.scores
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert not (tmp_path / ".m.onnx.fcdd.checkpoint").exists()


def test_a_network_of_the_paper_is_trained_from_random_weights(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", labelled=3)
    slow = replace(FEW, learning_rate=3e-3)
    detector = train(parts, tmp_path / "m.onnx", **OPTIONS | {"fcdd": slow}, backbone="cnn32-s")
    auroc, on_defect = figures(detector, parts)
    assert auroc == 1
    assert on_defect > 0.5


def test_layers_below_the_first_to_be_trained_stay_as_they_are(tmp_path: Path) -> None:
    before = load_extractor("tf_efficientnet_lite0")
    weights = {name: value.clone() for name, value in before.state_dict().items()}
    parts, copies = write_parts(tmp_path / "parts", labelled=2), []

    def noted(extractor: Any, layer: str) -> Any:
        copies.append(trainable_from(extractor, layer))
        return copies[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_method, "trainable_from", noted)
        detector = train(parts, tmp_path / "m.onnx", **OPTIONS | {"epochs": 1}, train_from="blocks.3")
    trained = copies[0].state_dict()
    # Tracing a network counts as a batch of its normalisations, which changes nothing.
    weights = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    changed = [name for name, value in weights.items() if not torch.equal(value, trained[name])]
    assert changed
    assert all(name.split(".")[1] == "blocks" and int(name.split(".")[2]) >= 3 for name in changed)
    assert figures(detector, parts)[0] == 1


def test_a_layer_to_train_from_is_named_as_the_backbone_names_it() -> None:
    extractor = load_extractor("test_resnet", pretrained=False)
    layers = layers_of(extractor)
    assert layers[0] == "conv1"
    for layer in ("all", *layers):
        trained = [name for name, weight in trainable_from(extractor, layer).named_parameters() if weight.requires_grad]
        first = next(name for name, _ in extractor.named_parameters() if layer == "all" or f".{layer}." in name)
        assert trained[0] == first
    with pytest.raises(BlemishError, match=r"no layer 'layer9' to train from; it has conv1, .*layer1"):
        trainable_from(extractor, "layer9")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"method": "gaussian", "train_from": "all"}, "the method 'gaussian' trains no backbone"),
        ({"method": "gaussian", "backbone": "cnn224"}, "cnn224 has random weights"),
        ({"backbone": "cnn224", "weights": "x.pth"}, "cnn224 starts from random weights"),
        ({"train_from": "layer9"}, "has no layer 'layer9' to train from"),
        ({"train_from": ""}, "train_from must be a name"),
        ({"precision": "half"}, "the precision"),
        ({"size": (60, 60)}, "multiple of 32"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_sentence(options: dict[str, Any], fault: str, tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    with pytest.raises(BlemishError, match=fault):
        train(parts, tmp_path / "m.onnx", **OPTIONS | options)
    assert not (tmp_path / "m.onnx").exists()


def test_the_plan_names_what_is_learned_from(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    decided = plan(parts, **OPTIONS)
    assert decided.method == "fcdd"
    assert decided.defect_branch == ("synthetic anomalies (confetti)",)
    assert "anomalies         synthetic anomalies (confetti)" in decided.as_text()


def test_an_everywhere_mask_makes_equation_3_equation_2() -> None:
    """The formula for masks with a mask everywhere, or nowhere, against that for labels."""
    maps = torch.rand(6, 8, 8, dtype=torch.float64)
    anomalous = torch.tensor([True, False] * 3)
    masks = anomalous[:, None, None].expand(maps.shape)
    torch.testing.assert_close(pixel_loss(maps, masks), image_loss(maps, anomalous))


def test_the_loss_is_equation_3_of_the_enlarged_map_times_the_gain() -> None:
    """Against the formula as it is written down, in float64; the detector's scores know no gain."""
    rng = np.random.default_rng(0)
    pyramid = random_pyramid(SIZE)
    upsample = map_upsampling(pyramid, sigma=9).double()
    cells = GridConvolutions(pyramid, maps=2, layers=1, kernel_size=3, hidden=4)
    objective = Fcdd(TrainConfig(fcdd=FcddConfig(gain=2.5))).objective(cells, upsample)
    maps, masks = rng.random((4, *pyramid.field.grid)), rng.random((4, *SIZE)) < 0.1
    masks[0], masks[1] = False, True
    rows, columns = upsample.rows.numpy(), upsample.columns.numpy()
    enlarged = np.stack([rows @ one @ columns.T for one in maps])
    terms = []
    for one, mask in zip(2.5 * enlarged, masks, strict=True):
        terms.append(one[~mask].sum() / mask.size)
        if mask.any():
            terms[-1] -= np.log(1 - np.exp(-one[mask].sum() / mask.size))
    loss = objective.loss(torch.from_numpy(maps), torch.from_numpy(masks))
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-9)
    np.testing.assert_allclose(objective.scores(torch.from_numpy(maps)), enlarged.max((1, 2)), rtol=1e-9)


def test_bfloat16_trains_and_says_nothing_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    parts, level = write_parts(tmp_path / "parts", labelled=2), logging.getLogger("lightning_fabric").level
    detector = train(parts, tmp_path / "m.onnx", **OPTIONS, precision="bf16-mixed")
    assert figures(detector, parts)[0] == 1
    assert "Automatic Mixed Precision" not in capfd.readouterr().err
    assert logging.getLogger("lightning_fabric").level == level


def test_calibration_images_are_never_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, seen = write_parts(tmp_path / "parts"), []
    fit_detector = training_run.fit_detector

    def noted(extractor: Any, data: Any, *rest: Any, **options: Any) -> Any:
        seen.append(data)
        return fit_detector(extractor, data, *rest, **options)

    drawn: set[int] = set()
    nominal_image = gradient_method.ImageDraws._nominal_image

    monkeypatch.setattr(training_run, "fit_detector", noted)
    monkeypatch.setattr(
        gradient_method.ImageDraws,
        "_nominal_image",
        lambda draws, rng: (drawn.update(draws._nominal), nominal_image(draws, rng))[1],
    )
    detector = train(parts, tmp_path / "m.onnx", **OPTIONS | {"epochs": 1})
    assert drawn == set(seen[0].fit)
    assert len(drawn) + detector.calibration.images == 12
