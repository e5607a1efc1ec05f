"""How many processor threads a command uses, and that they sleep while they wait for work.

Threads that spin while they wait are several times slower where other work runs beside them. Both settings belong to
the process: the command line makes them before any library is loaded.
"""

import os

_chosen: int | None = None


def sleep_while_waiting() -> None:
    """Makes OpenMP's threads sleep, unless the user has said how they wait. Counts for libraries loaded afterwards."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def limit(threads: int | None) -> None:
    """Uses so many threads from now on, in this process and those it starts; None for as many as there are cores."""
    global _chosen
    _chosen = threads
    if threads is not None:
        for library in ("OMP", "MKL", "OPENBLAS"):
            os.environ[f"{library}_NUM_THREADS"] = str(threads)


def chosen() -> int | None:
    """The limit, where one was set."""
    return _chosen


def in_one_operation() -> int | None:
    """Threads that one operation of a network may use: the limit, or what the user's OMP_NUM_THREADS says.

    OpenMP reads that variable itself; ONNX Runtime and OpenVINO have threads of their own and do not.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2" is of nested operations
    return _chosen or (int(given) if given.isdecimal() else 0) or None


def cores() -> int:
    """Threads that may compute at a time: the limit, or the cores that this process may use."""
    if _chosen is not None:
        return _chosen
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each_image(at_a_time: int) -> int:
    """Threads of the network for each image, where so many are scored at a time."""
    return max(1, cores() // at_a_time)


def readers() -> int:
    """Threads that read images at a time."""
    return min(8, cores())
