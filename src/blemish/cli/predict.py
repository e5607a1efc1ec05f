"""`blemish predict`."""

from dataclasses import asdict
from pathlib import Path

import click

from blemish.cli.common import FILE, duration, emit, json_option, model_rate_option, open_screen
from blemish.detector import Detector
from blemish.files import printable
from blemish.prediction import Prediction, RawFormat, predict


@click.command("predict")
@click.argument("model", type=FILE)
@click.argument("paths", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="Folder for the results.")
@click.option("--no-heatmaps", is_flag=True, help="Draw no overlays.")
@click.option(
    "--raw", type=click.Choice(["tiff", "npy"]), help="Also write anomaly maps as 32-bit files at image size."
)
@model_rate_option
@json_option
def command(
    model: Path,
    paths: tuple[Path, ...],
    output: Path,
    no_heatmaps: bool,
    raw: RawFormat | None,
    false_alarm_rate: float | None,
    as_json: bool,
) -> None:
    """Score images with MODEL. PATHS are files, folders (searched to any depth) or patterns.

    OUT gets scores.csv, regions.json and a heatmap of every image in heatmaps/.

    \b
    Example:
      blemish predict screws.onnx line3/*.png -o out/
    """
    detector = Detector.load(model, false_alarm_rate=false_alarm_rate)
    with open_screen() as screen:
        prediction = predict(
            detector,
            paths,
            output,
            heatmaps=not no_heatmaps,
            raw=raw,
            progress=screen.stage("scoring"),
            notify=screen.notify,
        )
    text = _as_text(prediction, output, heatmaps=not no_heatmaps, raw=raw)
    emit({"images": prediction.images} | asdict(prediction), text, as_json=as_json)


def _as_text(prediction: Prediction, out: Path, *, heatmaps: bool, raw: RawFormat | None) -> str:
    counts = [
        f"{prediction.images:,} image{'s' * (prediction.images != 1)} in {duration(prediction.seconds)}",
        f"{prediction.anomalous:,} anomalous",
        f"{prediction.unsure:,} unsure",
        f"{prediction.ok:,} ok",
    ]
    if prediction.failed:
        counts.append(f"{prediction.failed:,} unreadable")
    places = ["scores.csv", "regions.json"] + ["heatmaps/"] * heatmaps + ["maps/"] * bool(raw)
    return " · ".join(counts) + "\n" + "  ".join(f"{printable(out)}/{place}" for place in places)
