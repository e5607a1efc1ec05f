"""Runs methods x sets x seeds under several protocols, keeps one CSV row a run, and writes the tables.

    python benchmarks/panel [--sets NAME...] [--methods NAME...] [--protocols NAME...] [--seeds 0 1 2]
    python benchmarks/panel --tables
    python benchmarks/panel --features --cache DIR [--sets NAME...] [--variants NAME...]

Runs found in the CSV file are not repeated, so that it can be interrupted; --again repeats Blemish's that are of
another commit. Each run is a process of its own with one thread on one core. All methods learn from the same images
at 256 x 256 pixels and are tested on the same ones; the peers see the features of Blemish's default backbone.
Protocols are explained in panel/protocols.py, the peers in panel/peers.py.

With --features research variants (panel/variants.py) are scored on frozen features, cached in DIR, in seconds each;
their rows are kept in a CSV file of their own, and their pixel figures are taken at 256 x 256 pixels.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # run as a folder, Python would look for modules in it instead of beside it

from arguments import positive_number  # noqa: E402
from blemish.errors import BlemishError  # noqa: E402
from draws import read_source  # noqa: E402
from panel import tables, variants  # noqa: E402
from panel.book import read_runs  # noqa: E402
from panel.jobs import makes_sense, pending  # noqa: E402
from panel.methods import BLEMISH, METHODS, TRAINED  # noqa: E402
from panel.protocols import PROTOCOLS  # noqa: E402
from panel.runs import commit, run_all, run_here  # noqa: E402

SETS = ("screw", "magnetic_tile", "bottle", "commutator", "cookies", "fabric", "head_ct")
DOCS = HERE.parents[1] / "docs"


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    try:
        if options.job:
            run_here(options.job, core=options.core)
        elif options.tables:
            tables.write(options.csv or DOCS / "panel.csv", DOCS / "results.md")
            tables.write(DOCS / "ablation.csv", DOCS / "research.md")
            tables.write(DOCS / "fcdd.csv", DOCS / "paper.md")
            tables.write(options.csv or DOCS / "panel.csv", DOCS.parent / "README.md")
        elif options.features:
            _run_variants(options)
        else:
            _run(options)
    except BlemishError as fault:
        parser.error(str(fault))


def say(sentence: str) -> None:
    print(sentence, flush=True)


def _run(options: argparse.Namespace) -> None:
    file = options.csv or DOCS / "panel.csv"
    runs, now = read_runs(file), commit()

    def wanted(name: str, method: str, trial: str, seed: int) -> bool:
        found = runs.get((name, method, trial, seed))
        old = found is not None and options.again and method == BLEMISH and found.commit != now
        return makes_sense(method, trial, seed) and (found is None or old)

    sets = {name: read_source(options.data / name) for name in options.sets}
    jobs = pending(sets, options.methods, options.protocols, options.seeds, data=options.data, wanted=wanted, say=say)
    jobs = [replace(job, precision=options.precision) for job in jobs]
    say(f"{len(jobs)} trainings to do")
    if not run_all(jobs, file, processes=options.processes, say=say):
        sys.exit(1)


def _run_variants(options: argparse.Namespace) -> None:
    variants.run(
        options.variants,
        options.sets,
        options.seeds,
        data=options.data,
        cache=options.cache,
        file=options.csv or DOCS / "ablation.csv",
        say=say,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BLEMISH_DATA", "../shared/data")))
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="NAME", help="folders in --data")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=METHODS,
        choices=(*METHODS, *TRAINED),
        metavar="NAME",
        help=f"of {METHODS}, or {TRAINED}, which go into docs/fcdd.csv by --csv",
    )
    parser.add_argument(
        "--protocols", nargs="+", default=["good"], choices=PROTOCOLS, metavar="NAME", help=f"of {PROTOCOLS}"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="repeat Blemish's runs of other commits")
    parser.add_argument("--processes", type=positive_number, default=2)
    parser.add_argument("--precision", default="auto", help="arithmetic of Blemish's trainings, as of blemish train")
    parser.add_argument("--csv", type=Path, help="the file that keeps the runs, docs/panel.csv")
    parser.add_argument(
        "--tables",
        action="store_true",
        help="only write the tables of docs/results.md and of docs/research.md, from docs/ablation.csv",
    )
    parser.add_argument("--features", action="store_true", help="score research variants on cached features")
    parser.add_argument("--cache", type=Path, default=Path("feature-cache"), help="folder of the cached features")
    parser.add_argument("--variants", nargs="+", default=list(variants.VARIANTS), choices=variants.VARIANTS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
