"""Upsampling against a slow literal sum, and against the transposed convolution of the paper's implementation."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.networks.receptive_field import AxisField, ReceptiveField
from blemish.networks.upsampling import gaussian_upsampling, linear_resampling

axes = st.builds(
    AxisField,
    cells=st.integers(1, 6),
    stride=st.integers(1, 8),
    extent=st.integers(1, 30),
    first=st.integers(-12, 3),
)


def picture_of_cells(vertical: AxisField, horizontal: AxisField, seed: int) -> tuple[tuple[int, int], torch.Tensor]:
    """The size of what the cells cover, and random cells."""
    size = (vertical.cells * vertical.stride, horizontal.cells * horizontal.stride)
    return size, torch.rand(vertical.cells, horizontal.cells, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(vertical=axes, horizontal=axes, sigma=st.floats(0.5, 12), seed=st.integers(0, 1000))
def test_each_pixel_is_the_gaussian_mean_of_the_cells(
    vertical: AxisField, horizontal: AxisField, sigma: float, seed: int
) -> None:
    size, cells = picture_of_cells(vertical, horizontal, seed)
    field = ReceptiveField(vertical, horizontal)
    upsampled = gaussian_upsampling(field, size=size, sigma=sigma)(cells)
    for y, x in {(0, 0), (size[0] - 1, size[1] // 2), (size[0] // 3, size[1] - 1)}:
        weights = [
            [
                math.exp(-((y - vertical.centre - i * vertical.stride) ** 2) / (2 * sigma**2))
                * math.exp(-((x - horizontal.centre - k * horizontal.stride) ** 2) / (2 * sigma**2))
                for k in range(horizontal.cells)
            ]
            for i in range(vertical.cells)
        ]
        total = sum(map(sum, weights))
        if total < 1e-30:  # a pixel so far from every cell that float32 has nothing to weigh
            continue
        expected = sum(w * cells[i, k].item() for i, row in enumerate(weights) for k, w in enumerate(row))
        assert upsampled[y, x].item() == pytest.approx(expected / total, rel=1e-4, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(vertical=axes, horizontal=axes, sigma=st.floats(2, 12), seed=st.integers(0, 1000))
def test_halves_lie_a_quarter_of_a_pixel_to_both_sides(
    vertical: AxisField, horizontal: AxisField, sigma: float, seed: int
) -> None:
    """Twice the size on cells twice as far apart asks at the same places."""
    size, cells = picture_of_cells(vertical, horizontal, seed)
    halves = gaussian_upsampling(ReceptiveField(vertical, horizontal), size=size, sigma=sigma, halves=True)(cells)
    assert halves.shape == (2 * size[0], 2 * size[1])

    def doubled(axis: AxisField) -> AxisField:
        # Pixel p of the finer picture is at p / 2 - 1/4: a centre c of the coarse one is at 2 c + 1/2.
        return AxisField(axis.cells, 2 * axis.stride, 2 * axis.extent, 2 * axis.first)

    field = ReceptiveField(doubled(vertical), doubled(horizontal))
    finer = gaussian_upsampling(field, size=(2 * size[0], 2 * size[1]), sigma=2 * sigma)(cells)
    torch.testing.assert_close(halves, finer, rtol=1e-4, atol=1e-6)


# n, stride, extent, first pixel and sigma of the paper's settings
SETTINGS = {
    "fashion-mnist": (28, AxisField(7, 4, 16, -6), 1.2),
    "cifar10": (32, AxisField(8, 4, 22, -9), 1.2),
    "imagenet30": (224, AxisField(28, 8, 62, -27), 8.0),
    "mvtec": (224, AxisField(28, 8, 62, -27), 12.0),
    "odd extent": (224, AxisField(28, 8, 59, -29), 10.0),
}
GAINS = {  # sum of the kernel over stride^2
    "fashion-mnist": 0.251,
    "cifar10": 0.251,
    "imagenet30": 1.731,
    "mvtec": 3.693,
    "odd extent": 9.755,
}


def by_transposed_convolution(cells: torch.Tensor, axis: AxisField, side: int, sigma: float) -> torch.Tensor:
    odd = axis.extent - 1 + axis.extent % 2
    line = torch.exp(-0.5 * ((torch.arange(odd) - odd // 2) / sigma) ** 2)
    if axis.extent % 2 == 0:
        line = torch.cat([line[: odd // 2 + 1], line[odd // 2 :]]) / 2
    kernel = torch.outer(line, line)[None, None]
    full = F.conv_transpose2d(cells[None, None], kernel, stride=axis.stride)[0, 0]
    lead = -axis.first
    return full[lead : lead + side, lead : lead + side]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_papers_kernel(name: str) -> None:
    side, axis, sigma = SETTINGS[name]
    cells = torch.rand(axis.cells, axis.cells, generator=torch.Generator().manual_seed(0))
    upsample = gaussian_upsampling(ReceptiveField(axis, axis), size=(side, side), sigma=sigma, normalised=False)
    torch.testing.assert_close(upsample(cells), by_transposed_convolution(cells, axis, side, sigma))
    middle = upsample(torch.ones_like(cells))[side // 2 - 8 : side // 2 + 8, side // 2 - 8 : side // 2 + 8]
    assert middle.mean().item() == pytest.approx(GAINS[name], rel=0.01)


@settings(max_examples=30, deadline=None)
@given(source=axes, target=axes)
def test_resampling_keeps_a_constant_and_a_slope(source: AxisField, target: AxisField) -> None:
    resample = linear_resampling(ReceptiveField(source, source), ReceptiveField(target, target))
    torch.testing.assert_close(resample(torch.ones(source.cells, source.cells)), torch.ones(target.cells, target.cells))
    if source.stride < target.stride:  # averaging near a border cannot keep a slope
        return
    place = source.centre + source.stride * torch.arange(source.cells).float()
    wanted = target.centre + target.stride * torch.arange(target.cells).float()
    slope = resample(place.expand(source.cells, -1))[0]
    torch.testing.assert_close(slope, wanted.clamp(place[0], place[-1]), rtol=1e-4, atol=1e-4)


def test_sigma_must_be_positive() -> None:
    field = ReceptiveField(AxisField(2), AxisField(2))
    with pytest.raises(ValueError, match="sigma must be positive"):
        gaussian_upsampling(field, size=(2, 2), sigma=0)
