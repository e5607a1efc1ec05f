"""What the runs of a comparison depend on, beside method and seed: data, options, version."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish import __version__
from blemish.datasets.layouts import DataSet
from blemish.imaging.masks import mask_files
from blemish.io.files import fingerprint, folder_state
from blemish.io.text import printable
from blemish.training.config import LOGS, TrainConfig

SOON_READ = 1_000_000_000  # bytes whose digest takes seconds, where a training takes minutes

# Options that differ between the runs, or that do not change what is learned.
_LEFT_OUT = ("method", "seed", "download", *LOGS)
_FILES = ("weights", "outlier_exposure", "ignore_mask", "groups")


@dataclass(frozen=True, kw_only=True)
class Key:
    """Digests and options; two comparisons with equal keys give equal runs."""

    blemish: str
    data: str
    options: Mapping[str, Any]


def key_of(data: DataSet, config: TrainConfig) -> Key:
    """The key of a comparison on a data set.

    Images, masks, and the files that options name count by content up to 1 GB in all, beyond by size and time of
    change. Raises BlemishError where one cannot be read.
    """
    options = {name: value for name, value in config.to_dict().items() if name not in _LEFT_OUT}
    for name in _FILES:
        options[name] = _state_of(getattr(config, name))
    return Key(blemish=__version__, data=_state(data), options=json.loads(json.dumps(options)))


def difference(key: Key, other: Key) -> str | None:
    """In words, what another key differs in; None where it does not."""
    if key.blemish != other.blemish:
        return f"another version of Blemish ({other.blemish}, and this is {key.blemish})"
    if key.data != other.data:
        return "other images or masks"
    names = sorted({*key.options, *other.options})
    if differing := [name for name in names if key.options.get(name) != other.options.get(name)]:
        return f"other options ({', '.join(map(printable, differing))})"
    return None


def _state_of(path: str | Path | None) -> str | None:
    """A digest of a file or folder that an option names; a pattern as it is."""
    if path is None or not os.path.exists(path):
        return None if path is None else str(path)
    return folder_state(path, soon_read=SOON_READ) if os.path.isdir(path) else fingerprint(path)


def _state(data: DataSet) -> str:
    """SHA-256 over what is known of all samples and over the contents of their files."""
    whole = hashlib.sha256()
    samples = [("train", sample) for sample in data.train] + [("test", sample) for sample in data.test]
    read = sum(map(_size, _files(data))) <= SOON_READ
    for part, sample in samples:
        masks = [] if sample.mask is None else mask_files(sample.mask)
        states = [_file_state(file, read=read) for file in (sample.path, *masks)]
        name = os.path.relpath(sample.path, data.root)
        whole.update(f"{part}\0{printable(name)}\0{sample.defect}\0{'·'.join(states)}\0".encode())
    return whole.hexdigest()


def _files(data: DataSet) -> Iterator[Path]:
    for sample in (*data.train, *data.test):
        yield sample.path
        yield from _mask_files(sample.mask)


def _mask_files(mask: Any) -> Iterable[Path]:
    return () if mask is None else mask_files(mask)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # training and evaluation say what is wrong with it


def _file_state(path: Path, *, read: bool) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "missing"
    if read and os.path.isfile(path):
        return fingerprint(path)
    return f"{status.st_size} {status.st_mtime_ns}"
