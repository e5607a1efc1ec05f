"""The beginning of a training: options are checked, the backbone is loaded, the folder is read, all processes meet."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lightning_fabric import Fabric, seed_everything

from blemish.datasets.groups import Grouping
from blemish.datasets.layouts import DataSet
from blemish.errors import BlemishError
from blemish.imaging.ignore_mask import IgnoreMask
from blemish.networks.extractor import FeatureExtractor, load_extractor
from blemish.process.progress import Progress, no_progress
from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.synthetic.registry import synthetic_anomaly
from blemish.training.config import TrainConfig
from blemish.training.data import Notify, read_grouping, read_ignore_mask
from blemish.training.devices import require_device
from blemish.training.distributed import ProcessGroup, launch
from blemish.training.method import Method, method_kind

LOGGER = logging.getLogger("blemish.training")

ReadData = Callable[[], DataSet]


@dataclass(frozen=True, eq=False)
class Session:
    """A training that has begun: everything is checked that can be, and all processes are there."""

    config: TrainConfig
    data_set: DataSet
    grouping: Grouping | None
    extractor: FeatureExtractor
    ignore: IgnoreMask | None
    fabric: Fabric
    processes: ProcessGroup
    progress: Progress
    notify: Notify


def open_session(read: ReadData, config: TrainConfig, progress: Progress | None, notify: Notify | None) -> Session:
    """Begins a training: refuses, before any image is read, what could only fail after it.

    Args:
        read: called once all options are found right.
        config: how to train.
        progress, notify: of the caller; the main process alone calls them.

    Raises:
        BlemishError: an option, a file that it names, or the folder cannot be used.
    """
    outliers = None if config.outlier_exposure is None else OutlierFolder(config.outlier_exposure)
    synthetic_anomaly(config.synthetic, outliers=outliers)
    require_device(config.device, devices=config.devices)
    ignore = read_ignore_mask(config)
    seed_everything(config.seed, verbose=False)
    extractor = load_extractor(
        config.backbone, strides=config.features.strides, weights=config.weights, download=config.download
    )
    _check_size(config, multiple=extractor.multiple)
    _check_method(config, extractor)
    data_set = read()
    grouping = read_grouping(data_set, config)
    fabric, processes = launch(config.device, devices=config.devices, nodes=config.nodes, precision=config.precision)
    session = Session(
        config=config,
        data_set=data_set,
        grouping=grouping,
        extractor=extractor,
        ignore=ignore,
        fabric=fabric,
        processes=processes,
        progress=progress if progress is not None and processes.is_main else no_progress,
        notify=partial(_say, notify) if processes.is_main else lambda sentence: None,
    )
    for warning in data_set.warnings:
        session.notify(f"warning: {warning.message}")
    return session


def _say(notify: Notify | None, sentence: str) -> None:
    LOGGER.info("%s", sentence)
    if notify is not None:
        notify(sentence)


def _check_method(config: TrainConfig, extractor: FeatureExtractor) -> None:
    """Raises BlemishError where the method leaves the backbone as it is, and that is not what it was asked for."""
    if issubclass(method_kind(config.method), Method):
        return
    if config.train_from is not None:
        raise BlemishError(f"the method {config.method!r} trains no backbone: leave out train_from (--train-from)")
    if not extractor.pretrained:
        raise BlemishError(
            f"{extractor.name} has random weights, and the method {config.method!r} trains no backbone: "
            "choose another backbone, or the method 'fcdd'"
        )


def _check_size(config: TrainConfig, *, multiple: int) -> None:
    """Raises BlemishError for a network size that the backbone does not take."""
    if config.size != "auto" and any(side < multiple or side % multiple for side in config.size):
        height, width = config.size
        raise BlemishError(
            f"the size must be a multiple of {multiple} on both sides, such as {8 * multiple}, not {height}x{width}"
        )
