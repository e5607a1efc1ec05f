"""Small outlier images from photographs: random square crops, as large and as compressed as the nominal images.

    python benchmarks/outlier_crops.py PHOTOGRAPHS OUT --like IMAGE [--crops N] [--seed S]

Whole photographs are a poor stand-in for CIFAR-100. If the nominal images are small JPEG files, a network can tell them
from shrunken photographs by their traces of compression, and crops are more images. Each covers half of the shorter
side to all of it. IMAGE is one of the nominal images: crops take its size and, of a JPEG file, its
quantisation tables and subsampling of colours.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from arguments import positive_number
from blemish.errors import BlemishError
from blemish.imaging.images import read_image
from blemish.io.files import make_folder

SMALLEST = 0.5  # side of a crop, as a share of the photograph's shorter side


def crops(
    photograph: Image.Image, number: int, size: tuple[int, int], rng: np.random.Generator
) -> Iterator[Image.Image]:
    """Random square crops, log-uniform in size, as images of (width, height) `size`."""
    shorter = min(photograph.size)
    for _ in range(number):
        side = round(shorter * SMALLEST ** rng.random())
        left, top = (int(rng.integers(whole - side + 1)) for whole in photograph.size)
        yield photograph.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def encoding(example: Image.Image) -> dict[str, Any]:
    """How Pillow writes a file like this one: its format and, of JPEG, its compression."""
    if isinstance(example, JpegImagePlugin.JpegImageFile):
        sampling = JpegImagePlugin.get_sampling(example)
        return {"format": "JPEG", "qtables": example.quantization, "subsampling": sampling}
    return {"format": "PNG"}


def write_crops(photographs: Path, output: Path, *, like: Path, number: int, seed: int) -> int:
    """Writes crops of all photographs in a folder and returns how many. Raises BlemishError for an unusable input."""
    files = sorted(file for file in photographs.iterdir() if file.is_file()) if photographs.is_dir() else []
    if not files:
        raise BlemishError(f"{photographs}: no photographs; give a folder of them")
    if output.exists():
        raise BlemishError(f"{output} exists; remove it or name another folder")
    read_image(like)  # for its sentence where it cannot be read
    with Image.open(like) as example:
        size, how = example.size, encoding(example)
    make_folder(output)
    rng = np.random.default_rng(seed)
    suffix = {"JPEG": "jpg", "PNG": "png"}[how["format"]]
    try:
        for file in files:
            for place, crop in enumerate(crops(read_image(file).convert("RGB"), number, size, rng)):
                crop.save(output / f"{file.name}-{place:02d}.{suffix}", **how)
    except BaseException:
        shutil.rmtree(output)  # half of the crops are no set of outliers
        raise
    return number * len(files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, metavar="PHOTOGRAPHS", help="a folder of images")
    parser.add_argument("output", type=Path, metavar="OUT", help="a folder that does not exist yet")
    parser.add_argument("--like", type=Path, required=True, metavar="IMAGE", help="one of the nominal images")
    parser.add_argument("--crops", type=positive_number, default=20, metavar="N", help="of each photograph")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        number = write_crops(
            options.photographs, options.output, like=options.like, number=options.crops, seed=options.seed
        )
    except BlemishError as fault:
        sys.exit(f"error: {fault}")
    print(f"{number} images in {options.output}")


if __name__ == "__main__":
    main()
