"""Turning parts upright that lie in any direction, and their maps back: both are parts of the graph.

A part shows against a plain background. Its silhouette's centre and direction are found as in polar registration: read
along circles about the centre, a turned silhouette is a shifted one, and the shift is where the correlation with a
template is highest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_ANGLES = 120  # a template is compared with; a parabola through three of them gives a fraction
N_RADII = 24
LEVELS = 8
COARSE = 64  # pixels or more along a side of the image in which the part is looked for


@dataclass(frozen=True)
class Frame:
    """The aligned picture, relative to a part's centre and direction.

    Attributes:
        rows: from the silhouette's centre to the middle of the picture, in pixels of the image.
        columns: the same, along the other axis.
        zoom: pixels of the image to one of the picture.
    """

    rows: float = 0.0
    columns: float = 0.0
    zoom: float = 1.0


class Silhouettes(nn.Module):
    """How much of a part each pixel is: 0 for background, 1 for what differs from it by twice the contrast or more.

    The background is what the border of the image usually looks like. There are few levels, so that sums of them are
    exact and every processor finds the same centre.

    Args:
        size: network size (height, width).
        contrast: grey levels from which on a pixel may belong to the part.
    """

    contrast: Tensor

    def __init__(self, size: tuple[int, int], contrast: float) -> None:
        super().__init__()
        steps = [step for step in (16, 8, 4, 2) if min(size) >= step * COARSE and not any(side % step for side in size)]
        self.shrink = max(steps, default=1)
        self.grid = size[0] // self.shrink, size[1] // self.shrink
        self.register_buffer("contrast", torch.tensor(float(contrast)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Silhouettes (N, h, w) in [0, 1], on a coarse grid, of pixels (N, H, W, 3)."""
        return (LEVELS * (self.differences(pixels) / self.contrast - 1)).round().clamp(0, LEVELS) / LEVELS

    def differences(self, pixels: Tensor) -> Tensor:
        """Mean difference from the background over the channels, in grey levels, (N, h, w)."""
        coarse = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float(), self.shrink)  # (N, 3, h, w)
        border = torch.cat([coarse[:, :, 0], coarse[:, :, -1], coarse[:, :, :, 0], coarse[:, :, :, -1]], dim=2)
        # The lower median, which the exporter knows as the last of the smaller half.
        usual = border.topk(border.shape[2] // 2, dim=2, largest=False).values[:, :, -1]
        return (coarse - usual[:, :, None, None]).abs().mean(1)


class Alignment(nn.Module):
    """Turns each image's part upright, and maps of the aligned picture back to the image.

    Pictures and maps are read at the nearest half pixel, which loses nothing that matters and takes half the time of
    interpolation at every pixel. Poses are rounded, so that the last digit of a processor decides nothing.

    Args:
        silhouettes: finds the part.
        template: how strong a part's silhouette is along circles, (N_ANGLES, N_RADII).
        radius: radius of the largest circle in pixels.
        size: network size (height, width).
        frame: where the aligned picture lies.
        aspect: how high a pixel is over how wide, where images were stretched to network size: parts are turned as
            they lie in the undistorted image, and the aligned picture is stretched in the same way.
    """

    bank: Tensor  # (N_ANGLES * N_RADII, N_ANGLES), the template turned in all directions
    halves: Tensor  # (3 * 4, 1, 2, 2), means of a pixel and those to its right and below
    circles: Tensor  # (N_ANGLES * N_RADII, 2), row and column offsets in pixels
    rows: Tensor  # (H, 1)
    columns: Tensor  # (1, W)

    def __init__(
        self,
        silhouettes: Silhouettes,
        template: Tensor,
        *,
        radius: float,
        size: tuple[int, int],
        frame: Frame | None = None,
        aspect: float = 1.0,
    ) -> None:
        super().__init__()
        self.silhouettes = silhouettes
        self.size = size
        self.frame = frame or Frame()
        self.aspect = aspect
        turned = torch.stack([template.roll(step, 0).flatten() for step in range(N_ANGLES)], dim=1)
        turned = turned - turned.mean(0)
        self.register_buffer("bank", turned / turned.norm(dim=0).clamp(min=1e-6))
        halves = torch.tensor([[[4, 0], [0, 0]], [[2, 2], [0, 0]], [[2, 0], [2, 0]], [[1, 1], [1, 1]]]) / 4
        self.register_buffer("halves", halves[:, None].repeat(3, 1, 1, 1))
        self.register_buffer("circles", circle_offsets(radius, aspect=aspect))
        self.register_buffer("rows", torch.arange(size[0]).float()[:, None])
        self.register_buffer("columns", torch.arange(size[1]).float()[None])

    def poses(self, pixels: Tensor) -> Tensor:
        """Centre row and column in pixels, cosine and sine of the direction, (N, 4), of pixels (N, H, W, 3)."""
        return self.poses_of(self.silhouettes(pixels))

    def poses_of(self, shapes: Tensor) -> Tensor:
        """The same of silhouettes (N, h, w)."""
        centres = centres_of(shapes, self.silhouettes)
        directions = self._directions(polar(shapes, centres, self.circles, self.silhouettes, aspect=self.aspect))
        return torch.cat([_rounded(centres), directions], dim=1)

    def to_canonical(self, pixels: Tensor, poses: Tensor) -> Tensor:
        """The aligned picture in grey levels, float (N, H, W, 3); beyond the image its edge is repeated."""
        height = self.size[0]
        rows, columns = (
            place.round().clamp(0, 2 * side - 2)  # in half pixels
            for place, side in zip(self._in_image(2 * poses), self.size, strict=True)
        )
        row, column = (rows / 2).floor(), (columns / 2).floor()
        phase = 2 * (rows - 2 * row) + (columns - 2 * column)  # whether between rows, between columns
        halves = self._half_pixels(pixels.permute(0, 3, 1, 2).float())
        return _read(halves, phase * (height + 1) + row + 1, column + 1).permute(0, 2, 3, 1)

    def from_canonical(self, maps: Tensor, poses: Tensor) -> Tensor:
        """Maps (N, H, W) of the images from those of aligned pictures; 0 where the picture does not reach.

        The latter are given at half pixels, (N, 2 H, 2 W), a quarter of a pixel to both sides of each pixel's centre.
        """
        height, width = (2 * side for side in self.size)
        rows, columns = (place.round() for place in self._in_picture(poses))
        inside = (rows > -1) & (rows < height) & (columns > -1) & (columns < width)
        return _read(maps[:, None], rows.clamp(0, height - 1), columns.clamp(0, width - 1))[:, 0] * inside

    def canonical_mask(self, mask: npt.NDArray[np.bool_], pose: Tensor) -> npt.NDArray[np.bool_]:
        """The aligned picture of a mask (H, W); a pixel is marked where any part of it may be."""
        picture = self.canonical_silhouettes(torch.from_numpy(mask)[None].float().to(pose.device), pose[None])
        return (picture[0] > 0).cpu().numpy()

    def canonical_silhouettes(self, silhouettes: Tensor, poses: Tensor) -> Tensor:
        """The aligned pictures (N, H, W) of silhouettes (N, h, w); 0 beyond the image."""
        finer = self.size[0] // silhouettes.shape[1], self.size[1] // silhouettes.shape[2]
        images = silhouettes.repeat_interleave(finer[0], 1).repeat_interleave(finer[1], 2)
        rows, columns = self._in_image(poses)
        inside = (rows > -0.5) & (rows < self.size[0] - 0.5) & (columns > -0.5) & (columns < self.size[1] - 0.5)
        return self.to_canonical(images[..., None].expand(-1, -1, -1, 3), poses)[..., 0] * inside

    def _half_pixels(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) as they are, between columns, between rows and between both, one below another.

        Each has a row above and a column to the left that are not to be read: (N, 3, 4 * (H + 1), W + 1).
        """
        return F.conv2d(images, self.halves, padding=1, groups=3).unflatten(1, (3, 4)).flatten(2, 3)

    def _directions(self, read: Tensor) -> Tensor:
        """Cosine and sine (N, 2) of the direction of silhouettes read along circles (N, N_ANGLES * N_RADII)."""
        fits = read @ self.bank  # (N, N_ANGLES)
        best = fits.argmax(1, keepdim=True)
        before, after = ((best + step) % N_ANGLES for step in (N_ANGLES - 1, 1))
        low, top, high = fits.gather(1, before), fits.gather(1, best), fits.gather(1, after)
        # The vertex of the parabola through the best direction and its neighbours.
        fraction = (high - low) / (4 * top - 2 * low - 2 * high).clamp(min=1e-6)
        angle = (best + _rounded(fraction.clamp(-0.5, 0.5))) * (2 * torch.pi / N_ANGLES)
        return torch.cat([angle.cos(), angle.sin()], dim=1)

    def _in_image(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns (N, H, W) in the image of the picture's pixels; twice as many of twice the poses."""
        row, column, cos, sin = poses[:, :, None, None].unbind(1)  # (N, 1, 1)
        frame = self.frame
        down = frame.rows + frame.zoom * (self.rows - (self.size[0] - 1) / 2)  # from the centre, (H, 1)
        right = frame.columns + frame.zoom * (self.columns - (self.size[1] - 1) / 2)  # (1, W)
        across, along = self._sines(sin)
        return row + cos * down + across * right, column - along * down + cos * right

    def _in_picture(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns (N, H, W) in the picture of the image's pixels, counted in the values that maps have."""
        row, column, cos, sin = poses[:, :, None, None].unbind(1)
        frame = self.frame
        down, right = self.rows - row, self.columns - column  # from the centre, (N, H, 1) and (N, 1, W)
        first = self.size[0] - 0.5 - 2 * frame.rows / frame.zoom
        second = self.size[1] - 0.5 - 2 * frame.columns / frame.zoom
        cos, sin = 2 * cos / frame.zoom, 2 * sin / frame.zoom
        across, along = self._sines(sin)
        return cos * down + (first - across * right), along * down + (second + cos * right)

    def _sines(self, sin: Tensor) -> tuple[Tensor, Tensor]:
        """What a rotation makes rows of columns by, and columns of rows, where pixels need not be square."""
        return (sin, sin) if self.aspect == 1 else (sin / self.aspect, sin * self.aspect)


def _rounded(numbers: Tensor) -> Tensor:
    """To sixteenths."""
    return (numbers * 16).round() / 16


def _read(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Values (N, C, h, w) at rows and columns (N, H, W), whole numbers: (N, C, H, W)."""
    channels, width = map(int, values.shape[1::2])
    # Integers, since float32 cannot count the values of large images; narrow ones are reckoned with faster.
    places = (rows.int() * width + columns.int()).flatten(1).long()
    read = values.flatten(2).gather(2, places[:, None].expand(-1, channels, -1))
    return read.reshape(-1, channels, *map(int, rows.shape[1:]))


def centres_of(shapes: Tensor, silhouettes: Silhouettes) -> Tensor:
    """Centres of gravity (N, 2), row and column in pixels, of shapes (N, h, w); an empty one's is its middle."""
    (height, width), shrink = silhouettes.grid, silhouettes.shrink
    rows, columns = (torch.arange(side, device=shapes.device) - (side - 1) / 2 for side in (height, width))
    ones = torch.ones(height, width, device=shapes.device)
    # All sums as one product: OpenVINO gets single sums over axes wrong in batches.
    terms = torch.stack([ones, rows[:, None] * ones, columns * ones], dim=2).reshape(-1, 3)  # (h * w, 3)
    weight, moments = (shapes.flatten(1) @ terms).split([1, 2], dim=1)
    from_middle = moments / weight.clamp(min=1e-6)
    return shrink * from_middle + moments.new_tensor([(shrink * side - 1) / 2 for side in (height, width)])


def polar(shapes: Tensor, centres: Tensor, circles: Tensor, silhouettes: Silhouettes, *, aspect: float = 1.0) -> Tensor:
    """Shapes (N, h, w) that `silhouettes` found, read along circles about their centres: (N, N_ANGLES * N_RADII).

    Between their pixels they are interpolated, beyond their border the border is repeated. Weighed by the root of the
    radius, as if it were by area in a product of two.
    """
    height, width = silhouettes.grid
    where = (centres[:, None] + circles + 0.5) / silhouettes.shrink - 0.5  # (N, n, 2)
    row, column = where[..., 0].clamp(0, height - 1), where[..., 1].clamp(0, width - 1)
    top, left = row.floor().clamp(0, height - 2), column.floor().clamp(0, width - 2)
    first = (top * width + left).long()  # (N, n)
    flat, down, right = shapes.flatten(1), row - top, column - left

    def at(offset: int) -> Tensor:
        return flat.gather(1, first + offset)

    above = at(0) * (1 - right) + at(1) * right
    below = at(width) * (1 - right) + at(width + 1) * right
    return (above * (1 - down) + below * down) * radii_of(circles, aspect).sqrt()


def radii_of(offsets: Tensor, aspect: float) -> Tensor:
    """Lengths (...) of offsets (..., 2), row and column, in widths of pixels `aspect` times as high as wide."""
    if aspect != 1:
        offsets = offsets * offsets.new_tensor([aspect, 1.0])
    return offsets.norm(dim=offsets.ndim - 1)


def circle_offsets(radius: float, *, aspect: float = 1.0) -> Tensor:
    """Offsets (N_ANGLES * N_RADII, 2), row and column in pixels, of points on circles up to a radius.

    It is in widths of pixels that are `aspect` times as high as wide.
    """
    angles = torch.arange(N_ANGLES) * (2 * torch.pi / N_ANGLES)
    radii = (torch.arange(N_RADII) + 0.5) * (radius / N_RADII)
    unit = torch.stack([angles.sin() / aspect, angles.cos()], dim=1)  # row, column
    return (unit[:, None] * radii[:, None]).reshape(-1, 2)
