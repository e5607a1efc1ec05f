"""FCDD written down literally from the paper (Liznerski et al. 2021) in float64 NumPy, loops and all, against ours.

Nothing here uses the package but the functions under test: the network's layers, receptive fields, objectives,
upsampling, local contrast normalisation and scores are computed anew from their definitions.
"""

from math import ceil, exp, log, pi, sqrt

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from blemish.experiments import tester
from blemish.experiments.augmentation import Normalisation, Preparation
from blemish.experiments.data.tasks import ArrayImages, Task
from blemish.experiments.methods import Fcdd, Hypersphere, build_method
from blemish.experiments.recipe import Recipe
from blemish.networks.losses import hypersphere_distance, image_loss, pixel_loss, pseudo_huber
from blemish.networks.receptive_field import receptive_fields
from blemish.networks.upsampling import gaussian_upsampling

Array = npt.NDArray[np.float64]

RECIPE = Recipe.load("fashion-mnist").with_setting("network", "cnn28")
SIGMA = RECIPE.sigma  # 1.2 pixels
CPU = torch.device("cpu")
# Kernel, stride and padding of the layers of CNN28 from the input on (appendix).
CNN28 = [(5, 1, 2), (2, 2, 0), (5, 1, 2), (2, 2, 0), (1, 1, 0)]


# The paper's formulas


def huber_map(phi: Array) -> Array:
    """Section 3: A(X) = sqrt(phi(X)^2 + 1) - 1."""
    return np.sqrt(phi**2 + 1) - 1


def equation_1(vectors: Array, y: npt.NDArray[np.bool_]) -> float:
    """HSC: (1/n) sum_i (1-y_i) h(phi(X_i)) - y_i log(1 - exp(-h(phi(X_i)))), h the pseudo-Huber loss."""
    total = 0.0
    for vector, label in zip(vectors, y, strict=True):
        h = sqrt(sum(value**2 for value in vector) + 1) - 1
        total += (1 - label) * h - label * log(1 - exp(-h))
    return total / len(y)


def equation_2(maps: Array, y: npt.NDArray[np.bool_]) -> float:
    """FCDD: (1/n) sum_i (1-y_i) ||A(X_i)||_1 / (u v) - y_i log(1 - exp(-||A(X_i)||_1 / (u v)))."""
    total = 0.0
    for single, label in zip(maps, y, strict=True):
        u, v = single.shape
        mean = np.abs(single).sum() / (u * v)
        total += (1 - label) * mean - label * log(1 - exp(-mean))
    return total / len(y)


def equation_3(maps: Array, masks: npt.NDArray[np.bool_]) -> float:
    """With masks: (1/n) sum_i [(1/m) sum_j (1-Y_j) A'_j - log(1 - exp(-(1/m) sum_j Y_j A'_j))].

    The second term is infinite where no Y_j is 1, and is left out there.
    """
    total = 0.0
    for single, mask in zip(maps, masks, strict=True):
        m = single.size
        total += ((1 - mask) * single).sum() / m
        if mask.any():
            total -= log(1 - exp(-(mask * single).sum() / m))
    return total / len(maps)


def seen(cell: int, layers: list[tuple[int, int, int]]) -> set[int]:
    """The pixels along one axis that a cell of the last layer depends on, followed back layer by layer."""
    places = {cell}
    for kernel, stride, padding in reversed(layers):
        places = {place * stride - padding + k for place in places for k in range(kernel)}
    return places


def upsample(cells: Array, size: int, layers: list[tuple[int, int, int]], sigma: float) -> Array:
    """Algorithm 1: every cell is spread by a Gaussian at the centre of its receptive field, cut to that field.

    The Gaussian has the peak 1. Over an even field, whose centre lies between two pixels, the authors' code takes one
    that has its middle sample twice, half as high along each axis.
    """
    upsampled = np.zeros((size, size))
    for row, column in np.ndindex(cells.shape):
        fields = [seen(place, layers) for place in (row, column)]
        for y, x in np.ndindex(size, size):
            if y in fields[0] and x in fields[1]:
                weight = 1.0
                for pixel, field in zip((y, x), fields, strict=True):
                    distance = abs(pixel - (min(field) + max(field)) / 2)
                    if len(field) % 2:
                        weight *= exp(-(distance**2) / (2 * sigma**2))
                    else:
                        weight *= exp(-((distance - 0.5) ** 2) / (2 * sigma**2)) / 2
                upsampled[y, x] += weight * cells[row, column]
    return upsampled


def convolution(images: Array, layer: nn.Conv2d) -> Array:
    """(N, C, H, W) to (N, D, H, W), zeros around the border."""
    weight, bias = (value.detach().numpy().astype(np.float64) for value in (layer.weight, layer.bias))
    kernel, padding = weight.shape[-1], weight.shape[-1] // 2
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    return np.einsum("nchwij,dcij->ndhw", windows, weight) + bias[:, None, None]


def network(images: Array, layers: nn.Sequential) -> Array:
    """phi of CNN28, layer by layer, in the test's mode."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            images = convolution(images, layer)
        elif isinstance(layer, nn.BatchNorm2d):
            mean, variance, gamma, beta = (
                value.detach().numpy().astype(np.float64)[:, None, None]
                for value in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
            )
            images = (images - mean) / np.sqrt(variance + layer.eps) * gamma + beta
        elif isinstance(layer, nn.LeakyReLU):
            images = np.where(images > 0, images, layer.negative_slope * images)
        else:
            n, c, h, w = images.shape
            assert isinstance(layer, nn.MaxPool2d)
            images = images.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
    return images


def local_contrast(image: Array) -> Array:
    """x <- x - mean(x), then x <- x / mean|x|."""
    image = image - image.mean()
    return image / np.abs(image).mean()


# The same random weights and inputs for both


def random_fcdd(*, pixel_wise: bool = False, mode: str = "paper") -> Fcdd:
    """FCDD of CNN28 as if it were trained: batch normalisation has statistics and weights of its own."""
    torch.manual_seed(3)
    method = build_method("fcdd", RECIPE.with_setting("pixel_wise", pixel_wise), mode=mode)
    for layer in method.network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.weight.data, layer.bias.data):
                values.normal_()
            layer.running_var.uniform_(0.5, 2)
    method.network.eval()
    return method


def numbers(rng: np.random.Generator, *shape: int) -> Array:
    """Random numbers that float32 holds exactly."""
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def as_tensor(values: Array) -> torch.Tensor:
    return torch.from_numpy(values).float()


LABELS = [[False] * 5, [True] * 5, [True, False, False, True, False], [False, False, False, False, True]]


@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0])
def test_the_map_is_the_pseudo_huber_loss_of_each_location(scale, rng):
    phi = scale * numbers(rng, 3, 7, 9)
    np.testing.assert_allclose(pseudo_huber(torch.from_numpy(phi)), huber_map(phi), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(pseudo_huber(as_tensor(phi)), huber_map(phi.astype(np.float32)), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("labels", LABELS, ids=["nominal", "anomalous", "mixed", "one anomalous"])
def test_the_losses_with_labels_are_equations_1_and_2(labels, rng):
    y = np.array(labels)
    vectors, maps = numbers(rng, 5, 12), huber_map(numbers(rng, 5, 7, 7))
    distances = hypersphere_distance(torch.from_numpy(vectors))[:, None]
    assert image_loss(distances, torch.from_numpy(y)).item() == pytest.approx(equation_1(vectors, y), rel=1e-9)
    assert image_loss(torch.from_numpy(maps), torch.from_numpy(y)).item() == pytest.approx(
        equation_2(maps, y), rel=1e-9
    )


@pytest.mark.parametrize("labels", LABELS, ids=["nominal", "anomalous", "mixed", "one anomalous"])
def test_the_loss_with_masks_is_equation_3(labels, rng):
    maps = huber_map(numbers(rng, 5, 11, 13))
    masks = (rng.random((5, 11, 13)) < 0.2) & np.array(labels)[:, None, None]
    loss = pixel_loss(torch.from_numpy(maps), torch.from_numpy(masks)).item()
    assert loss == pytest.approx(equation_3(maps, masks), rel=1e-9)


@pytest.mark.parametrize("labels", LABELS[1:3], ids=["anomalous", "mixed"])
def test_the_gradient_of_the_loss_is_that_of_equation_2(labels, rng):
    y, phi, step = np.array(labels), numbers(rng, 5, 3, 4), 1e-6
    outputs = torch.from_numpy(phi).requires_grad_()
    image_loss(pseudo_huber(outputs), torch.from_numpy(y)).backward()
    numeric = np.zeros_like(phi)
    for place in np.ndindex(phi.shape):
        nudge = np.zeros_like(phi)
        nudge[place] = step
        numeric[place] = (equation_2(huber_map(phi + nudge), y) - equation_2(huber_map(phi - nudge), y)) / (2 * step)
    np.testing.assert_allclose(outputs.grad, numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["even field", "odd field"])
def test_upsampling_is_algorithm_1(name, rng):
    layers = CNN28 if name == "even field" else [(3, 1, 1), (3, 2, 1), (3, 1, 1), (3, 2, 1)]
    traced = nn.Sequential(*(nn.Conv2d(1, 1, k, stride=s, padding=p) for k, s, p in layers))
    assert len(seen(0, layers)) % 2 == (name == "odd field")
    (field,) = receptive_fields(traced, (28, 28))
    cells = huber_map(numbers(rng, 7, 7))
    ours = gaussian_upsampling(field, size=(28, 28), sigma=SIGMA, normalised=False)(as_tensor(cells))
    np.testing.assert_allclose(ours, upsample(cells, 28, layers, SIGMA), rtol=1e-5, atol=1e-7)


def test_the_normalised_upsampling_is_the_mean_of_the_cells_weighted_by_the_papers_gaussian(rng):
    (field,) = receptive_fields(random_fcdd().network, (28, 28))
    cells = huber_map(numbers(rng, 7, 7))
    centres = [(min(seen(cell, CNN28)) + max(seen(cell, CNN28))) / 2 for cell in range(7)]
    expected = np.zeros((28, 28))
    for y, x in np.ndindex(28, 28):
        gaussians = np.zeros((7, 7))
        for row, column in np.ndindex(7, 7):
            squared = (y - centres[row]) ** 2 + (x - centres[column]) ** 2
            gaussians[row, column] = exp(-squared / (2 * SIGMA**2)) / (2 * pi * SIGMA**2)
        expected[y, x] = (gaussians * cells).sum() / gaussians.sum()
    ours = gaussian_upsampling(field, size=(28, 28), sigma=SIGMA)(as_tensor(cells))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("labels", LABELS, ids=["nominal", "anomalous", "mixed", "one anomalous"])
def test_fcdd_trains_on_equations_2_and_3(labels, rng):
    inputs, y = numbers(rng, 5, 1, 28, 28), np.array(labels)
    masks = (rng.random((5, 28, 28)) < 0.3) & y[:, None, None]
    by_label, by_mask = random_fcdd(), random_fcdd(pixel_wise=True)
    maps = huber_map(network(inputs, by_label.network)[:, 0])
    assert maps.shape == (5, 7, 7)
    batch = as_tensor(inputs), torch.from_numpy(masks), torch.from_numpy(y)
    with torch.no_grad():
        assert by_label.loss(by_label.network, *batch).item() == pytest.approx(equation_2(maps, y), rel=1e-4)
        upsampled = np.stack([upsample(cells, 28, CNN28, SIGMA) for cells in maps])
        assert by_mask.loss(by_mask.network, *batch).item() == pytest.approx(equation_3(upsampled, masks), rel=1e-4)


def test_scores_heatmaps_and_auroc_of_a_run_are_the_papers(rng):
    """From raw images on: local contrast, the range of the nominal images to 0..1, phi, A, ||A||_1 and A'."""
    raw = rng.integers(0, 256, (30, 1, 28, 28), dtype=np.uint8)
    nominal, test = raw[:10], raw[10:]
    anomalous = np.arange(20) % 3 == 0
    images, method = ArrayImages(torch.from_numpy(nominal)), random_fcdd()
    task = Task(images, ArrayImages(torch.from_numpy(test)), torch.from_numpy(anomalous), ("any",) * 20)
    preparation = Preparation(28, RECIPE.augmentation, Normalisation.fit(RECIPE, images), "paper")
    test_of_run = tester.Tester(task, preparation, CPU)

    contrast = [local_contrast(image / 255) for image in nominal]
    least, most = min(image.min() for image in contrast), max(image.max() for image in contrast)
    inputs = np.stack([(local_contrast(image / 255) - least) / (most - least) for image in test])
    maps = huber_map(network(inputs, method.network)[:, 0])
    sums = np.array([np.abs(cells).sum() for cells in maps])  # the paper's score, s(X) = ||A(X)||_1

    np.testing.assert_allclose(test_of_run.scores(method) * 7 * 7, sums, rtol=1e-4)
    pairs = [
        (sums[i] > sums[k]) + (sums[i] == sums[k]) / 2
        for i in np.flatnonzero(anomalous)
        for k in np.flatnonzero(~anomalous)
    ]
    assert test_of_run.image_auroc(method) == pytest.approx(np.mean(pairs), abs=1e-12)
    expected = np.stack([upsample(cells, 28, CNN28, SIGMA) for cells in maps[:3]])
    np.testing.assert_allclose(test_of_run.maps(method, [0, 1, 2]), expected, rtol=1e-3, atol=1e-6)


def test_the_heatmap_of_hsc_is_captums_saliency_blurred(rng):
    saliency = pytest.importorskip("captum.attr").Saliency
    torch.manual_seed(4)
    method = build_method("hsc", RECIPE, mode="paper")
    assert isinstance(method, Hypersphere)
    method.network.eval()
    inputs = as_tensor(numbers(rng, 3, 1, 28, 28))

    def score(images: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(method.network(images).square().sum(1) + 1) - 1

    gradients = saliency(score).attribute(inputs.clone().requires_grad_(), abs=True).sum(1).double().numpy()
    reach = method.kernel // 2
    assert method.kernel == 2 * ceil((len(seen(0, CNN28)) - 1) / 2) + 1  # the least odd window that holds the field
    line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * SIGMA**2))
    mirrored = np.pad(gradients, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, (method.kernel, method.kernel), axis=(1, 2))
    blurred = np.einsum("nhwij,i,j->nhw", windows, line / line.sum(), line / line.sum())
    np.testing.assert_allclose(method.maps(inputs).detach(), blurred, rtol=1e-3, atol=1e-8)
