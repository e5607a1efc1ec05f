"""Doctor: opens every image of a data set and says what it holds, what is wrong and how it would be used."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from blemish.datasets import problems as problems_of
from blemish.datasets.diagnosis import SEVERITIES, Diagnosis, Problem, SplitSummary
from blemish.datasets.inspected_image import InspectedImage, inspect_image
from blemish.datasets.layouts import DataSet, Split
from blemish.datasets.near_duplicates import MAX_IMAGES
from blemish.datasets.sampling import evenly
from blemish.imaging.survey import survey_depth
from blemish.io.text import counted
from blemish.process.progress import Progress, no_progress
from blemish.process.threads import readers


def examine(data: DataSet, *, progress: Progress = no_progress) -> Diagnosis:
    """Opens every image and mask of a data set.

    Args:
        data: as `read_data_set` gives it.
        progress: is called with "opening images", the number of images done, and of all.

    Returns:
        What the data set holds, what is wrong with it, and how training would use it. Faults raise nothing.
    """
    samples = [*data.train, *data.test]
    splits: list[Split] = ["train" for _ in data.train]
    splits += ["test" for _ in data.test]
    depth = survey_depth(sample.path for sample in data.train)
    compared = set(evenly([sample.path for sample in data.train if not sample.anomalous], MAX_IMAGES))
    images = []
    with ThreadPoolExecutor(readers()) as pool:
        for image in pool.map(partial(inspect_image, reading=depth.reading, compared=compared), samples, splits):
            images.append(image)
            progress("opening images", len(images), len(samples))
    problems = [
        *problems_of.amounts(data, images),
        *problems_of.unusable_files(images),
        *problems_of.odd_masks(images, data.root),
        *problems_of.identical_images(images, data.root),
        *problems_of.near_duplicates(images, data.root),
        *problems_of.blank_images(images, data.root),
        *problems_of.lossy_images(images),
        *problems_of.several_frames(images, data.root),
        *problems_of.bit_depths(depth),
        *problems_of.odd_shapes(images),
        *problems_of.images_without_mask(data),
        *(Problem("warning", warning.message, warning.paths) for warning in data.warnings),
        *(Problem("note", note) for note in data.notes),
    ]
    train = _summary(image for image in images if image.split == "train")
    return Diagnosis(
        root=data.root,
        layout=data.layout,
        nominal_class=data.nominal_class,
        train=train,
        test=_summary(image for image in images if image.split == "test"),
        problems=tuple(sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity))),
        supervision=_supervision(train),
        folders=data.folders,
        network_size=problems_of.shape_of([image for image in images if image.nominal_training]).network_size(),
    )


def _summary(images: Iterable[InspectedImage]) -> SplitSummary:
    every = list(images)
    images = [image for image in every if not image.fault]
    labels = [image.sample.defect for image in images if image.sample.defect is not None]
    masked = [image for image in images if image.marked]
    return SplitSummary(
        nominal=len(images) - len(labels),
        defects=dict(Counter(labels)),
        masks=dict(Counter(image.sample.defect for image in masked if image.sample.defect is not None)),
        description=_description(images),
        unreadable=len(every) - len(images),
    )


def _description(images: Sequence[InspectedImage]) -> str:
    """Such as "grey, 384 x 384" (width x height) or "2 grey, 9 colour, 3 sizes, 64 x 64 to 90 x 80"."""
    sizes = sorted({image.size for image in images if image.size}, key=lambda size: (size[0] * size[1], size))
    if not sizes:
        return ""
    grey = sum(image.grey for image in images if image.size)
    colour = sum(not image.grey for image in images if image.size)
    words = f"{grey:,} grey, {colour:,} colour" if grey and colour else "grey" if grey else "colour"
    smallest, largest = (f"{width} x {height}" for width, height in (sizes[0], sizes[-1]))
    if len(sizes) == 1:
        return f"{words}, {smallest}"
    return f"{words}, {len(sizes):,} sizes, {smallest} to {largest}"


def _supervision(train: SplitSummary) -> str:
    masks = sum(train.masks.values())
    if not train.anomalous:
        return "good images only"
    if not masks:
        return "labelled defects"
    return f"masks for {masks:,} of {counted(train.anomalous, 'labelled defect')}"
