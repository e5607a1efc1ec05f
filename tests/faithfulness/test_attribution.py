"""Attribution methods against their formulas, on graphs made differentiable."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from blemish.model.detector import Detector
from blemish.training.run import train
from helpers.hammers import pictures
from helpers.images import SIDE, noise, save_image, stained


@pytest.fixture(scope="module")
def torch_model(tiny_model: Path):
    """The module of the file and its score: the graph read by another program than ours."""
    pytest.importorskip("captum")
    pytest.importorskip("onnx2torch")
    from blemish.faithfulness.differentiable import differentiable

    network = differentiable(tiny_model)
    return lambda pixels: network(pixels).amax((1, 2))


def smooth(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values.astype(np.float32), 5.0, mode="nearest")


@pytest.mark.filterwarnings("error:Using a non-tuple")  # of Slice: newer torch may refuse it
@pytest.mark.parametrize(
    "align", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["turned upright", "as it lies"]
)
def test_models_with_more_in_their_graphs_can_be_differentiated(align: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    from blemish.faithfulness.differentiable import differentiable

    images, _, _ = pictures(24)
    for number, image in enumerate(images):
        save_image(tmp_path / f"hammers/{number}.png", image)
    detector = train(tmp_path / "hammers", tmp_path / "m.onnx", size=(64, 64), align=align)
    assert detector.metadata.aligned == align
    pixels = images[:1, ::2, ::2]
    grey = torch.from_numpy(pixels).float().requires_grad_()
    anomaly_map = differentiable(tmp_path / "m.onnx")(grey)
    np.testing.assert_allclose(
        anomaly_map.detach().numpy(), detector.forward(pixels)[0], atol=1e-3 * detector.scale.high
    )
    anomaly_map.max().backward()
    assert grey.grad is not None
    assert grey.grad.isfinite().all()
    assert (grey.grad != 0).any()


def test_the_differentiable_module_scores_as_the_file(torch_model: Callable, tiny_model: Path) -> None:
    for pixels in (noise(1), stained(2)):
        expected = Detector.load(tiny_model).forward(pixels[None])[1]
        with torch.no_grad():
            found = torch_model(torch.from_numpy(pixels.astype(np.float32))[None])
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)


def test_attributions_are_those_of_the_formulas(torch_model: Callable, tiny_model: Path) -> None:
    from blemish.faithfulness.attribution import STEPS, attribution_methods

    detector = Detector.load(tiny_model)
    explainers = attribution_methods(tiny_model, detector)
    pixels, fill = stained(2), noise(50)

    def gradient_at(image: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(image.astype(np.float32))[None].requires_grad_()
        torch_model(x).sum().backward()
        return x.grad[0].numpy()

    literal = smooth(np.abs(gradient_at(pixels)).sum(-1))
    np.testing.assert_allclose(explainers["gradient"](pixels, fill), literal, rtol=1e-3, atol=1e-6)

    points, weights = np.polynomial.legendre.leggauss(STEPS)
    way = pixels.astype(np.float32) - fill
    mean = sum(w / 2 * gradient_at(fill + (p + 1) / 2 * way) for p, w in zip(points, weights, strict=True))
    literal = smooth(np.abs((way * mean).sum(-1)))
    scale = np.abs(literal).max()
    np.testing.assert_allclose(explainers["integrated gradients"](pixels, fill), literal, atol=1e-3 * scale)

    score = detector.forward(pixels[None])[1][0]
    total, count = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for top in range(0, SIDE - 7, 4):
        for left in range(0, SIDE - 7, 4):
            covered = pixels.copy()
            window = (slice(top, top + 8), slice(left, left + 8))
            covered[window] = fill[window]
            total[window] += score - detector.forward(covered[None])[1][0]
            count[window] += 1
    literal = smooth(total / count)
    found = explainers["occlusion"](pixels, fill)
    assert np.corrcoef(found.ravel(), literal.ravel())[0, 1] > 0.999
    np.testing.assert_allclose(found, literal, atol=0.02 * np.abs(literal).max())
