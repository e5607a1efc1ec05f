"""Runs in processes of their own, each pinned to a core with one thread, so that time and memory can be compared."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from queue import SimpleQueue

from blemish.errors import BlemishError
from blemish.io.files import fingerprint
from draws import link, read_source
from panel.book import Run, add_runs
from panel.jobs import Job
from panel.measures import figures, see
from panel.methods import fit
from panel.protocols import trials

HERE = Path(__file__).parent


def run_all(jobs: Sequence[Job], file: Path, *, processes: int, say: Callable[[str], None]) -> bool:
    """Runs jobs, so many at a time, and adds their rows to the file; whether all went well."""
    cores: SimpleQueue[int] = SimpleQueue()
    allowed = sorted(os.sched_getaffinity(0))
    for number in range(processes):
        cores.put(allowed[number % len(allowed)])

    def one(job: Job) -> bool:
        core = cores.get()
        try:
            runs = in_own_process(job, core=core)
        except BlemishError as error:
            say(f"{job.set}, {job.method}, seed {job.seed}: {error}")
            return False
        finally:
            cores.put(core)
        add_runs(file, runs)
        for run in runs:
            say(run.words())
        return True

    with ThreadPoolExecutor(processes) as pool:
        return all(list(pool.map(one, jobs)))


def in_own_process(job: Job, *, core: int) -> list[Run]:
    """The rows of a job. Raises BlemishError with what the process said where it failed."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, HERE, "--job", json.dumps(asdict(job)), "--core", str(core)],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BlemishError(done.stderr.strip()[-2000:] or f"ended with status {done.returncode}")
    return [Run(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def run_here(text: str, *, core: int) -> None:
    """What the process of a job does: prints its rows."""
    os.sched_setaffinity(0, {core})
    read = json.loads(text)
    job = Job(**{**read, "protocols": tuple(read["protocols"]), "trials": tuple(read["trials"])})
    print(json.dumps([asdict(run) for run in measure(job)]))


def measure(job: Job) -> list[Run]:
    """Trains once and tests on every trial's images, none of which may have been learned from."""
    source = read_source(Path(job.data) / job.set)
    found = [trial for protocol in job.protocols for trial in trials(protocol, source, seed=job.seed)]
    found = [trial for trial in found if trial.name in job.trials]
    with tempfile.TemporaryDirectory() as folder:
        data = link(replace(found[0].data, test=()), Path(folder) / "data")
        fitted = fit(job.method, data, seed=job.seed, precision=job.precision)
    memory = peak_megabytes()
    learned = {fingerprint(sample.path) for sample in found[0].data.train}
    samples = {sample.path: sample for trial in found for sample in trial.data.test}
    unseen = [sample for sample in samples.values() if fingerprint(sample.path) not in learned]
    seen = see(fitted.score, unseen)
    runs = []
    for trial in found:
        images = [seen[sample.path] for sample in trial.data.test if sample.path in seen]
        runs.append(
            Run(
                commit=commit(),
                seed=job.seed,
                set=job.set,
                method=job.method,
                protocol=trial.name,
                fit_s=fitted.seconds,
                memory_mb=memory,
                model_mb=fitted.megabytes,
                **figures(images, fitted.calibration),
            )
        )
    return runs


def peak_megabytes() -> float:
    """The most memory that this process has held, as the operating system counts it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def commit() -> str:
    """The checkout's commit, with a plus where the code differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", HERE, *arguments], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", str(HERE.parent), str(HERE.parents[1] / "src"))
    return git("rev-parse", "--short=7", "HEAD") + ("+" if changed else "")
