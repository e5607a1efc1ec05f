"""The page of a comparison of methods: one HTML file that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

from markupsafe import Markup

from blemish.datasets.layouts import Sample
from blemish.imaging.errors import ImageError
from blemish.imaging.heatmaps import HeatmapScale, overlay
from blemish.imaging.images import read_image
from blemish.imaging.masks import read_mask
from blemish.imaging.outputs import PAGE, check_overwriting
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import resize_mask
from blemish.io.text import printable
from blemish.model.scored_image import ScoredImage
from blemish.report import charts
from blemish.report.charts import Axis
from blemish.report.data_uris import jpeg_uri, mask_uri
from blemish.report.environment import write_page
from blemish.report.gallery import SIDE

MAX_BYTES = 15_000_000  # of all pictures together, as JPEG
TAGS = ("all", "differ", "missed", "false-alarm", "beside")
ROW, TOP, BELOW = 34, 8, 36  # pixels of the plot of intervals


@dataclass(frozen=True)
class MethodView:
    """What one method says of one image.

    Attributes:
        method: its name.
        heatmap: a data URI.
        verdict, p_value, score: of the image.
        times_threshold: the score over the threshold; None where that is 0 or below.
        wrong: whether the verdict is a miss or a false alarm.
        beside: whether the highest value of the map lies beside the mask.
    """

    method: str
    heatmap: str
    verdict: str
    p_value: float
    score: float
    times_threshold: float | None
    wrong: bool
    beside: bool


@dataclass(frozen=True)
class ComparedImage:
    """One image of the gallery; pictures are data URIs."""

    folder: str
    name: str
    defect: str | None
    photograph: str
    mask: str | None
    views: tuple[MethodView, ...]

    @property
    def tags(self) -> str:
        """Those of `TAGS` that it has, which the filters of the page ask for."""
        wrong = any(view.wrong for view in self.views)
        has = {
            "all": True,
            "differ": len({view.verdict == "anomalous" for view in self.views}) > 1,
            "missed": wrong and self.defect is not None,
            "false-alarm": wrong and self.defect is None,
            "beside": any(view.beside for view in self.views),
        }
        return " ".join(tag for tag in TAGS if has[tag])


@dataclass(frozen=True)
class IntervalRow:
    """One line of the plot of intervals: the mean, the values of the single seeds, and the interval if there is one."""

    label: str
    mean: float
    values: Sequence[float]
    interval: tuple[float, float] | None


def compared_image(
    sample: Sample,
    views: Mapping[str, tuple[ScoredImage, HeatmapScale]],
    reading: Reading,
    *,
    beside: AbstractSet[str],
    max_bytes: int,
) -> ComparedImage:
    """The pictures of one test image and of its heatmaps.

    Args:
        sample: the image.
        views: by method, what it says of the image, and its scale of colours.
        reading: how the image is read.
        beside: methods whose map has its highest value beside the mask.
        max_bytes: of each picture.

    Raises:
        ImageError: the image or its mask cannot be read, or it has changed since it was scored.
    """
    photograph = read_image(sample.path, reading)
    full = (photograph.height, photograph.width)
    if not all(scored.is_of(photograph) for scored, _ in views.values()):
        raise ImageError(f"{printable(sample.path)}: it has changed since it was scored; compare again")
    photograph.thumbnail((SIDE, SIDE))
    size = (photograph.height, photograph.width)
    mask = None if sample.mask is None else resize_mask(read_mask(sample.mask, size=full), size, rule="any")
    made = []
    for method, (scored, scale) in views.items():
        ignored = None if scored.ignored is None else resize_mask(scored.ignored, size, rule="corner")
        heatmap = overlay(photograph, scored.anomaly_map, scale, ignored=ignored, colour_bar=False)
        alarm = scored.verdict == "anomalous"
        made.append(
            MethodView(
                method=method,
                heatmap=jpeg_uri(heatmap, max_bytes=max_bytes),
                verdict=scored.verdict,
                p_value=scored.p_value,
                score=scored.score,
                # Rounded down: "1.00 times the threshold" has to mean that the threshold was reached.
                times_threshold=floor(100 * scored.score / scale.threshold) / 100 if scale.threshold > 0 else None,
                wrong=alarm != sample.anomalous,
                beside=method in beside,
            )
        )
    return ComparedImage(
        folder=printable(sample.path.parent.name),
        name=printable(sample.path.name),
        defect=sample.defect,
        photograph=jpeg_uri(photograph, max_bytes=max_bytes),
        mask=None if mask is None else mask_uri(mask),
        views=tuple(made),
    )


def interval_plot(rows: Sequence[IntervalRow], *, label: str) -> Markup:
    """A figure of all methods below each other: intervals as lines, means as dots, seeds as ticks."""
    ends = [end for row in rows for end in (*row.values, *(row.interval or ()))]
    least = min(ends)
    low = floor(20 * (least - 0.02)) / 20 if least > 0.05 else 0.0
    beside = 24 + 7 * max(len(row.label) for row in rows)
    width, height = 620, TOP + ROW * len(rows) + BELOW
    across = Axis(low, 1.0, beside, width - 30)
    bottom = height - BELOW
    parts = [charts.bottom_axis(across, bottom, label=label)]
    for number, row in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        parts.append(charts.text(row.label, beside - 12, y + 3.5, anchor="end"))
        parts.append(charts.line((across.start, across.end), (y, y), width=0.4, dashes="1 4"))
        if row.interval is not None:
            places = across.place(row.interval)
            parts.append(charts.line(places, (y, y), colour="var(--nominal)", width=5))
        if len(row.values) > 1:
            parts += [charts.line((x, x), (y - 7, y + 7), width=1) for x in across.place(row.values)]
        parts.append(charts.dot(float(across.place(row.mean)), y))
    return Markup(charts.page(parts, size=(width, height), description=f"{label} of all methods with their intervals"))


def write_comparison(path: Path, **content: Any) -> None:
    """Writes the page.

    Args:
        path: the file, with the suffix .html or .htm.
        content: what the template compare.html.j2 refers to by name.

    Raises:
        BlemishError: the file cannot be written, or has a name that is not that of a page.
    """
    check_overwriting(path, kind=PAGE)
    write_page(path, "compare.html.j2", **content)
