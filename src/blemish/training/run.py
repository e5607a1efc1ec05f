"""Training, top to bottom: images in, a model file out.

1. The images are read: `blemish.training.data`.
2. Everything is decided that the images decide, such as who learns and who calibrates: `blemish.training.prepare`.
3. A network learns from all images but those that calibrate: `blemish.training.pipeline`.
4. It is exported, and the exported graph itself scores the calibration images: what runs is calibrated.

Cross-conformal, the last two happen once for each fold of the nominal images, which calibrates the network that has not
learned from it; the file holds all networks.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from blemish.datasets.layouts import Named, read_data_set
from blemish.datasets.pixels import Pixels
from blemish.datasets.splits import one_of_each
from blemish.errors import BlemishError
from blemish.imaging.ignore_mask import IgnoreMask, fill_image
from blemish.imaging.outputs import MODEL, check_overwriting
from blemish.io.arguments import GONE, one_path
from blemish.io.files import check_output_file
from blemish.io.text import printable
from blemish.model.detector import Detector
from blemish.model.metadata import ModelMetadata
from blemish.networks.build import build_ensemble
from blemish.networks.detector import DetectorNetwork
from blemish.networks.input_mask import InputMask
from blemish.process.deprecation import renamed_arguments
from blemish.process.progress import Progress
from blemish.training.checkpoint import fault_of_left, remove_checkpoints
from blemish.training.config import LOGS, TrainConfig, TrainOptions
from blemish.training.data import Notify, TrainingData, read_training_images
from blemish.training.log import NO_LOG, PrefixedLog, TrainingLog
from blemish.training.log_results import log_results
from blemish.training.logs import open_logs
from blemish.training.method import synthetic_anomaly_of
from blemish.training.onnx_export import export_onnx
from blemish.training.pipeline import fit_detector
from blemish.training.plan import DetectorPlan
from blemish.training.prepare import Preparation, prepare
from blemish.training.record import metadata_of, settings_of
from blemish.training.resume_key import resume_key
from blemish.training.seeding import caller_state_restored
from blemish.training.session import ReadData, Session, open_session
from blemish.training.steps.calibration import CalibrationMeasurement, drift_reference, measure_calibration
from blemish.training.trainer import Training


@renamed_arguments(outliers="outlier_exposure", ignore="ignore_mask")
def train(
    data: str | Path | None,
    output: str | Path,
    config: TrainConfig | None = None,
    *,
    nominal_class: str | None = None,
    good: Named = (),
    bad: Named = (),
    masks: Named = (),
    progress: Progress | None = None,
    notify: Notify | None = None,
    **options: Unpack[TrainOptions],
) -> Detector:
    """Trains a detector on a folder of images and writes it as one model file.

    Labelled defects and masks in the folder's training split are used by themselves.

    Example:
        >>> detector = train("screws/", "new.onnx", size=64, false_alarm_rate=0.02, seed=1)
        >>> detector.metadata.supervision
        'good images only'

    Args:
        data: a folder in any layout of `blemish.datasets.layouts`; it may be None where folders are named by hand.
        output: the .onnx file to write.
        config: how to train; None takes the defaults.
        nominal_class: the class that is nominal, in one-versus-rest folders.
        good, bad, masks: folders named by hand where no layout fits, below `data` or as they stand: of good images, of
            defective ones (a type of defect each, or with a folder for each), and of their masks.
        progress: called with the stage, the steps done and all there are.
        notify: called with one sentence about anything that is decided, left out or resumed. The logger
            "blemish.training" gets the same sentences.
        options: fields of `TrainConfig`, which replace those of `config`.

    Returns:
        The detector, loaded from the file.

    Raises:
        BlemishError: a fault of the data, an option or the disk, in one sentence.
    """
    config = configured(config, options)
    data = None if data is None else one_path(data, "the data")
    read = partial(read_data_set, data, nominal_class=nominal_class, good=good, bad=bad, masks=masks)
    return train_on(read, output, config, inputs=(data,), progress=progress, notify=notify)


def plan(
    data: str | Path | None,
    config: TrainConfig | None = None,
    *,
    nominal_class: str | None = None,
    good: Named = (),
    bad: Named = (),
    masks: Named = (),
    progress: Progress | None = None,
    notify: Notify | None = None,
    **options: Unpack[TrainOptions],
) -> DetectorPlan:
    """What `train` would decide, without training and without writing a file.

    It takes the arguments of `train` but for the output, and raises the same errors.
    """
    config = configured(config, options)
    data = None if data is None else one_path(data, "the data")
    read = partial(read_data_set, data, nominal_class=nominal_class, good=good, bad=bad, masks=masks)
    return prepare_on(read, config, progress=progress, notify=notify).plan


def configured(config: TrainConfig | None, options: Mapping[str, Any]) -> TrainConfig:
    """A configuration with options in place of its own; those of earlier releases that are gone raise a warning.

    Args:
        config: None stands for the defaults.
        options: by name.

    Raises:
        BlemishError: an option that is not known or has a bad value.
    """
    given = dict(options)
    for old, why in GONE.items():
        if given.pop(old, None) is not None:
            # From the caller of the function that calls this one, over what lets that take old names.
            warnings.warn(f"{old}= no longer does anything: {why}", DeprecationWarning, stacklevel=4)
    if config is not None and not isinstance(config, TrainConfig):
        raise BlemishError(f"config must be a TrainConfig, not {type(config).__name__}: use TrainConfig.from_dict")
    return (config or TrainConfig()).with_options(**given)


def prepare_on(
    read: ReadData, config: TrainConfig, *, progress: Progress | None = None, notify: Notify | None = None
) -> Preparation:
    """What `train_on` would decide; see there."""
    with caller_state_restored():
        session = open_session(read, config, progress, notify)
        return _prepared(session)


def train_on(
    read: ReadData,
    output: str | Path,
    config: TrainConfig,
    *,
    inputs: Sequence[Path | None] = (),
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Detector:
    """Trains a detector on the data set that `read` gives, and writes it as one model file.

    Args:
        read: called once all options are found right.
        output: the .onnx file to write.
        config: how to train.
        inputs: files and folders that `output` may not replace, beside those of the configuration.
        progress, notify: see `train`.

    Raises:
        BlemishError: a fault of the data, an option or the disk, in one sentence.
    """
    output = one_path(output, "the output")
    check_overwriting(output, (*inputs, config.weights, config.outlier_exposure, config.ignore_mask), kind=MODEL)
    check_output_file(output)
    started = time.perf_counter()
    with caller_state_restored():
        session = open_session(read, config, progress, notify)
        log = open_logs(config, session.notify, run=output.stem) if session.processes.is_main else NO_LOG
        with closing(log):
            prepared = _prepared(session)
            session.processes.check_not_idle(min(len(split.fit) for split in prepared.splits))
            training = _training(session, prepared, output, log)
            networks, metadata = _fit_and_calibrate(session, prepared, training)
            if metadata is not None:
                export_onnx(build_ensemble(networks), metadata, output)
                remove_checkpoints(output)
            session.processes.barrier()
            detector = Detector.load(output)
            if log is not NO_LOG:
                log_results(log, detector, prepared, seconds=time.perf_counter() - started)
    return detector


def _prepared(session: Session) -> Preparation:
    images = read_training_images(
        session.data_set,
        session.config,
        grouping=session.grouping,
        ignore=session.ignore,
        multiple=session.extractor.multiple,
        progress=session.progress,
        notify=session.notify,
    )
    return prepare(images, session.config, notify=session.notify)


def _training(session: Session, prepared: Preparation, output: Path, log: TrainingLog) -> Training:
    """How to train, with the key of an unfinished training that may be gone on with."""
    config, images, processes = session.config, prepared.images, session.processes
    key = "of the first process"  # which alone learns in stages
    if processes.is_main:
        # Where files lie is no part of what they hold, which the key has by itself.
        options = {name: value for name, value in config.to_dict().items() if name not in _PLACES}
        key = resume_key(
            settings_of(session, prepared) | {"config": options},
            images.pixels,
            images.labelled,
            session.extractor,
            weights=config.weights,
            outliers=config.outlier_exposure,
            device=f"{session.fabric.device.type} {session.fabric.strategy.precision.precision}",
            processes=processes.world_size,
        )
        if fault := fault_of_left(output, key):
            session.notify(f"starting over: an unfinished training beside the model file {fault}")
    return Training(
        fabric=session.fabric,
        epochs=config.epochs,
        seed=config.seed,
        output=output,
        key=key,
        progress=session.progress,
        notify=session.notify,
        processes=processes,
        log=log,
    )


# Options that say where something lies or runs: what it is, is in the key of its own.
_PLACES = ("weights", "download", "outlier_exposure", "ignore_mask", "groups", "device", "devices", "nodes", *LOGS)


def _fit_and_calibrate(
    session: Session, prepared: Preparation, training: Training
) -> tuple[list[DetectorNetwork], ModelMetadata | None]:
    """One network, or one a fold; and, in the main process, what the model file says of them."""
    config, images = session.config, prepared.images
    crossed = config.cross_conformal is not None
    watched: dict[str, tuple[float, ...]] = {}
    if session.processes.is_main:
        # One image of each group, like those that calibrate.
        chosen = one_of_each(prepared.members, np.random.default_rng(config.seed))
        watched = drift_reference(
            images.pixels, [images.nominal[place] for place in chosen], at_most=config.calibration.drift_images
        )
    networks: list[DetectorNetwork] = []
    measured: list[CalibrationMeasurement] = []
    for number, split in enumerate(prepared.splits):
        how = _of_fold(training, number) if crossed else training
        fit, validation, calibration = (
            [images.nominal[place] for place in part] for part in (split.fit, split.validation, split.calibration)
        )
        ignore = session.ignore
        input_mask = _apply_ignore_mask(ignore, images.pixels, fit, calibration) if ignore else None
        data = TrainingData(
            images.pixels,
            fit,
            validation,
            images.labelled,
            config.outlier_exposure,
            synthetic_anomaly_of(config, labelled=bool(images.labelled)),
            input_mask,
            alignment=prepared.alignments[number].fitted,
            aspect=prepared.plan.pixel_aspect,
        )
        networks.append(fit_detector(session.extractor, data, how, config=config))
        if session.processes.is_main:
            stage = partial(how.progress, "calibration")
            measured.append(
                measure_calibration(
                    networks[-1],
                    images.pixels,
                    fit,
                    calibration,
                    level_images=config.calibration.level_images,
                    progress=stage,
                )
            )
    if not session.processes.is_main:
        return networks, None
    return networks, metadata_of(session, prepared, networks, measured, watched)


def _of_fold(training: Training, fold: int) -> Training:
    """The training of the network that leaves one fold out: its stages and checkpoints have names of their own."""
    return replace(
        training,
        output=training.output.with_name(f"{training.output.name}.fold{fold + 1}"),
        progress=lambda stage, done, total: training.progress(f"fold {fold + 1}: {stage}", done, total),
        notify=lambda text: training.notify(f"fold {fold + 1}: {text}"),
        log=PrefixedLog(training.log, f"fold {fold + 1}"),
    )


def _apply_ignore_mask(
    ignore: IgnoreMask, pixels: Pixels, fit: Sequence[int], calibration: Sequence[int]
) -> InputMask | None:
    """Fills what is ignored of the training images, and makes one mask for all images a part of the network.

    Where masks come with the images, those for calibration stay as new images will be.
    """
    if not pixels.ignored:
        raise BlemishError(f"{printable(ignore.path)}: no mask in it belongs to a training image; name them alike")
    picture = fill_image(pixels.images, pixels.ignored, fit)
    mask = ignore.mask(None, pixels.images.shape[1:3])
    pixels.fill((index for index in pixels.ignored if mask is not None or index not in calibration), picture)
    return None if mask is None else InputMask(mask, picture)
