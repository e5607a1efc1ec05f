"""Reading a file of weights: a state dict saved by torch, or .safetensors."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from blemish.errors import BlemishError
from blemish.io.files import read_fault
from blemish.io.text import printable

ADVICE = "give a state dict that torch saved, or .safetensors"


def read_weights(path: str | os.PathLike[str], *, advice: str = ADVICE) -> Mapping[str, Tensor]:
    """Tensors by their names. No code in the file is run.

    Raises BlemishError, ending in the `advice`, where there is no such file or it holds no state dict.
    """
    name = printable(path)
    try:
        with open(path, "rb"):
            pass
    except FileNotFoundError as error:
        raise BlemishError(f"there is no weights file {name}: {advice}") from error
    except OSError as error:
        raise BlemishError(f"{name}: {read_fault(error)}; {advice}") from error
    try:
        if Path(path).suffix.lower() == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on what the bytes happen to look like
        raise BlemishError(f"{name} cannot be read as weights: {advice}") from error
    if not isinstance(state, Mapping):
        raise BlemishError(f"{name} holds no state dict: {advice}")
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        entries = ", ".join(ascii(key)[:40] for key in list(state)[:3])
        raise BlemishError(
            f"{name} holds no state dict at its top ({entries or 'it is empty'}): save the one in it by itself, or "
            f"{advice}"
        )
    return tensors


def misfits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], *, prefix: str = "") -> list[str]:
    """In words, what a network wants and a state dict does not hold in its shape, each under a prefix there."""
    faults = []
    for name, tensor in wanted.items():
        found = state.get(prefix + name)
        if found is None:
            faults.append(f"{prefix}{name} is missing")
        elif found.shape != tensor.shape:
            faults.append(f"{prefix}{name} is {tuple(found.shape)}, not {tuple(tensor.shape)}")
    return faults
