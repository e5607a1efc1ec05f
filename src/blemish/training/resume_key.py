"""What a training depends on, in digests: an unfinished one is gone on with only where all of them are the same.

What was read counts, not where from: pixels at network size, masks, labels and weights as they are used. So a reader
or an option that changes them changes the key by itself.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from blemish import __version__
from blemish.datasets.pixels import Pixels
from blemish.io.files import fingerprint, folder_state

# Packages that have a part in what is computed before and in the stages that leave a state behind.
PACKAGES = ("torch", "timm", "lightning_fabric", "numpy", "scipy", "pillow")

SOON_READ = 1_000_000_000  # bytes in a folder, whose digest takes seconds at most where training takes minutes


def resume_key(
    settings: Mapping[str, Any],
    pixels: Pixels,
    labelled: Sequence[int],
    backbone: nn.Module,
    *,
    weights: Path | None = None,
    outliers: Path | None = None,
    device: str = "cpu",
    processes: int = 1,
) -> str:
    """A JSON object with a digest for each thing that a training depends on, by what a user would call it.

    Args:
        settings: the training's options.
        pixels: its images as they were read, before anything is made of them.
        labelled: indices of those labelled as defective, whose masks are learned from.
        backbone: the backbone with its weights.
        weights: the file that they come from, which may hold more than the backbone.
        outliers: the folder for outlier exposure: names and contents of its files count; above `SOON_READ` bytes
            names, sizes and times of change.
        device: kind and precision of what trains.
        processes: the number of processes, on which the rounding of sums depends.

    Raises:
        BlemishError: a mask or the weights file cannot be read.
    """
    parts = {
        "options": json.dumps(dict(settings), sort_keys=True, default=str),
        "images": _digest(*pixels.images),
        "labels": json.dumps([sample.defect for sample in pixels.samples]),
        "masks": _digest(*(pixels.mask(index) for index in labelled)),
        "ignored parts": _digest(
            *(part for index in sorted(pixels.ignored) for part in (index, pixels.ignored[index]))
        ),
        "weights": _digest(
            *(part for name, tensor in backbone.state_dict().items() for part in (name, tensor.cpu().float().numpy())),
            fingerprint(weights) if weights is not None else None,
        ),
        "outliers": folder_state(outliers, soon_read=SOON_READ) if outliers is not None else "",
        "versions": json.dumps([__version__, *map(version, PACKAGES)]),
        "device": f"{device}, {processes}",
    }
    return json.dumps({name: sha256(part.encode()).hexdigest()[:16] for name, part in parts.items()})


def difference(key: str, other: str) -> str:
    """In words, in what two keys of `resume_key` differ."""
    ours, theirs = _parts(key), _parts(other)
    names = [name for name in ours if ours[name] != theirs.get(name)]
    return f"other {' and '.join(names)}" if names and theirs else "other data or options"


def _parts(key: str) -> dict[str, str]:
    try:
        parts = json.loads(key)
    except ValueError:
        return {}
    return parts if isinstance(parts, dict) else {}


def _digest(*parts: Any) -> str:
    """SHA-256 of arrays, with their shapes and types, and of plain values."""
    whole = sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            whole.update(f"{part.shape} {part.dtype};".encode())
            whole.update(np.ascontiguousarray(part).tobytes())
        else:
            whole.update(f"{part!r};".encode())
    return whole.hexdigest()
