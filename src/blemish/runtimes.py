"""Opening a model file's graph in the runtime it was made for: ONNX Runtime, or OpenVINO where that is installed.

Every model file is an ONNX model with Blemish's metadata inside. An OpenVINO export is the same graph: OpenVINO reads
ONNX itself, so nothing is converted, and the metadata say which runtime its calibration belongs to.
"""

from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from blemish.errors import BlemishError
from blemish.files import printable, read_fault
from blemish.model_file import METADATA_KEY, ModelMetadata, Precision, Runtime

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Outputs = tuple[Floats, Floats, Floats]

_OUTPUTS = ("anomaly_map", "score", "p_value")


class Graph(Protocol):
    """A detector's graph, ready to run; calls from several threads are safe."""

    def run(self, pixels: Pixels) -> Outputs:
        """Maps (N, H, W), scores (N,) and p-values (N,) of uint8 pixels (N, H, W, 3) at network size."""


def open_model(path: Path, *, threads: int | None, arena: bool) -> tuple[Graph, ModelMetadata]:
    """Opens a model file; see `Detector.load` for the arguments. Raises BlemishError, naming the file."""
    try:
        model = path.read_bytes()
    except OSError as error:
        raise BlemishError(f"{printable(path)}: {read_fault(error)}") from error
    try:
        session = _session(model, threads=threads, arena=arena)
    except (failures.InvalidProtobuf, failures.InvalidGraph, failures.Fail, failures.InvalidArgument) as error:
        raise BlemishError(
            f"{printable(path)}: not an ONNX model, or a damaged one; give a file that blemish train wrote"
        ) from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise BlemishError(
            f"{printable(path)}: an ONNX model, but not one that blemish train wrote; give one that it did"
        )
    try:
        metadata = ModelMetadata.from_json(text)
        if metadata.runtime == "onnxruntime":
            return _OnnxRuntime(session), metadata
        del session  # has done its part, and would hold the weights a second time
        return _open_openvino(model, metadata.precision, threads=threads), metadata
    except BlemishError as error:
        raise BlemishError(f"{printable(path)}: {error}") from error


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
        maps, scores, p_values = self._session.run(_OUTPUTS, {"pixels": pixels})
        return maps, scores, p_values


class _OpenVino:
    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._lock = Lock()  # a request is for one caller at a time

    def run(self, pixels: Pixels) -> Outputs:
        with self._lock:
            results = self._request.infer({"pixels": pixels}, share_inputs=True)
            # Copies: the next call writes over the request's own memory.
            maps, scores, p_values = (np.array(results[name]) for name in _OUTPUTS)
        return maps, scores, p_values


def _session(model: bytes, *, threads: int | None, arena: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = arena
    if threads is not None:
        options.intra_op_num_threads = threads
    # Threads that spin while they wait take the processor from those that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


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
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    return _OpenVino(core.compile_model(core.read_model(model), "CPU", settings))
