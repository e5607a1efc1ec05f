"""`blemish info`."""

from pathlib import Path
from typing import Any

import click

from blemish.cli.common import FILE, check_writable, emit, json_option
from blemish.evaluation.figures import saved_figures
from blemish.imaging.outputs import PAGE
from blemish.io.text import counted, one_line, percent, printable
from blemish.model.card import ModelCard
from blemish.report.card_page import write_card


@click.command("info")
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, metavar="CARD.html", help="Also write it as a page.")
@json_option
def command(model: Path, output: Path | None, as_json: bool) -> None:
    """Print the model card of MODEL: data, settings, guarantees, figures on a test set, findings of an audit.

    Figures are those that blemish evaluate --save stored last in the file, findings those of blemish audit --save.

    \b
    Example:
      blemish info screws.onnx -o screws.html
    """
    if output is not None:
        check_writable(output, model, kind=PAGE)
    card = ModelCard.read(model)
    result = card.as_json()
    text = _as_text(card, result)
    if output is not None:
        write_card(card, output)
        result["card"] = printable(output)
        text += f"\n\nopen {printable(output)} in a browser"
    emit(result, text, as_json=as_json)


def _as_text(card: ModelCard, values: dict[str, Any]) -> str:
    data, settings = values["data"], values["settings"]
    height, width = values["size"]
    lines = [
        f"{printable(values['model'])}  {card.megabytes:.1f} MB, {values['runtime']} {values['precision']}, "
        f"fingerprint {values['fingerprint'][:16]}",
        f"  learned from {one_line(str(data.get('name')))}: {counted(data.get('train_images', 0), 'image')}, "
        f"{values['calibration_images']:,} {'of them' if card.detector.calibration.folds else 'more'} to calibrate "
        f"(fingerprint {str(data.get('fingerprint'))[:16]})",
        f"  {one_line(values['supervision'])}",
        f"  backbone {settings.get('backbone')}, {height} x {width} px, seed {settings.get('seed')}",
        *(f"  {sentence}" for sentence in card.decisions),
        *([f"  reads 16-bit images as {values['bits']} bits"] if settings.get("bits") is not None else []),
        *_ignored(values["ignored"]),
        *(f"  {sentence}" for sentence in values["guarantee"]),
        "",
        *_evaluation(values["evaluation"]),
        *_audit(values["audit"]),
    ]
    return "\n".join(map(one_line, lines))  # any text in the file may hold what a terminal obeys


def _ignored(ignored: dict[str, Any] | None) -> list[str]:
    if ignored is None:
        return []
    if ignored["everywhere"]:
        return [f"  ignores {percent(ignored['share'])} of every image ({ignored['mask']})"]
    return [f"  trained with a mask for each image ({ignored['mask']})"]


def _evaluation(saved: dict[str, Any] | None) -> list[str]:
    if saved is None:
        return ["no figures in the file: blemish evaluate MODEL DATA --save"]
    lines = [
        f"on {counted(saved['images'], 'test image')} of {one_line(saved['data'])}, {saved['date']} (95 % intervals)"
    ]
    for figure in saved_figures(saved):
        within = "" if figure.interval is None else f"  {figure.interval}"
        lines.append(f"  {figure.label:<16}  {figure.value:>6}{within}")
    return lines


def _audit(saved: dict[str, Any] | None) -> list[str]:
    if saved is None:
        return ["not audited: blemish audit MODEL DATA --save"]
    return [f"audited {saved['date']} on {counted(saved['images'], 'image')}: {saved['verdict']}"]
