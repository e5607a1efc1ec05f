"""The levels of features: their shapes, means over cells by loops, and where principal components stand in."""

import numpy as np
import pytest
import torch
from torch import nn

from blemish.networks.feature_pyramid import MAX_CHANNELS, STRIDES, FeaturePyramid, OneGrid, Projection
from blemish.networks.timm_cnn import TimmCNN
from helpers.small_networks import random_features

SIZE = (64, 96)
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


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (64, 96), (160, 32)])
@pytest.mark.parametrize("backbone", CHANNELS)
def test_levels_have_the_shapes_they_say(backbone: str, size: tuple[int, int]) -> None:
    features = random_features(size, backbone=backbone)
    of_maps = CHANNELS[backbone]
    fine, middle, deep = (min(channels, MAX_CHANNELS) for channels in of_maps[1:])
    with torch.inference_mode():
        maps = features(pixels_of(2, size))
        levels = features.to_levels(maps)
    height, width = size
    assert [tuple(one.shape) for one in maps] == [
        (2, channels, height // stride, width // stride) for channels, stride in zip(of_maps, STRIDES, strict=True)
    ]
    assert [tuple(one.shape) for one in levels] == [(2, level.channels, *level.grid) for level in features.levels]
    assert [level.channels for level in features.levels] == [fine, middle, middle + deep]
    assert [level.grid for level in features.levels] == [(height // s, width // s) for s in STRIDES[1:]]
    assert features.field.grid == (height // 8, width // 8)


@torch.inference_mode()
def test_maps_are_the_backbone_s() -> None:
    torch.manual_seed(0)
    backbone = TimmCNN("test_resnet", strides=STRIDES, pretrained=False).eval()
    pixels = pixels_of(2)
    expected = backbone(pixels.permute(0, 3, 1, 2).float())
    for one, other in zip(FeaturePyramid(backbone, size=SIZE).eval()(pixels), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet18"])
@torch.inference_mode()
def test_levels_are_means_over_cells_of_maps(backbone: str) -> None:
    features = random_features(SIZE, backbone=backbone)
    maps = features(pixels_of(2))
    projected = [one[:, :MAX_CHANNELS].double().numpy() for one in maps]  # not fitted, the axes are the channels
    fine, middle, coarse = (level.double().numpy() for level in features.to_levels(maps))
    for image, row, column in np.ndindex(2, *features.levels[0].grid):
        around = mean_of(projected[1][image], slice(row - 1, row + 2), slice(column - 1, column + 2))
        np.testing.assert_allclose(fine[image, :, row, column], around, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(middle, projected[2])
    for image, row, column in np.ndindex(2, *features.levels[2].grid):
        below = mean_of(projected[2][image], slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
        expected = np.concatenate([below, projected[3][image, :, row, column]])
        np.testing.assert_allclose(coarse[image, :, row, column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", CHANNELS)
def test_maps_of_many_channels_alone_are_projected(backbone: str) -> None:
    features = random_features(SIZE, backbone=backbone)
    for channels, projection in zip(CHANNELS[backbone], features.projections, strict=True):
        assert isinstance(projection, Projection if channels > MAX_CHANNELS else nn.Identity)
        if isinstance(projection, Projection):
            assert projection.axes.shape == (MAX_CHANNELS, channels)


@torch.inference_mode()
def test_levels_keep_their_digits_under_mixed_precision() -> None:
    features = random_features(SIZE, backbone="resnet18")
    maps = features(pixels_of(1))
    expected = features.to_levels(maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(one.dtype == torch.float32 for one in features(pixels_of(1)))
        found = features.to_levels(maps)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_projection_takes_the_leading_axes_of_a_covariance() -> None:
    axes, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    projection = Projection(5, 2)
    projection.fit(axes @ torch.diag(torch.tensor([1.0, 9.0, 2.0, 16.0, 3.0]).double()) @ axes.T)
    found = (projection.axes.double() @ axes).abs()  # one at each leading axis
    torch.testing.assert_close(found, torch.eye(5).double()[[1, 3]], rtol=0, atol=1e-6)


def test_maps_on_the_grid_stay_as_they_are_and_others_are_interpolated() -> None:
    features = random_features(SIZE)
    bring = OneGrid(features.fields, features.field)
    maps = [torch.randn(2, 3, *field.grid) for field in features.fields]
    found = bring(maps)
    assert all(one.shape == (2, 3, *features.field.grid) for one in found)
    assert found[1] is maps[1]
    constant = bring([torch.full((1, 1, *field.grid), 7.0) for field in features.fields])
    torch.testing.assert_close(constant, [torch.full((1, 1, *features.field.grid), 7.0)] * 4)
    # From stride 16 to 8, away from the border: centres at a quarter and three quarters between two cells.
    row = maps[2][0, 0].double().mean(0).numpy()
    ramp = bring([*maps[:2], maps[2].mean(2, keepdim=True).expand_as(maps[2]), maps[3]])[2][0, 0, 0]
    places = (np.arange(features.field.grid[1]) - 0.5) / 2
    np.testing.assert_allclose(ramp.numpy(), np.interp(places, np.arange(len(row)), row), rtol=1e-4, atol=1e-5)
