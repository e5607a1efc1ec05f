"""The default method: its levels against loops over cells, and their join on the anomaly map's grid."""

import numpy as np
import pytest
import torch
from torch import nn

from blemish.methods.gaussian import Levels, MultiscaleGaussian, Projection
from blemish.networks.extractor import STRIDES
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.training.config import GaussianConfig
from helpers.images import noise, stained
from helpers.small_networks import fit, gaussians_of, new_model, random_pyramid

SIZE = (64, 96)
MAX_CHANNELS = GaussianConfig().components
CHANNELS = {  # of the backbone's maps
    "tf_efficientnet_lite0": (24, 40, 112, 320),
    "resnet18": (64, 128, 256, 512),
    "test_efficientnet": (24, 32, 48, 64),
}


def pixels_of(images: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (images, *size, 3), dtype=torch.uint8, generator=generator)


def mean_of(cells: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The mean (C,) of a piece of a map (C, h, w)."""
    return cells[:, max(0, rows.start) : rows.stop, max(0, columns.start) : columns.stop].mean((1, 2))


def levels_of(pyramid: FeaturePyramid) -> Levels:
    return Levels(pyramid, GaussianConfig())


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (64, 96), (160, 32)])
@pytest.mark.parametrize("backbone", CHANNELS)
def test_levels_have_the_shapes_they_say(backbone: str, size: tuple[int, int]) -> None:
    pyramid = random_pyramid(size, backbone=backbone)
    to_levels, of_maps = levels_of(pyramid), CHANNELS[backbone]
    fine, middle, deep = (min(channels, MAX_CHANNELS) for channels in of_maps[1:])
    with torch.inference_mode():
        levels = to_levels(pyramid(pixels_of(2, size)))
    height, width = size
    assert [tuple(one.shape) for one in levels] == [
        (2, level.channels, *level.field.grid) for level in to_levels.levels
    ]
    assert [level.channels for level in to_levels.levels] == [fine, middle, middle + deep]
    assert [level.field.grid for level in to_levels.levels] == [(height // s, width // s) for s in STRIDES[1:]]


@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet18"])
@torch.inference_mode()
def test_levels_are_means_over_cells_of_maps(backbone: str) -> None:
    pyramid = random_pyramid(SIZE, backbone=backbone)
    to_levels, maps = levels_of(pyramid), pyramid(pixels_of(2))
    projected = [one[:, :MAX_CHANNELS].double().numpy() for one in maps]  # not fitted, the axes are the channels
    fine, middle, coarse = (level.double().numpy() for level in to_levels(maps))
    for image, row, column in np.ndindex(2, *pyramid.fields[1].grid):
        around = mean_of(projected[1][image], slice(row - 1, row + 2), slice(column - 1, column + 2))
        np.testing.assert_allclose(fine[image, :, row, column], around, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(middle, projected[2])
    for image, row, column in np.ndindex(2, *pyramid.fields[3].grid):
        below = mean_of(projected[2][image], slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
        expected = np.concatenate([below, projected[3][image, :, row, column]])
        np.testing.assert_allclose(coarse[image, :, row, column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", CHANNELS)
def test_maps_of_many_channels_alone_are_projected(backbone: str) -> None:
    to_levels = levels_of(random_pyramid(SIZE, backbone=backbone))
    for channels, projection in zip(CHANNELS[backbone][1:], to_levels.projections, strict=True):
        assert isinstance(projection, Projection if channels > MAX_CHANNELS else nn.Identity)
        if isinstance(projection, Projection):
            assert projection.axes.shape == (MAX_CHANNELS, channels)


@torch.inference_mode()
def test_levels_keep_their_digits_under_mixed_precision() -> None:
    pyramid = random_pyramid(SIZE, backbone="resnet18")
    to_levels, maps = levels_of(pyramid), pyramid(pixels_of(1))
    expected = to_levels(maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = to_levels(maps)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_projection_takes_the_leading_axes_of_a_covariance() -> None:
    axes, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    projection = Projection(5, 2)
    projection.fit(axes @ torch.diag(torch.tensor([1.0, 9.0, 2.0, 16.0, 3.0]).double()) @ axes.T)
    found = (projection.axes.double() @ axes).abs()  # one at each leading axis
    torch.testing.assert_close(found, torch.eye(5).double()[[1, 3]], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_the_distance_is_the_harmonic_mean_of_the_levels_on_one_grid() -> None:
    torch.manual_seed(0)
    pyramid = random_pyramid(SIZE)
    model = new_model(pyramid)
    assert isinstance(model, MultiscaleGaussian)
    fit(pyramid, model, [noise(seed, size=SIZE) for seed in range(24)])
    maps = pyramid(torch.from_numpy(np.stack([noise(100, size=SIZE), stained(101, size=SIZE)])))
    squares = []
    for gaussians, level in zip(gaussians_of(model), model.to_levels(maps), strict=True):
        distances = gaussians(level).double().numpy()
        squares.append([bilinear(one, pyramid.field.grid) ** 2 for one in distances])
    expected = np.sqrt(3 / (1 / np.array(squares)).sum(0))
    np.testing.assert_allclose(model(maps).numpy(), expected, rtol=1e-3, atol=1e-4)


def bilinear(cells: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """A map (h, w) on a finer grid that covers the same area, the outermost cells repeated."""
    for axis, number in enumerate(grid):
        length = cells.shape[axis]
        places = (np.arange(number) + 0.5) * length / number - 0.5
        cells = np.apply_along_axis(lambda line: np.interp(places, np.arange(len(line)), line), axis, cells)  # noqa: B023
    return cells
