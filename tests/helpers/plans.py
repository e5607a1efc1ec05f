"""What a training would decide, without one: no backbone is loaded and nothing is learned."""

from pathlib import Path
from typing import Any

from blemish.datasets.layouts import read_data_set
from blemish.training.config import TrainConfig
from blemish.training.data import read_grouping, read_ignore_mask, read_training_images
from blemish.training.prepare import Preparation, prepare


def prepared(root: Path, *, said: list[str] | None = None, **options: Any) -> Preparation:
    """The decisions on a folder by fields of `TrainConfig`; every sentence for the user is added to `said`."""
    config, said = TrainConfig(**({"size": (64, 64)} | options)), [] if said is None else said
    data_set = read_data_set(root)
    images = read_training_images(
        data_set,
        config,
        grouping=read_grouping(data_set, config),
        ignore=read_ignore_mask(config),
        progress=lambda stage, done, total: None,
        notify=said.append,
    )
    return prepare(images, config, notify=said.append)
