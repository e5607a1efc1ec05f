"""Every run of the paper's experiments in one CSV file, and the tables of docs/paper.md that follow from it.

    python benchmarks/paper_runs.py DIR... --commit REV --machine "one thread of ..." [--draws N] [--note TEXT]
    python benchmarks/paper_runs.py --tables

DIR is the output folder of `blemish experiment`. Its finished runs are added; a run that the file has already, of the
same experiment, data, class, method, variant, network, anomalies, mode, seed and epochs, is replaced.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import paper_tables
from arguments import positive_number
from blemish.errors import BlemishError
from blemish.experiments.planted.findings import Masses, measure
from blemish.experiments.recipe import Recipe
from blemish.experiments.results import Result
from blemish.experiments.runs import load_result
from paper_book import PaperRun, add_runs, read_runs

DOCS = Path(__file__).resolve().parents[1] / "docs"
FILE, DOCUMENT = DOCS / "paper_runs.csv", DOCS / "paper.md"


def collect(folder: Path, **known: Any) -> Iterator[PaperRun]:
    """The finished runs in an experiment's output folder.

    Args:
        folder: given to `blemish experiment -o`.
        known: columns that no run folder holds: commit, machine, draws, notes.

    Raises:
        BlemishError: there is no finished run.
    """
    records = sorted((folder / "runs").glob("**/run.json"))
    if not records:
        raise BlemishError(f"{folder}: no finished run; give the output folder of blemish experiment")
    for record in records:
        key = json.loads(record.read_text("utf-8"))["key"]
        result = load_result(record.parent, key=key)
        if result is None:
            raise BlemishError(f"{record.parent}: the run cannot be read; make it again")
        _, _, *variant, _ = record.parent.relative_to(folder / "runs").parts
        yield _paper_run(record.parent, result, "".join(variant), dict(known))


def _paper_run(folder: Path, result: Result, variant: str, known: dict[str, Any]) -> PaperRun:
    notes = dict(result.notes)
    epochs, network = notes.pop("epochs"), notes.pop("network")
    learned = result.method != "gaussian"  # which is fitted, on features of its own
    anomalies = notes.pop("anomalies", "")
    mode = notes.pop("mode")
    circumstances = [*(f"{name} {value}" for name, value in notes.items()), *filter(None, [known.pop("notes", "")])]
    run = PaperRun(
        experiment=result.recipe,
        data=Recipe.load(result.recipe).source,
        nominal_class=result.nominal_class,
        method=result.method,
        variant=variant,
        network=network if learned else "tf_efficientnet_lite0",
        anomalies=anomalies,
        mode=mode,
        seed=result.seed,
        epochs=int(epochs.split()[0]) if learned else None,
        image_auroc=result.image_auroc,
        pixel_auroc=result.pixel_auroc,
        seconds=result.seconds,
        notes=", ".join(circumstances),
        **known,
    )
    masses = folder / "masses.json"
    return _with_masses(run, result, masses) if masses.exists() else run


def _with_masses(run: PaperRun, result: Result, file: Path) -> PaperRun:
    """The figures of planted-cue."""
    masses = Masses(**json.loads(file.read_text("utf-8")))
    found = measure(result, masses, share=0, marked=0, chance=0)  # these three are not taken over
    return PaperRun(
        **asdict(run)
        | {
            "image_auroc": found.auroc_without,
            "mass_without": found.mass_without,
            "mass_with": found.mass_with,
            "auroc_with": found.auroc_with,
            "auroc_watermark": found.auroc_watermark,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="output folders of blemish experiment")
    parser.add_argument("--commit", metavar="REV", help="of the code that made the runs")
    parser.add_argument("--machine", metavar="TEXT", help="that made the runs")
    parser.add_argument("--draws", type=positive_number, metavar="N", help="training images drawn in each of the runs")
    parser.add_argument("--note", default="", metavar="TEXT", help="what else a reader must know of these runs")
    parser.add_argument("--tables", action="store_true", help="write the tables of docs/paper.md")
    parser.add_argument("--csv", type=Path, default=FILE, metavar="FILE", help="instead of docs/paper_runs.csv")
    options = parser.parse_args()
    if options.folders and not (options.commit and options.machine):
        parser.error("runs need --commit and --machine")
    if not options.folders and not options.tables:
        parser.error("give output folders of blemish experiment, or --tables")
    known = {"commit": options.commit, "machine": options.machine, "draws": options.draws, "notes": options.note}
    try:
        found = [run for folder in options.folders for run in collect(folder, **known)]
        if found:
            add_runs(options.csv, found)
            print(f"{len(found)} runs in {options.csv}")
        if options.tables:
            paper_tables.write(read_runs(options.csv), DOCUMENT)
    except BlemishError as fault:
        parser.error(str(fault))


if __name__ == "__main__":
    main()
