"""Which runs are still to be made: one job for each training, with all tests that it serves."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.datasets.layouts import DataSet
from blemish.errors import BlemishError
from panel.methods import BLEMISH, TRAINED
from panel.protocols import Trial, needs_labels, trials


@dataclass(frozen=True)
class Job:
    """One training, its arithmetic, and the trials that it serves: all of one training split."""

    data: str
    set: str
    method: str
    seed: int
    protocols: tuple[str, ...]
    trials: tuple[str, ...]
    precision: str = "auto"


def jobs_of(found: Iterable[tuple[str, Trial]], *, data: Path, name: str, method: str, seed: int) -> list[Job]:
    """One job for each training split among trials, given with their protocols."""
    groups: dict[Any, list[tuple[str, str]]] = {}
    for protocol, trial in found:
        groups.setdefault(trial.data.train, []).append((protocol, trial.name))
    return [
        Job(str(data), name, method, seed, tuple(dict.fromkeys(p for p, _ in pairs)), tuple(t for _, t in pairs))
        for pairs in groups.values()
    ]


def pending(
    sets: dict[str, DataSet],
    methods: Sequence[str],
    protocols: Sequence[str],
    seeds: Sequence[int],
    *,
    data: Path,
    wanted: Callable[[str, str, str, int], bool],
    say: Callable[[str], None],
) -> list[Job]:
    """The jobs of all trials that are `wanted` (set, method, trial, seed), a set after the other."""
    jobs = []
    for name, source in sets.items():
        for seed in seeds:
            found: list[tuple[str, Trial]] = []
            for protocol in protocols:
                try:
                    found += [(protocol, trial) for trial in trials(protocol, source, seed=seed)]
                except BlemishError as error:
                    say(f"no {protocol} on {name}: {error}")
            for method in methods:
                new = [(protocol, trial) for protocol, trial in found if wanted(name, method, trial.name, seed)]
                jobs += jobs_of(new, data=data, name=name, method=method, seed=seed)
    return jobs


def makes_sense(method: str, trial: str, seed: int) -> bool:
    """Whether a run can say anything new: peers learn nothing from labels, and nothing of PaDiM's is left to a seed."""
    if method in (BLEMISH, *TRAINED):
        return True
    return not needs_labels(trial) and (method != "padim" or trial != "good" or seed == 0)
