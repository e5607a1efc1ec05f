"""Where an anomaly map reaches the threshold: connected regions with contour, box, area and peak.

Coordinates are pixels of the image itself, x to the right and y downwards. A point (x, y) with whole numbers
is the *centre* of a pixel, so the image reaches from -0.5 to W - 0.5 and from -0.5 to H - 0.5. A box counts
pixels the way Pillow's ``crop`` does: (x0, y0) belongs to it, (x1, y1) does not.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray
from scipy import ndimage

from blemish.imaging.anomaly_maps import check_anomaly_map

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
# Isolines of a 0/1 field just under 1/2 join pixels that touch at a corner, as eight neighbours do.
PIXELS_LEVEL = 0.49

Contour = list[tuple[float, float]]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Region:
    """One connected part of an image that is anomalous.

    ``contour`` is the outer boundary as a polygon, its first point not repeated; ``box`` is (x0, y0, x1, y1);
    ``area`` counts pixels of the image; ``peak`` is the pixel with the highest value, ``peak_score``; ``p_value``
    is that of `RegionCalibration`, None where the model file does not know it.
    """

    contour: Contour
    box: tuple[int, int, int, int]
    area: int
    peak: tuple[int, int]
    peak_score: float
    p_value: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The record as plain lists and numbers, contour points to a hundredth of a pixel."""
        return {
            "contour": [[round(x, 2), round(y, 2)] for x, y in self.contour],
            "box": list(self.box),
            "area": self.area,
            "peak": list(self.peak),
            "peak_score": self.peak_score,
            "p_value": self.p_value,
        }


def find_regions(anomaly_map: NDArray[Any], threshold: float, *, size: tuple[int, int]) -> list[Region]:
    """The 8-connected regions where an anomaly map (h, w) reaches ``threshold``, the highest peak first.

    ``size`` is the (height, width) of the image, in whose pixels the regions are given. The list is empty
    exactly when the maximum of the map, which is the image's score, lies below the threshold.

    Raises BlemishError when the map is not a finite two-dimensional array.
    """
    check_anomaly_map(anomaly_map)
    # A float32 map compared with a Python float would round the threshold to float32, and could then disagree
    # with the decision, which compares the score in float64.
    values = anomaly_map.astype(np.float64)
    above = values >= threshold
    if not above.any():  # most images of a line
        return []
    labels, _ = ndimage.label(above, structure=EIGHT_CONNECTED)
    regions = []
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[window] == label
        regions.append(_region(values, inside, window, threshold, size))
    return sorted(regions, key=lambda region: -region.peak_score)


def outlines(mask: BoolArray) -> list[Contour]:
    """The boundaries, those of holes included, of a mask (H, W) in its own pixels."""
    return [_as_points(loop - 1) for loop in _loops(np.pad(mask, 1).astype(np.float64), PIXELS_LEVEL)]


def _region(values: FloatArray, inside: BoolArray, window: Window, threshold: float, size: tuple[int, int]) -> Region:
    (height, width), (map_height, map_width) = size, values.shape
    rows, columns = window
    within = np.where(inside, values[window], -np.inf)
    row, column = (int(index) for index in np.unravel_index(within.argmax(), within.shape))

    origin = np.array([columns.start, rows.start])
    scale = np.array([width / map_width, height / map_height])
    boundary = (_boundary(values, inside, window, threshold) + origin + 0.5) * scale - 0.5
    return Region(
        contour=_as_points(boundary.clip(-0.5, [width - 0.5, height - 0.5])),
        # Whole-number arithmetic: a box must not grow past the image by a rounding error.
        box=(
            columns.start * width // map_width,
            rows.start * height // map_height,
            -(-columns.stop * width // map_width),
            -(-rows.stop * height // map_height),
        ),
        area=max(1, round(int(inside.sum()) * float(scale.prod()))),
        peak=(
            (2 * (columns.start + column) + 1) * width // (2 * map_width),
            (2 * (rows.start + row) + 1) * height // (2 * map_height),
        ),
        peak_score=float(within[row, column]),
    )


def _boundary(values: FloatArray, inside: BoolArray, window: Window, threshold: float) -> FloatArray:
    """The outer boundary (n, 2) of one region, in pixels of its window.

    The map's own isoline is the smooth choice. It will not do where it falls apart at a diagonal neck, where it
    opens a hole to the outside at one, or where pixels that hardly exceed the threshold would leave a mere
    speck; there the pixels are outlined.
    """
    member = np.pad(inside, 1)
    level = float(np.nextafter(threshold, -np.inf))
    around = _surroundings(values, window, threshold)
    isolines = _loops(np.where(member, around, np.minimum(around, level)), level)
    pixel_lines = _loops(member.astype(np.float64), PIXELS_LEVEL)
    outer = [loop for loop in isolines if _signed_area(loop) > 0]
    same_holes = len(isolines) == len(pixel_lines)
    if len(outer) != 1 or not same_holes or _signed_area(outer[0]) < inside.sum() / 2:
        outer = [loop for loop in pixel_lines if _signed_area(loop) > 0]
    return outer[0] - 1


def _surroundings(values: FloatArray, window: Window, threshold: float) -> FloatArray:
    """The window of the map with one more pixel on each side.

    Beyond the edge of the map its values go on mirrored at the threshold, so that the isoline of a region
    that touches the border runs along the border.
    """
    rows, columns = (np.arange(axis.start - 1, axis.stop + 1) for axis in window)
    height, width = values.shape
    around: FloatArray = values[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    beyond = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))
    mirrored: FloatArray = np.where(beyond, np.minimum(around, 2 * threshold - around), around)
    return mirrored


def _loops(field: FloatArray, level: float) -> list[FloatArray]:
    """The closed isolines of a field as arrays (n, 2) of x and y, the first point repeated at the end."""
    lines = contour_generator(z=field, line_type=LineType.Separate).lines(level)
    return cast(list[FloatArray], lines)


def _signed_area(loop: FloatArray) -> float:
    """Positive for a boundary with higher values inside, negative for that of a hole."""
    x, y = loop.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


def _as_points(loop: FloatArray) -> Contour:
    return [(x, y) for x, y in loop[:-1].tolist()]
