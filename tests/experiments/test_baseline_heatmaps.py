import copy

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from blemish.experiments.baseline_heatmaps import blur, gradient_maps, reconstruction_maps


def hypersphere_network() -> nn.Module:
    """Convolution, batch norm, leaky ReLU, pooling and a vector of four, with statistics that are not 0 and 1."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.LeakyReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(5 * 3 * 4, 4),
    ).double()
    network(torch.randn(32, 2, 6, 8, dtype=torch.float64) * 3 + 1)
    return network.eval()


def distance(network):
    return lambda images: torch.sqrt(network(images).square().sum(1) + 1) - 1


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_gradient_maps_are_finite_differences(images):
    score = distance(hypersphere_network())
    step = 1e-6
    expected = np.zeros((3, 6, 8))
    with torch.no_grad():
        for place in np.ndindex(*images.shape):
            high, low = images.clone(), images.clone()
            high[place] += step
            low[place] -= step
            n, _, row, column = place
            expected[n, row, column] += abs(float(score(high)[n] - score(low)[n])) / (2 * step)
    np.testing.assert_allclose(gradient_maps(score, images), expected, rtol=1e-4, atol=1e-8)


def test_gradient_maps_of_one_image_do_not_depend_on_the_others(images):
    score = distance(hypersphere_network())
    torch.testing.assert_close(gradient_maps(score, images)[1:2], gradient_maps(score, images[1:2]))


def test_gradient_maps_leave_everything_as_it_was(images):
    network = hypersphere_network()
    before, pixels = copy.deepcopy(network.state_dict()), images.clone()
    with torch.no_grad():  # as a test loop calls it
        maps = gradient_maps(distance(network), images)
    assert not maps.requires_grad
    assert not images.requires_grad
    assert torch.equal(images, pixels)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("kernel", "sigma"), [(1, 2.0), (17, 1.2), (23, 8.0)])
def test_blur_is_scipys_truncated_gaussian(kernel, sigma):
    maps = np.random.default_rng(2).random((2, 20, 31))
    expected = [ndimage.gaussian_filter(one, sigma, mode="mirror", radius=kernel // 2) for one in maps]
    np.testing.assert_allclose(blur(torch.from_numpy(maps), kernel=kernel, sigma=sigma), expected, atol=1e-12)


def test_blur_keeps_a_flat_map():
    flat = torch.full((1, 28, 28), 0.7)
    torch.testing.assert_close(blur(flat, kernel=17, sigma=1.2), flat)


def test_reconstruction_maps_are_the_channels_mean_squared_error(images):
    autoencoder = nn.Conv2d(2, 2, 3, padding=1).double().eval()
    reconstructed = autoencoder(images).detach().numpy()
    expected = np.zeros((3, 6, 8))
    for n, channel, row, column in np.ndindex(*images.shape):
        error = reconstructed[n, channel, row, column] - float(images[n, channel, row, column])
        expected[n, row, column] += error**2 / 2
    np.testing.assert_allclose(reconstruction_maps(autoencoder, images).detach(), expected)
