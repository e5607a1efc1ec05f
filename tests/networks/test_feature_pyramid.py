"""The pyramid: maps are the extractor's at one size, and one of them gives the anomaly map's grid."""

import numpy as np
import pytest
import torch

from blemish.errors import BlemishError
from blemish.networks.extractor import STRIDES, load_extractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.upsampling import ToGrid
from helpers.small_networks import random_pyramid

SIZE = (64, 96)


def pixels_of(images: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (images, *size, 3), dtype=torch.uint8, generator=generator)


@torch.inference_mode()
def test_maps_are_the_extractor_s() -> None:
    torch.manual_seed(0)
    extractor = load_extractor("test_resnet", pretrained=False).eval()
    pixels = pixels_of(2)
    expected = extractor(pixels.permute(0, 3, 1, 2).float())
    pyramid = FeaturePyramid(extractor, size=SIZE).eval()
    maps = pyramid(pixels)
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert [one.shape[1] for one in maps] == list(pyramid.channels)
    assert [one.shape[2:] for one in maps] == [field.grid for field in pyramid.fields]
    assert [field.vertical.stride for field in pyramid.fields] == list(STRIDES)
    assert pyramid.field == pyramid.fields[1]


@pytest.mark.parametrize(("stride", "cells"), [(4, (16, 24)), (5, (8, 12)), (16, (4, 6)), (64, (2, 3))])
def test_the_anomaly_map_has_the_finest_grid_of_its_stride(stride: int, cells: tuple[int, int]) -> None:
    assert FeaturePyramid(load_extractor("test_resnet", pretrained=False), size=SIZE, stride=stride).field.grid == cells


@pytest.mark.parametrize(("size", "nearest"), [((64, 100), "64x96"), ((10, 64), "32x64"), ((0, 32), "32x32")])
def test_a_size_that_the_backbone_does_not_take_is_refused(size: tuple[int, int], nearest: str) -> None:
    with pytest.raises(BlemishError, match=f"multiples of 32 on both sides, such as {nearest}, not {size[0]}x"):
        random_pyramid(size)


def test_maps_keep_their_digits_under_mixed_precision() -> None:
    pyramid = random_pyramid(SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        assert all(one.dtype == torch.float32 for one in pyramid(pixels_of(1)))


def test_maps_on_the_grid_stay_as_they_are_and_others_are_interpolated() -> None:
    pyramid = random_pyramid(SIZE)
    bring = ToGrid(pyramid.fields, pyramid.field)
    maps = [torch.randn(2, 3, *field.grid) for field in pyramid.fields]
    found = bring(maps)
    assert all(one.shape == (2, 3, *pyramid.field.grid) for one in found)
    assert found[1] is maps[1]
    constant = bring([torch.full((1, 1, *field.grid), 7.0) for field in pyramid.fields])
    torch.testing.assert_close(constant, [torch.full((1, 1, *pyramid.field.grid), 7.0)] * 4)
    # From stride 16 to 8, away from the border: centres at a quarter and three quarters between two cells.
    row = maps[2][0, 0].double().mean(0).numpy()
    ramp = bring([*maps[:2], maps[2].mean(2, keepdim=True).expand_as(maps[2]), maps[3]])[2][0, 0, 0]
    places = (np.arange(pyramid.field.grid[1]) - 0.5) / 2
    np.testing.assert_allclose(ramp.numpy(), np.interp(places, np.arange(len(row)), row), rtol=1e-4, atol=1e-5)
