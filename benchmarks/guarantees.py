"""Trains detectors, checks on images they have never seen what docs/guarantees.md promises, prints Markdown tables.

    python benchmarks/guarantees.py [--seeds 1] [--splits 1000] [--size 256] DATA [DATA]...

For each folder in MVTec's layout and each seed a third of the good training images, drawn by chance, is kept away from
the training; the detector learns from the others with the defaults. "New images" are those kept away and the good
images of the test folder, scored as they are, darker and blurred. The images kept away come from where the calibration
images come from, and so the promises must hold for them; the test folder's may be others (of other parts, in other
light), which is why the two are told apart as deployed. For the splits they are one pool, dealt by chance. What takes
many trainings is checked with a small detector on the same frozen features.

A training takes one to three minutes, everything for two folders about half an hour.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from arguments import positive_number
from blemish.errors import BlemishError
from draws import read_source
from promises.deployed import as_deployed, defects_found, discoveries_as_deployed
from promises.drift import planted, silence
from promises.material import prepare
from promises.small_detector import many_trainings
from promises.splits import false_discoveries, regions, split_conformal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DATA")
    parser.add_argument("--seeds", type=positive_number, default=1, help="trainings of each folder, seeds 0, 1, ...")
    parser.add_argument("--splits", type=positive_number, default=1000)
    parser.add_argument("--size", type=positive_number, default=256, help="network size in pixels")
    options = parser.parse_args()
    try:
        sources = [read_source(folder) for folder in options.folders]  # before hours of work
        materials = [
            prepare(source, seed=seed, size=options.size) for source in sources for seed in range(options.seeds)
        ]
        for table in (
            as_deployed,
            defects_found,
            partial(discoveries_as_deployed, splits=options.splits),
            partial(split_conformal, splits=options.splits),
            partial(false_discoveries, splits=options.splits),
            partial(regions, splits=options.splits),
            planted,
        ):
            for number, material in enumerate(materials):
                table(material, np.random.default_rng(number), first=number == 0)
        many_trainings(materials, splits=options.splits, seed=0)
        silence(seed=0)
    except BlemishError as fault:
        parser.error(str(fault))


if __name__ == "__main__":
    main()
