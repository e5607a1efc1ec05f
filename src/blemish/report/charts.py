"""Axes, bars and lines as inline SVG in the page's own colours: a report needs no drawing library and no folder."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

INK = "currentColor"
_STEPS = (1, 2, 5, 10)
_FONT = 10  # pixels; the page's own family
_CHARACTER = 0.6 * _FONT  # a digit's width, for the room that labels take


@dataclass(frozen=True)
class Axis:
    """Values brought to pixels.

    Attributes:
        low, high: the values at both ends, low < high; above 0 where the axis is logarithmic.
        start, end: the pixels there. Of a vertical axis start is the lower end, a larger number.
        log: whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, values: ArrayLike) -> NDArray[np.float64]:
        """Pixels of values, in the values' shape."""
        shown, low, high = np.asarray(values, dtype=np.float64), self.low, self.high
        if self.log:
            shown, low, high = np.log(shown), math.log(low), math.log(high)
        return np.asarray(self.start + (shown - low) / (high - low) * (self.end - self.start))

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most so many round values within the axis, and their labels."""
        return _log_ticks(self.low, self.high, most) if self.log else _linear_ticks(self.low, self.high, most)


def _linear_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in _STEPS):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    # Adding 0 makes minus zero zero.
    return [(count * step, f"{round(count * step, digits) + 0:,.{digits}f}") for count in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    inside: list[float] = []
    for factors in ((1,), (1, 2, 5)):
        values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        finer = [value for value in values if low <= value <= high]
        if not inside or len(finer) <= most:
            inside = finer
    every = max(1, math.ceil(len(inside) / most))
    return [(value, f"{value:,.0f}" if value >= 1 else f"{value:g}") for value in inside[::every]]


def rows_of_bars(heights: Iterable[int], edges: ArrayLike, horizontal: Axis, vertical: Axis, colour: str) -> str:
    """One histogram: N counts between N + 1 edges, from the axis's lower end up."""
    places = horizontal.place(edges)
    drawn = []
    for left, right, height in zip(places[:-1], places[1:], heights, strict=True):
        if height:
            top = float(vertical.place(height))
            drawn.append(
                f'<rect x="{left:.2f}" y="{top:.2f}" width="{right - left:.2f}" height="{vertical.start - top:.2f}"/>'
            )
    return f'<g fill="{colour}">{"".join(drawn)}</g>'


def line(xs: ArrayLike, ys: ArrayLike, *, colour: str = INK, width: float = 1, dashes: str = "") -> str:
    """A line through points in pixels."""
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in zip(np.asarray(xs), np.asarray(ys), strict=True))
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def dot(x: float, y: float, *, radius: float = 3.5) -> str:
    """A filled circle."""
    return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:g}" fill="{INK}"/>'


def text(lines: str | Sequence[str], x: float, y: float, *, anchor: str = "start", turned: bool = False) -> str:
    """Words whose first baseline lies at (x, y); turned, they read upwards."""
    rows = [lines] if isinstance(lines, str) else lines
    spans = "".join(
        f'<tspan x="{x:.2f}" dy="{1.25 * _FONT if i else 0:g}">{escape(row)}</tspan>' for i, row in enumerate(rows)
    )
    turn = f' transform="rotate(-90 {x:.2f} {y:.2f})"' if turned else ""
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}"{turn}>{spans}</text>'


def bottom_axis(axis: Axis, y: float, *, label: str, most: int = 8, ticks: bool = True) -> str:
    """A horizontal axis at the height y, with its ticks and label below it where `ticks`."""
    parts = [line((axis.start, axis.end), (y, y), width=0.6)]
    for value, words in axis.ticks(most) if ticks else ():
        x = float(axis.place(value))
        parts += [line((x, x), (y, y + 3.5), width=0.6), text(words, x, y + 3.5 + _FONT, anchor="middle")]
    if ticks:
        parts.append(text(label, (axis.start + axis.end) / 2, y + 6 + 2.2 * _FONT, anchor="middle"))
    return "".join(parts)


def left_axis(axis: Axis, x: float, *, label: str, most: int = 6) -> str:
    """A vertical axis at x, with its ticks and label to the left of it."""
    parts, room = [line((x, x), (axis.start, axis.end), width=0.6)], 0.0
    for value, words in axis.ticks(most):
        y = float(axis.place(value))
        parts += [line((x - 3.5, x), (y, y), width=0.6), text(words, x - 6, y + 0.35 * _FONT, anchor="end")]
        room = max(room, len(words) * _CHARACTER)
    parts.append(text(label, x - 13 - room, (axis.start + axis.end) / 2, anchor="middle", turned=True))
    return "".join(parts)


def page(parts: Iterable[str], *, size: tuple[int, int], description: str) -> str:
    """The whole picture, (width, height) in pixels; it grows with its place on the page."""
    width, height = size
    return (
        f'<svg role="img" aria-label="{escape(description)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {width} {height}" font-size="{_FONT}" fill="currentColor">{"".join(parts)}</svg>'
    )
