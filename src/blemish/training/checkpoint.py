"""Checkpoints of a training under way: tensors in safetensors, numbers in JSON, never a pickle."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from blemish.io.files import atomic_write, make_folder
from blemish.training.resume_key import difference

_STATE = "state.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A folder beside the model file that holds the state of an unfinished training.

    Attributes:
        folder: where it lies; made when first saved to.
        key: what the training depends on; a state saved under another key is not resumed from.
    """

    folder: Path
    key: str

    @classmethod
    def beside(cls, output: Path, *, key: str, stage: str) -> "Checkpoint":
        """The checkpoint of one stage of the training that writes `output`."""
        name = stage.replace(" ", "_")
        return cls(output.with_name(f".{output.name}.{name}.checkpoint"), key)

    def save(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Replaces the state; a kill in between leaves the one before. Raises BlemishError on a full disk."""
        make_folder(self.folder)
        # The numbers travel in the file's header: one file, so state and numbers can never be of different epochs.
        header = {"key": self.key, "numbers": json.dumps(numbers)}
        with atomic_write(self.folder / _STATE) as file:
            file.write(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata=header))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and numbers of the last save; None where there is none of this training."""
        try:
            header = self._header()
            if header["key"] != self.key:
                return None
            return load_file(self.folder / _STATE), json.loads(header["numbers"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None  # none, or damaged: training starts again, nothing is lost but time

    def fault(self) -> str | None:
        """Why the state that lies here is not resumed from, in words; None where there is none, or it is resumed from.

        It goes on "an unfinished training beside the model file ...".
        """
        if not (self.folder / _STATE).exists() or self.load() is not None:
            return None
        try:
            other = self._header()["key"]
        except (OSError, KeyError, SafetensorError):
            return "is damaged"
        return f"had {difference(self.key, other)}" if other != self.key else "is damaged"

    def _header(self) -> dict[str, str]:
        """The strings in the file's header."""
        with safe_open(self.folder / _STATE, framework="pt") as file:
            return file.metadata() or {}

    def remove(self) -> None:
        """Removes the folder once the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_checkpoints(output: Path) -> None:
    """Removes what trainings that write `output` have left beside it, those of other options and folds as well."""
    for folder in _left(output):
        shutil.rmtree(folder, ignore_errors=True)


def fault_of_left(output: Path, key: str) -> str | None:
    """Why a training with this key does not go on with one that was left beside `output`; None where it does.

    States of all stages and folds count: another training may come to other stages, or to none. What an earlier one
    left beside a state of this training has been spoken of when that began.
    """
    states = [Checkpoint(folder, key) for folder in sorted(_left(output))]
    if any(state.load() is not None for state in states):
        return None
    return next((fault for state in states if (fault := state.fault())), None)


def _left(output: Path) -> list[Path]:
    """The folders of checkpoints beside `output`, whatever the stage."""
    pattern = re.compile(re.escape(f".{output.name}") + r"(\.fold\d+)?\.\w+\.checkpoint")
    return [folder for folder in output.parent.iterdir() if pattern.fullmatch(folder.name)]


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of an optimiser under names for `Checkpoint.save`."""
    state = optimiser.state_dict()["state"]
    return {f"optimiser.{i}.{name}": value for i, moments in state.items() for name, value in moments.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts the moments that `optimiser_tensors` named back into an optimiser."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in under("optimiser.", tensors).items():
        index, moment = name.split(".")
        moments.setdefault(int(index), {})[moment] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
