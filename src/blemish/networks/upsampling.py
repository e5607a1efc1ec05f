"""Bringing feature maps from one grid to another at the centres of their cells, as two matrix products.

A separable linear map of a map A is M_rows A M_cols^T with one small matrix an axis: exact, for any rectangle,
differentiable, and two MatMuls in ONNX.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blemish.networks.receptive_field import AxisField, ReceptiveField


class Resample(nn.Module):
    """Applies one fixed matrix to the rows and one to the columns of a map.

    Args:
        rows: float (h_out, h_in).
        columns: float (w_out, w_in).
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (..., h_in, w_in) to (..., h_out, w_out)."""
        return self.rows @ maps @ self.columns.mT


class ToGrid(nn.Module):
    """Maps of several strides on the grid of one of them.

    Args:
        fields: the tiles of the maps' cells.
        field: those of the grid's.
    """

    def __init__(self, fields: Sequence[ReceptiveField], field: ReceptiveField) -> None:
        super().__init__()
        self.resamples = nn.ModuleList(
            nn.Identity() if one == field else linear_resampling(one, field) for one in fields
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (N, ..., h_k, w_k) as (N, ..., h, w) each."""
        return [resample(one) for resample, one in zip(self.resamples, maps, strict=True)]


def gaussian_upsampling(
    field: ReceptiveField, *, size: tuple[int, int], sigma: float, normalised: bool = True, halves: bool = False
) -> Resample:
    """Receptive-field upsampling (FCDD section 3.2): each cell becomes a Gaussian of `sigma` pixels on its field.

    Args:
        field: receptive field of the map.
        size: (height, width) of the result, the size of the network's input.
        sigma: standard deviation in pixels.
        normalised: True averages the cells with the Gaussians as weights: a constant map stays constant up to the
            borders, and the result is in the units of the map. False is the paper's transposed convolution, with
            peak 1 (0.25 where the extent is even), so that the result grows with sigma and fades at the borders.
        halves: two values a pixel and axis, a quarter of a pixel to both sides of its centre.

    Raises:
        ValueError: sigma is not positive.
    """
    if sigma <= 0:
        raise ValueError(f"sigma must be positive, not {sigma}")
    axes = zip((field.vertical, field.horizontal), size, strict=True)
    kernel = _weights if normalised else _paper_kernel
    matrices = [kernel(axis, _positions(pixels, halves), sigma) for axis, pixels in axes]
    if normalised:
        matrices = [matrix / matrix.sum(1, keepdim=True) for matrix in matrices]
    return Resample(*(matrix.float() for matrix in matrices))


def linear_resampling(source: ReceptiveField, target: ReceptiveField) -> Resample:
    """Brings a map from one grid to another by linear interpolation, averaging over a cell where it shrinks.

    Both grids keep their true centres; beyond the outermost centres the outermost cells are repeated.
    """
    axes = ((source.vertical, target.vertical), (source.horizontal, target.horizontal))
    return Resample(*(_triangle_matrix(*axis) for axis in axes))


def _positions(pixels: int, halves: bool) -> Tensor:
    """Where values are wanted along an axis, in pixels, float64."""
    if halves:
        return torch.arange(2 * pixels, dtype=torch.float64) / 2 - 0.25
    return torch.arange(pixels, dtype=torch.float64)


def _offsets(axis: AxisField, positions: Tensor) -> Tensor:
    """Distance in pixels from every cell's centre to every position, float64 (positions, cells)."""
    centres = axis.centre + axis.stride * torch.arange(axis.cells, dtype=torch.float64)
    return positions[:, None] - centres


def _weights(axis: AxisField, positions: Tensor, sigma: float) -> Tensor:
    return torch.exp(-0.5 * (_offsets(axis, positions) / sigma) ** 2)


def _paper_kernel(axis: AxisField, positions: Tensor, sigma: float) -> Tensor:
    """A Gaussian of peak 1 cut to the extent; where that is even, two middle samples of 1/2 straddle the centre."""
    offsets = _offsets(axis, positions).abs()
    even = axis.extent % 2 == 0
    kernel = torch.exp(-0.5 * ((offsets - 0.5 * even) / sigma) ** 2) * (0.5 if even else 1.0)
    return torch.where(offsets <= (axis.extent - 1) / 2, kernel, 0.0)


def _triangle_matrix(source: AxisField, target: AxisField) -> Tensor:
    centres = target.centre + target.stride * torch.arange(target.cells, dtype=torch.float64)
    last = source.centre + source.stride * (source.cells - 1)
    centres = centres.clamp(source.centre, max(source.centre, last))
    cells = source.centre + source.stride * torch.arange(source.cells, dtype=torch.float64)
    reach = max(source.stride, target.stride)
    weights = (1 - (centres[:, None] - cells).abs() / reach).clamp(min=0)  # (target cells, source cells)
    return (weights / weights.sum(1, keepdim=True)).float()
