"""`blemish predict`."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from blemish.cli.aliases import renamed_option
from blemish.cli.common import (
    FILE,
    cautions,
    duration,
    emit,
    ignore_mask_option,
    json_option,
    model_rate_option,
    open_screen,
    threads_option,
)
from blemish.imaging.results import HEATMAPS, MAPS, REGIONS, check_own_table
from blemish.io.text import printable
from blemish.model.detector import Detector
from blemish.prediction import Frames, MapFormat, Prediction, TableFormat, predict, read_list
from blemish.prediction.tables import table_name
from blemish.process.threads import cores, for_each_image

NAME = click.Path()  # a str: as a Path, s3://bucket would lose a slash


@click.command("predict")
@click.argument("model", type=FILE)
@click.argument("paths", type=NAME, nargs=-1)
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="Folder for the results.")
@renamed_option(
    "--from-file", old="--list", type=NAME, metavar="FILE", help="Text file with one path a line; - for stdin."
)
@click.option("--no-heatmaps", is_flag=True, help="Do not draw heatmaps.")
@renamed_option(
    "--save-maps",
    old="--raw",
    type=click.Choice(["tiff", "npy"]),
    help="Also write anomaly maps as 32-bit files at image size.",
)
@click.option(
    "--format",
    "table",
    type=click.Choice(["csv", "parquet"]),
    default="csv",
    show_default=True,
    help="Format of the table.",
)
@click.option(
    "--false-discovery-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="RATE",
    help="Also decide over all images together: of those called anomalous, this share may be good on average.",
)
@click.option(
    "--frames",
    type=click.Choice(["first", "all"]),
    default="first",
    show_default=True,
    help="Frames of a file with several, such as the pages of a TIFF: score the first, or each, as a.tif#2.",
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Images scored at a time, each on one core (default: all)."
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Score on Ray: on this machine, or on the cluster at ADDRESS (auto, host:6379, ray://host:10001).",
)
@threads_option
@renamed_option(
    "--restart", old="--fresh", is_flag=True, help="Score every image again and drop an unfinished run's rows."
)
@model_rate_option
@ignore_mask_option
@json_option
def command(  # noqa: PLR0913  (an option of the command line each)
    model: Path,
    paths: tuple[str, ...],
    output: Path,
    from_file: str | None,
    no_heatmaps: bool,
    save_maps: MapFormat | None,
    table: TableFormat,
    false_discovery_rate: float | None,
    frames: Frames,
    workers: int | None,
    ray: str | None,
    restart: bool,
    false_alarm_rate: float | None,
    ignore_mask: Path | None,
    as_json: bool,
) -> None:
    """Score images with MODEL. PATHS are files, folders (searched to any depth), patterns or URLs (s3://…).

    OUT gets scores.csv, regions.json and a heatmap of every image in heatmaps/. A run that was killed is
    resumed by the same command.

    \b
    Example:
      blemish predict screws.onnx line3/*.png -o out/
    """
    if not paths and from_file is None:
        raise click.UsageError("no images: give PATHS or --from-file FILE", click.get_current_context())
    at_a_time = workers or cores()
    threads = for_each_image(at_a_time)
    detector = Detector.load(model, false_alarm_rate=false_alarm_rate, threads=threads, ignore_mask=ignore_mask)
    images: Iterable[str] = chain(paths, read_list(from_file) if from_file is not None else ())
    check_own_table(output, [model] if from_file is None else [model, from_file])
    engine = None
    if ray is not None:
        from blemish.prediction.ray_engine import RayEngine

        engine = RayEngine(
            model, output, address=ray, workers=workers, false_alarm_rate=false_alarm_rate, ignore_mask=ignore_mask
        )
    with open_screen() as screen:
        for sentence in cautions(detector):
            screen.notify(sentence)
        prediction = predict(
            detector,
            images,
            output,
            heatmaps=not no_heatmaps,
            save_maps=save_maps,
            table=table,
            false_discovery_rate=false_discovery_rate,
            frames=frames,
            workers=at_a_time,
            engine=engine,
            restart=restart,
            progress=screen.progress,
            notify=screen.notify,
        )
    outputs = [table_name(table), REGIONS] + [f"{HEATMAPS}/"] * (not no_heatmaps) + [f"{MAPS}/"] * bool(save_maps)
    emit({"images": prediction.images} | asdict(prediction), _as_text(prediction, output, outputs), as_json=as_json)


def _as_text(prediction: Prediction, out: Path, outputs: list[str]) -> str:
    before = f" ({prediction.resumed:,} of them before)" if prediction.resumed else ""
    counts = [
        f"{prediction.images:,} image{'s' * (prediction.images != 1)}{before} in {duration(prediction.seconds)}",
        f"{prediction.anomalous:,} anomalous",
        f"{prediction.unsure:,} unsure",
        f"{prediction.ok:,} ok",
    ]
    if prediction.failed:
        counts.append(f"{prediction.failed:,} unreadable")
    if prediction.discoveries is not None:
        counts.append(f"{prediction.discoveries:,} discovered")
    lines = [" · ".join(counts), "  ".join(f"{printable(out)}/{name}" for name in outputs)]
    if prediction.drift is not None and prediction.drift.image is not None:
        lines.append(f"{prediction.drift.statement} ({prediction.drift.image})")
    return "\n".join(lines)
