"""Training, top to bottom: a folder of images in, a model file out.

1. The good images are split by chance: some to fit to, of which a few scale the defect branch, and some to calibrate.
2. A network learns from all but the last: `blemish.training.pipeline`.
3. It is exported, and the exported graph itself scores the calibration images: what runs is calibrated.

Cross-conformal, all of this happens once for each fold of the good images, which calibrates the network that has not
learned from it; the file holds all networks.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from lightning_fabric import seed_everything

from blemish.datasets.duplicates import distinct, in_words
from blemish.datasets.few_images import advice
from blemish.datasets.groups import Grouping
from blemish.datasets.layouts import DataSet, Named, read_data_set
from blemish.datasets.mask_warnings import MaskCensus
from blemish.datasets.network_size import MULTIPLE, Shape
from blemish.datasets.pixels import Pixels, read_pixels
from blemish.datasets.splits import Split, fold_nominal, members_of, one_of_each, split_nominal
from blemish.errors import BlemishError
from blemish.imaging.bit_depth import check_bits
from blemish.imaging.headers import upright_sizes
from blemish.imaging.ignore_mask import IgnoreMask, as_record, fill_image
from blemish.imaging.outputs import MODEL, check_overwriting
from blemish.imaging.survey import survey_depth
from blemish.io.arguments import GONE, name, one_of, one_path, rate, shown, whole
from blemish.io.files import check_output_file
from blemish.io.text import counted, printable
from blemish.model.detector import Detector
from blemish.model.metadata import FINGERPRINT_DIGITS, ModelMetadata
from blemish.networks.build import build_ensemble
from blemish.networks.detector import SIGMA, DetectorNetwork
from blemish.networks.extractor import STRIDES, load_extractor
from blemish.networks.input_mask import InputMask
from blemish.networks.timm_cnn import DEFAULT_BACKBONE
from blemish.process.progress import Progress
from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.training.checkpoint import fault_of_left, remove_checkpoints
from blemish.training.devices import require_device
from blemish.training.distributed import launch
from blemish.training.onnx_export import export_onnx
from blemish.training.pipeline import TrainingData, fit_detector
from blemish.training.resume_key import resume_key
from blemish.training.seeding import MAX_SEED, generators_restored
from blemish.training.steps.alignment import FittedAlignment, fit_alignment
from blemish.training.steps.calibration import CalibrationMeasurement, calibrate, drift_reference, measure_calibration
from blemish.training.trainer import Training


@generators_restored()
def train(
    data: str | Path | None,
    output: str | Path,
    *,
    size: tuple[int, int] | int | Literal["auto"] = "auto",
    seed: int = 0,
    false_alarm_rate: float = 0.01,
    backbone: str = DEFAULT_BACKBONE,
    weights: str | Path | None = None,
    download: bool = False,
    outliers: str | Path | None = None,
    ignore: str | Path | None = None,
    bits: int | None = None,
    cross_conformal: int | None = None,
    groups: str | Path | None = None,
    align: bool = True,
    epochs: int = 6,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    devices: int = 1,
    nodes: int = 1,
    nominal_class: str | None = None,
    good: Named = (),
    bad: Named = (),
    masks: Named = (),
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
    anomalies: object = None,
    cells: object = None,
) -> Detector:
    """Trains a detector on a folder of images and writes it as one model file.

    Labelled defects and masks in the folder's training split are used by themselves.

    Args:
        data: a folder in any layout of `blemish.datasets.layouts`; it may be None where folders are named by hand.
        output: the .onnx file to write.
        size: network size (height, width) in pixels, multiples of 32, or one number for both;
            "auto" has the shape of the good images and as many pixels as 256 x 256, see
            `blemish.datasets.network_size`.
        seed: decides every random choice.
        false_alarm_rate: share of good images that may be called anomalous, between 0 and 1.
        backbone: a timm model name.
        weights: a local weights file for it.
        download: let timm fetch its weights.
        outliers: a folder of any other images, for outlier exposure.
        ignore: a mask, white where images do not count: for all of them, and then it stays in the model file; or a
            folder with a mask an image, see `blemish.imaging.ignore_mask`.
        bits: depth of the values in 16-bit images, 8 to 16; by default known from the largest value of all training
            images together, see `blemish.imaging.bit_depth`. The model file keeps it for every later image.
        cross_conformal: a number of folds: every good image trains and calibrates, at the price of as many networks in
            the file and of a weaker guarantee, see `blemish.conformal.cross`. For small sets.
        groups: which good images belong together, such as photographs of one part, so that whole groups are held back:
            a regular expression, searched for in paths below `data`, whose first group (or whole match) names the
            group; or a CSV file of columns path and group. Images that it does not name count alone.
        align: turn parts upright where the good images show them in all directions on a plain background; then what
            lies in the background counts for less. Not with `ignore`, whose masks lie still.
        epochs: passes over the known anomalies: labelled defects and outliers.
        device: where to train.
        devices: processes on this machine, a device each. They run the calling program again from its start, and each
            returns the detector; see `blemish.training.distributed`.
        nodes: machines with as many; the program is to be started on each, and `output` to be seen by all.
        nominal_class: the class that is nominal, in one-versus-rest folders.
        good, bad, masks: folders named by hand where no layout fits, below `data` or as they stand: of good images, of
            defective ones (a type of defect each, or with a folder for each), and of their masks.
        progress: called with the stage, the steps done and all there are.
        notify: called with one sentence about anything left out or resumed.
        anomalies, cells: of earlier releases; they do nothing but raise a DeprecationWarning.

    Returns:
        The detector, loaded from the file.

    Raises:
        BlemishError: a fault of the data, an option or the disk, in one sentence.
    """
    for option, value in (("anomalies", anomalies), ("cells", cells)):
        if value is not None:
            # From where `train` was called: one more level for `generators_restored`.
            warnings.warn(f"{option}= no longer does anything: {GONE[option]}", DeprecationWarning, stacklevel=3)
    output = one_path(output, "the output")
    data = None if data is None else one_path(data, "the data")
    weights = None if weights is None else one_path(weights, "weights")
    outliers = None if outliers is None else one_path(outliers, "outliers")
    ignore = None if ignore is None else one_path(ignore, "ignore")
    size = (size, size) if isinstance(size, int) else size
    progress = progress or (lambda stage, done, total: None)
    notify = notify or (lambda text: None)
    check_overwriting(output, (data, weights, outliers, ignore), kind=MODEL)
    _check(output, size=size, outliers=outliers)
    rate(false_alarm_rate, "the false-alarm rate")
    seed = whole(seed, "the seed", least=0, most=MAX_SEED)
    epochs, devices, nodes = (
        whole(value, what, least=1) for value, what in ((epochs, "epochs"), (devices, "devices"), (nodes, "nodes"))
    )
    cross_conformal = None if cross_conformal is None else whole(cross_conformal, "cross_conformal", least=2)
    bits = None if bits is None else check_bits(bits)
    _check_words(backbone=backbone, device=device, align=align, download=download)
    require_device(device, devices=devices)
    away = IgnoreMask(ignore) if ignore is not None else None
    if away and cross_conformal and not away.everywhere:
        raise BlemishError(
            "a folder of masks and cross-conformal calibration do not go together: give one mask for all"
        )
    seed_everything(seed, verbose=False)
    extractor = load_extractor(backbone, weights=weights, download=download)
    data_set = read_data_set(data, nominal_class=nominal_class, good=good, bad=bad, masks=masks)
    grouping = _grouping(groups, data_set)
    fabric, processes = launch(device, devices=devices, nodes=nodes)
    if not processes.is_main:
        progress, notify = (lambda stage, done, total: None), (lambda text: None)
    for warning in data_set.warnings:
        notify(f"warning: {warning.message}")

    # Images and their split
    shape = Shape.of([known for known in upright_sizes(_good(data_set)) if known is not None])
    if size == "auto":
        size = shape.network_size()
        images = counted(len(shape.ratios), "good image")
        notify(f"network size {size[0]} x {size[1]} px (height x width), by the shape of {images}")
    if remark := shape.remark(size):
        notify(remark)
    depth = survey_depth(
        [sample.path for sample in data_set.train], given=bits, progress=partial(progress, "bit depth")
    )
    depth.check_bit_depth()
    for sentence in depth.sentences:
        notify(sentence)
    census = MaskCensus(data_set.root)
    pixels = read_pixels(
        data_set.train,
        size,
        reading=depth.reading,
        ignore=away,
        census=census,
        progress=partial(progress, "reading"),
        notify=notify,
    )
    for sentence in census.warnings():
        notify(sentence)
    nominal, copies = distinct(pixels.images, [i for i, sample in enumerate(pixels.samples) if not sample.anomalous])
    if copies:
        notify(in_words(copies, [sample.path for sample in pixels.samples], data_set.root))
    labelled = [index for index, sample in enumerate(pixels.samples) if sample.anomalous]
    validate = bool(labelled) or outliers is not None
    files = [pixels.samples[index].path for index in nominal]
    of_each = grouping.of(files, data_set.root) if grouping else None
    if grouping:
        notify(grouping.statement(files, data_set.root))
    if cross_conformal is None:
        deal = partial(split_nominal, false_alarm_rate=false_alarm_rate, seed=seed, validate=validate)
        splits = [deal(len(nominal), groups=of_each)]
    else:
        splits = fold_nominal(len(nominal), folds=cross_conformal, seed=seed, validate=validate, groups=of_each)
    members = members_of(of_each, len(nominal))
    could_cross = cross_conformal is None and (away is None or away.everywhere)
    few = advice(len(members), false_alarm_rate=false_alarm_rate, grouped=grouping is not None)
    if could_cross and few:
        notify(f"few good images: {few}")
    processes.check_not_idle(min(len(split.fit) for split in splits))
    if hidden := [index for index in labelled if pixels.fully_ignored(index)]:
        notify(f"{counted(len(hidden), 'labelled defect')} left out: all of it is ignored")
        labelled = [index for index in labelled if index not in hidden]

    settings = {
        "backbone": backbone,
        "strides": list(STRIDES),
        "size": list(size),
        "pixel_aspect": (aspect := shape.pixel_aspect(size)),
        "image_ratio": shape.ratio if shape.is_one else None,  # of good images, height over width
        "sigma": SIGMA,
        "seed": seed,
        "false_alarm_rate": false_alarm_rate,
        "outliers": outliers.name if outliers else None,
        "epochs": epochs,
        "ignore": away.fingerprint if away else None,
        "cross_conformal": cross_conformal,
        "groups": grouping.as_record(files, data_set.root) if grouping else None,
        "align": align,
        "bits": depth.reading.bits if depth.reading.seen else None,
    }
    fingerprints = [digest[:FINGERPRINT_DIGITS] for digest in pixels.fingerprints]
    data_fingerprint = sha256("".join(sorted(fingerprints)).encode()).hexdigest()
    key = "of the first process"  # which alone learns in stages
    if processes.is_main:
        key = resume_key(
            settings,
            pixels,
            labelled,
            extractor,
            weights=weights,
            outliers=outliers,
            device=f"{fabric.device.type} {fabric.strategy.precision.precision}",
            processes=processes.world_size,
        )
        if fault := fault_of_left(output, key):
            notify(f"starting over: an unfinished training beside the model file {fault}")
    training = Training(
        fabric=fabric,
        epochs=epochs,
        seed=seed,
        output=output,
        key=key,
        progress=progress,
        notify=notify,
        processes=processes,
    )

    # One network, or one for each fold that is left out
    networks: list[DetectorNetwork] = []
    held_back: list[CalibrationMeasurement] = []
    trainings = [training] if cross_conformal is None else [_of_fold(training, fold) for fold in range(len(splits))]
    # One image of each group, like those that calibrate.
    watched = drift_reference(pixels, [nominal[index] for index in one_of_each(members, np.random.default_rng(seed))])
    for split, one in zip(splits, trainings, strict=True):
        fit, validation, calibration = (
            [nominal[index] for index in part] for part in (split.fit, split.validation, split.calibration)
        )
        input_mask = _look_away(away, pixels, fit, calibration) if away else None
        data_of_fold = TrainingData(
            pixels,
            fit,
            validation,
            labelled,
            outliers,
            input_mask,
            _alignment(pixels, fit, aspect, one.notify) if align and away is None else None,
            aspect,
        )
        network = fit_detector(extractor, data_of_fold, one)
        networks.append(network)
        if processes.is_main:
            told = partial(one.progress, "calibration")
            held_back.append(measure_calibration(network, pixels, fit, calibration, progress=told))

    # Calibration, and the file
    if not processes.is_main:
        processes.barrier()
        return Detector.load(output)
    scores, regions, low = calibrate(held_back, false_alarm_rate=false_alarm_rate)
    learned = len({index for split in splits for index in split.fit})
    metadata = ModelMetadata(
        size=size,
        supervision=_supervision(pixels, labelled, outliers),
        settings=settings,
        data={
            "name": data_set.root.resolve().name,
            "layout": data_set.layout,
            "nominal_class": data_set.nominal_class,
            "train_images": learned + len(labelled),
            "calibration_images": scores.images,
            "fingerprint": data_fingerprint,
        },
        used_images=tuple(sorted(fingerprints)),
        roles=_roles(fingerprints, nominal, labelled, splits),
        calibration=scores,
        heatmap_low=low,
        heatmap_high=_high_end(low, scores.threshold),
        regions=regions,
        drift_reference=watched,
        ignored=as_record(away, size) if away else None,
        bits=depth.reading.bits,
        aligned=any(network.alignment for network in networks),
        networks=tuple(_made_of(network) for network in networks) if cross_conformal else (),
        versions={name: version(name) for name in ("blemish", "torch", "timm", "onnxruntime", "numpy", "pillow")},
    )
    export_onnx(build_ensemble(networks), metadata, output)
    remove_checkpoints(output)
    processes.barrier()
    return Detector.load(output)


def _alignment(
    pixels: Pixels, fit: Sequence[int], aspect: float, notify: Callable[[str], None]
) -> FittedAlignment | None:
    alignment = fit_alignment(pixels.images, fit, aspect=aspect)
    if alignment is not None:
        notify(
            "parts lie in any direction on a plain background: each is turned upright, and what lies in the background "
            "counts for less; --no-align takes images as they are"
        )
    return alignment


def _roles(
    fingerprints: Sequence[str], good: Sequence[int], labelled: Sequence[int], splits: Sequence[Split]
) -> dict[str, tuple[str, ...]]:
    """Fingerprints by what becomes of the images; those that calibrate in the order of their scores."""
    parts = {
        "fit": sorted({index for split in splits for index in split.fit}),
        "validation": [index for split in splits if len(splits) == 1 for index in split.validation],
        "calibration": [index for split in splits for index in split.calibration],
    }
    roles = {role: tuple(fingerprints[good[index]] for index in part) for role, part in parts.items()}
    return roles | {"labelled": tuple(fingerprints[index] for index in labelled)}


def _of_fold(training: Training, fold: int) -> Training:
    """The training of the network that leaves one fold out: its stages and checkpoints have names of their own."""
    return replace(
        training,
        output=training.output.with_name(f"{training.output.name}.fold{fold + 1}"),
        progress=lambda stage, done, total: training.progress(f"fold {fold + 1}: {stage}", done, total),
        notify=lambda text: training.notify(f"fold {fold + 1}: {text}"),
    )


def _grouping(given: str | Path | None, data_set: DataSet) -> Grouping | None:
    """Which good images belong together, refused before any image is read where it cannot be told."""
    if given is None:
        return None
    every = [sample.path for sample in (*data_set.train, *data_set.test)]
    return Grouping.read(given, good=_good(data_set), every=every, root=data_set.root)


def _good(data_set: DataSet) -> list[Path]:
    """The files of the good training images."""
    return [sample.path for sample in data_set.train if not sample.anomalous]


def _check(
    output: Path,
    *,
    size: tuple[int, int] | Literal["auto"],
    outliers: Path | None,
) -> None:
    """Refuses before any work what could only fail after it."""
    if size != "auto" and not (isinstance(size, Sequence) and [isinstance(side, int) for side in size] == [True] * 2):
        raise BlemishError(f"the size must be one number or (height, width), such as 256, not {shown(size)}")
    if size != "auto" and any(side < MULTIPLE or side % MULTIPLE for side in size):
        raise BlemishError(
            f"the size must be a multiple of {MULTIPLE} on both sides, such as 256, not {size[0]}x{size[1]}"
        )
    check_output_file(output)
    if outliers is not None:
        OutlierFolder(outliers)  # raises where there is none, minutes before it is read


def _check_words(*, backbone: str, device: str, align: bool, download: bool) -> None:
    """Raises BlemishError for a word that an option does not know: it would pass for the default in silence."""
    name(backbone, "the backbone")
    one_of(device, "the device", ("auto", "cpu", "cuda", "mps"))
    one_of(align, "align", (True, False))
    one_of(download, "download", (True, False))


def _look_away(ignore: IgnoreMask, pixels: Pixels, fit: Sequence[int], calibration: Sequence[int]) -> InputMask | None:
    """Fills what is ignored of the training images, and makes one mask for all images a part of the network.

    Where masks come with the images, those for calibration stay as new images will be.
    """
    if not pixels.ignored:
        raise BlemishError(f"{printable(ignore.path)}: no mask in it belongs to a training image; name them alike")
    picture = fill_image(pixels.images, pixels.ignored, fit)
    mask = ignore.mask(None, pixels.images.shape[1:3])
    pixels.fill((index for index in pixels.ignored if mask is not None or index not in calibration), picture)
    return None if mask is None else InputMask(mask, picture)


def _high_end(low: float, threshold: float) -> float:
    """Colours saturate as far above the threshold as good parts usually lie below it."""
    return threshold + max(threshold - low, 1e-6)


def _made_of(network: DetectorNetwork) -> dict[str, bool]:
    """What was decided for one network of several."""
    return {"aligned": network.alignment is not None}


def _supervision(
    pixels: Pixels,
    labelled: Sequence[int],
    outliers: Path | None,
) -> str:
    """In one line, what the detector learned from."""
    parts = ["good images only" if not (labelled or outliers) else "good images"]
    if labelled:
        found = (pixels.mask(index) for index in labelled)
        masks = sum(mask is not None and bool(mask.any()) for mask in found)
        parts.append(f"{counted(len(labelled), 'labelled defect')} ({counted(masks, 'mask')})")
    if outliers is not None:
        parts.append(f"outlier exposure ({outliers.name})")
    return " + ".join(parts)
