"""The method "hsc": its objective, its map against Captum's Grad-CAM, and the score of its model file."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blemish.imaging.images import read_image
from blemish.imaging.resizing import to_network_size
from blemish.methods.hsc import Hsc
from blemish.networks.build import map_upsampling
from blemish.networks.grid_convolutions import GridConvolutions
from blemish.networks.hypersphere_head import HypersphereHead, PooledVectors
from blemish.training.config import FcddConfig, TrainConfig
from blemish.training.run import train
from helpers.images import noise
from helpers.keeping import Kept, keeping
from helpers.parts import write_parts
from helpers.small_networks import random_pyramid

SIZE = (64, 96)
FEW = FcddConfig(epoch_images=128, batch=8, learning_rate=1e-2, hidden_channels=16, watched_images=2)
OPTIONS: dict[str, Any] = {"size": SIZE, "method": "hsc", "fcdd": FEW, "epochs": 3}


@pytest.fixture(scope="module")
def head() -> HypersphereHead:
    torch.manual_seed(3)
    pyramid = random_pyramid(SIZE)
    cells = GridConvolutions(pyramid, maps=2, layers=2, kernel_size=3, hidden=6)
    upsample = map_upsampling(pyramid, sigma=9)
    vectors = PooledVectors(cells, length=5)
    with torch.no_grad():
        vectors.output.bias.mul_(0.1)  # so that features raise the score
    return HypersphereHead(vectors, upsample).eval()


@pytest.fixture(scope="module")
def maps() -> list[torch.Tensor]:
    torch.manual_seed(3)
    pyramid = random_pyramid(SIZE)
    return pyramid(torch.from_numpy(np.stack([noise(seed, size=SIZE) for seed in range(4)])))


@pytest.mark.parametrize("masked", ["everywhere", "a spot"])
def test_the_loss_is_equation_1_of_labels(masked: str) -> None:
    """Against the formula as it is written down, in float64."""
    rng = np.random.default_rng(0)
    pyramid = random_pyramid(SIZE)
    cells = GridConvolutions(pyramid, maps=2, layers=1, kernel_size=3, hidden=4)
    objective = Hsc(TrainConfig()).objective(cells, map_upsampling(pyramid, sigma=9))
    vectors, anomalous = rng.normal(size=(6, 5)), np.array([True, False, False, True, True, False])
    masks = np.zeros((6, 8, 8), dtype=bool)
    masks[anomalous] = True
    if masked == "a spot":
        masks[:, 2:] = False
    distances = np.sqrt((vectors**2).sum(1) + 1) - 1
    expected = np.where(anomalous, -np.log(1 - np.exp(-distances)), distances).mean()
    loss = objective.loss(torch.from_numpy(vectors), torch.from_numpy(masks))
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(objective.scores(torch.from_numpy(vectors)), distances, rtol=1e-12)


def test_the_map_is_captums_grad_cam(head: HypersphereHead, maps: list[torch.Tensor]) -> None:
    layer_grad_cam = pytest.importorskip("captum.attr").LayerGradCam

    class Score(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = head.vectors

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return torch.sqrt(self.vectors(inputs).square().sum(1) + 1) - 1

    attribution = layer_grad_cam(Score(), head.vectors.cells)
    inputs = tuple(one.clone() for one in maps)
    expected = F.relu(attribution.attribute(inputs)[:, 0]).detach()
    assert (expected.amax((1, 2)) > 0).all()
    with torch.no_grad():
        made = head(maps)
    to_one = made / made.amax((1, 2), keepdim=True)
    torch.testing.assert_close(to_one, expected / expected.amax((1, 2), keepdim=True), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_the_highest_value_of_the_upsampled_map_is_the_score(head: HypersphereHead, maps: list[torch.Tensor]) -> None:
    phi = head.vectors(maps).double()
    scores = torch.sqrt(phi.square().sum(1) + 1) - 1
    torch.testing.assert_close(head.upsample(head(maps)).amax((1, 2)).double(), scores, rtol=1e-4, atol=0)


@torch.no_grad()
def test_a_score_that_no_cell_raises_is_shown_everywhere(head: HypersphereHead, maps: list[torch.Tensor]) -> None:
    none, head = [torch.zeros_like(one) for one in maps], deepcopy(head)
    head.vectors.cells.layers[4].bias.fill_(-1)  # so that no feature is positive
    made = head.upsample(head(none))
    scores = torch.sqrt(head.vectors.output.bias.square().sum() + 1) - 1
    torch.testing.assert_close(made, scores.expand(made.shape))


@pytest.mark.parametrize("labelled", [0, 3], ids=["confetti", "masks"])
def test_it_finds_defects_and_its_file_computes_what_the_module_does(labelled: int, tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", labelled=labelled)
    kept, said = Kept(), []
    with keeping(kept):
        detector = train(parts, tmp_path / "m.onnx", notify=said.append, **OPTIONS)
    good, bad = (detector.predict(sorted((parts / "test" / kind).iterdir())).scores for kind in ("good", "spot"))
    assert min(bad) > max(good)
    assert sum(one.startswith("hsc: epoch") for one in said) == 3
    network = kept.networks[0]
    paths = sorted((parts / "test").rglob("*.png"))
    pixels = torch.from_numpy(np.stack([to_network_size(read_image(path), SIZE) for path in paths]))
    with torch.inference_mode():
        vectors = network.head.vectors(network.pyramid(pixels)).double()
    expected = torch.sqrt(vectors.square().sum(1) + 1) - 1
    np.testing.assert_allclose(detector.predict(paths).scores, expected.numpy(), rtol=1e-4)
