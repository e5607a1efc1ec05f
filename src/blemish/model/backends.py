"""Opening a model file's graph in the runtime it was made for: ONNX Runtime, or OpenVINO where that is installed.

Every model file is an ONNX model with Blemish's metadata inside. An OpenVINO export is the same graph: OpenVINO reads
ONNX itself, so nothing is converted, and the metadata say which runtime its calibration belongs to.
"""

import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from blemish.errors import BlemishError
from blemish.io.files import read_fault
from blemish.io.text import printable
from blemish.model.graph_check import INPUT, OUTPUTS, check_graph, metadata_of
from blemish.model.metadata import METADATA_KEY, ModelMetadata, Precision, Runtime
from blemish.process.threads import in_one_operation

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Outputs = tuple[Floats, Floats, Floats]

# Each of ONNX Runtime's exceptions stands for itself, and on damaged files its parsers raise others besides.
_FAULTS: tuple[type[Exception], ...] = (
    *(value for value in vars(failures).values() if isinstance(value, type) and issubclass(value, Exception)),
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
)

# Takes a function that ends a run early when another thread calls it; the run is within the context that comes back.
End = Callable[[], None]
Watch = Callable[[End], AbstractContextManager[None]]
_watch: ContextVar[Watch] = ContextVar("_watch", default=lambda end: nullcontext())


@contextmanager
def watched_runs(watch: Watch) -> Iterator[None]:
    """Within, `watch` is around every run of a graph in this thread; a run that is ended early raises."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


class Graph(Protocol):
    """A detector's graph, ready to run; calls from several threads are safe."""

    def run(self, pixels: Pixels) -> Outputs:
        """Maps (N, H, W), scores (N,) and p-values (N,) of uint8 pixels (N, H, W, 3) at network size.

        Raises BlemishError where the graph cannot be run, or what comes out is not that.
        """


def open_model(path: Path, *, threads: int | None, arena: bool) -> tuple[Graph, ModelMetadata, str]:
    """Opens a model file; see `Detector.load` for the arguments. Raises BlemishError, naming the file.

    Returns the graph, the metadata, and SHA-256 of the bytes that both were read from, as 64 hexadecimal digits.
    Nothing of the graph is run, nor given any memory, before it is checked: see `blemish.model.graph_check`.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # reading a pipe or a device may never end
            raise BlemishError(f"{printable(path)}: not a regular file; save the model to one")
        model = path.read_bytes()
    except OSError as error:
        raise BlemishError(f"{printable(path)}: {read_fault(error)}") from error
    try:
        return *_opened(model, threads=threads, arena=arena), sha256(model).hexdigest()
    except BlemishError as error:
        raise BlemishError(f"{printable(path)}: {error}") from error


def _opened(model: bytes, *, threads: int | None, arena: bool) -> tuple[Graph, ModelMetadata]:
    text = metadata_of(model).get(METADATA_KEY)
    if text is None:
        raise BlemishError("an ONNX model, but not one that blemish train wrote; give one that it did")
    metadata = ModelMetadata.from_json(text)
    try:
        check_graph(model)
        session = _session(model, threads=threads, arena=arena)
    except _FAULTS as error:
        raise BlemishError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open its graph ({_reason(error)}): copy the file or train "
            "it again, or update ONNX Runtime if it is older than the one that made the file"
        ) from error
    _check_ends(session, metadata.size)
    if metadata.runtime == "onnxruntime":
        return _OnnxRuntime(session), metadata
    del session  # has done its part, and would hold the weights a second time
    return _open_openvino(model, metadata.precision, threads=threads), metadata


def open_graph(model: bytes, runtime: Runtime, precision: Precision, *, threads: int | None = None) -> Graph:
    """Opens the bytes of an ONNX model with a detector's input and outputs, whatever its metadata say.

    Raises BlemishError where OpenVINO is not installed or the processor lacks the precision.
    """
    if runtime == "onnxruntime":
        return _OnnxRuntime(_session(model, threads=threads, arena=True))
    return _open_openvino(model, precision, threads=threads)


class _OnnxRuntime:
    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def run(self, pixels: Pixels) -> Outputs:
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4  # faults are raised; a run that is ended would be logged as one
        try:
            with _watch.get()(partial(setattr, options, "terminate", True)):
                maps, scores, p_values = self._session.run(OUTPUTS, {INPUT: pixels}, options)
        except _FAULTS as error:
            raise BlemishError(_run_fault(error, pixels)) from error
        return _checked(maps, scores, p_values, pixels)


class _OpenVino:
    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._lock = Lock()  # a request is for one caller at a time

    def run(self, pixels: Pixels) -> Outputs:
        with self._lock:
            try:
                with _watch.get()(self._request.cancel):
                    results = self._request.infer({INPUT: pixels}, share_inputs=True)
            except _FAULTS as error:
                raise BlemishError(_run_fault(error, pixels)) from error
            # Copies: the next call writes over the request's own memory.
            maps, scores, p_values = (np.array(results[name]) for name in OUTPUTS)
        return _checked(maps, scores, p_values, pixels)


def _checked(maps: Floats, scores: Floats, p_values: Floats, pixels: Pixels) -> Outputs:
    """What a graph gave, if it is a detector's: a score that is no number would pass for "ok"."""
    if maps.shape != pixels.shape[:3] or scores.shape != pixels.shape[:1] or p_values.shape != scores.shape:
        raise BlemishError("the model's graph gives maps and scores of other shapes than its images: train it again")
    if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
        raise BlemishError("the model gives scores that are no finite numbers: copy the file or train it again")
    return maps, scores, p_values


def _run_fault(error: Exception, pixels: Pixels) -> str:
    return (
        f"the model's graph cannot be run on {'x'.join(map(str, pixels.shape))} pixels ({_reason(error)}): "
        "copy the file, train it again, or free some memory"
    )


def _reason(error: Exception) -> str:
    """The first line of a runtime's error without its code, as a part of a sentence."""
    lines = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).split("\n")
    return printable(lines[0].strip()[:200].rstrip(".")) or type(error).__name__


def _check_ends(session: onnxruntime.InferenceSession, size: tuple[int, int]) -> None:
    """Raises BlemishError where a graph takes or gives anything else than a detector of this network size."""
    found = {
        "input": {tensor.name: (tensor.type, tensor.shape) for tensor in session.get_inputs()},
        "output": {tensor.name: (tensor.type, tensor.shape) for tensor in session.get_outputs()},
    }
    wanted: dict[str, dict[str, tuple[str, list[int | None]]]] = {
        "input": {INPUT: ("tensor(uint8)", [None, *size, 3])},
        "output": {name: ("tensor(float)", [None, *size] if name == OUTPUTS[0] else [None]) for name in OUTPUTS},
    }
    for end, tensors in wanted.items():
        if found[end].keys() != tensors.keys():
            names = ", ".join(sorted(printable(str(name))[:40] for name in found[end])) or "none"
            raise BlemishError(f"its graph has the {end}s {names} and not {', '.join(tensors)}: train it again")
        for name, (kind, shape) in tensors.items():
            own_kind, own_shape = found[end][name]
            if own_kind != kind or not _fits(own_shape, shape):
                raise BlemishError(
                    f"its graph's {end} {name} is {own_kind} {own_shape} and not that of {size[0]} x {size[1]} pixels, "
                    f"{kind} {['n', *shape[1:]]}: copy the file or train it again"
                )


def _fits(found: Sequence[int | str | None], wanted: Sequence[int | None]) -> bool:
    """Whether the first side is free, and each of the others is as wanted or cannot be known beforehand."""
    if len(found) != len(wanted) or isinstance(found[0], int):
        return False
    return all(
        side == expected or not isinstance(side, int) for side, expected in zip(found[1:], wanted[1:], strict=True)
    )


def _session(model: bytes, *, threads: int | None, arena: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # faults are raised, and said in one sentence
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = arena
    if (threads := threads or in_one_operation()) is not None:
        options.intra_op_num_threads = threads
    # Threads that spin while they wait take the processor from those that decode the next images, and from other jobs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _open_openvino(model: bytes, precision: Precision, *, threads: int | None) -> _OpenVino:
    try:
        import openvino
    except ImportError as error:
        raise BlemishError('this model needs OpenVINO: pip install "blemish[openvino]"') from error
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        # OpenVINO would silently compute in f32, with other scores than the calibration's.
        raise BlemishError("this processor has no bfloat16 arithmetic: use the openvino export or the original model")
    # The precision is always named: left to itself, OpenVINO takes bfloat16 wherever the processor has it.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    settings["ENABLE_CPU_PINNING"] = False  # two jobs side by side would both sit on the first cores
    if (threads := threads or in_one_operation()) is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        return _OpenVino(core.compile_model(core.read_model(model), "CPU", settings))
    except _FAULTS as error:
        raise BlemishError(
            f"OpenVINO {openvino.__version__.split('-')[0]} cannot open its graph ({_reason(error)}): export it again"
        ) from error
