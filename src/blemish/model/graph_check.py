"""What the graph of a model file may be: checked before ONNX Runtime runs any of it.

A model file may come from anywhere. Its graph must be whole inside the file, must end, and must not ask for more memory
than a detector does. None of that needs the package `onnx`: the file is read field by field, and the sizes of all
tensors are what ONNX Runtime itself infers, in a session that computes nothing.
"""

import math
from collections.abc import Iterator

import onnxruntime

from blemish.errors import BlemishError
from blemish.model.protobuf import ProtobufError, bodies, field, fields, numbers, tag_of, text

INPUT = "pixels"
OUTPUTS = ("anomaly_map", "score", "p_value")
MAX_TENSOR = 4 << 30  # bytes for one image; a 4096 x 4096 detector's largest has a quarter of that
# A graph ends and gives the same answer every time, unless it holds one of these. None is of use to a detector.
_ENDLESS = ("Loop", "Scan", "SequenceMap")
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
REFUSED = frozenset({*_ENDLESS, *_RANDOM})
_DOMAINS = ("", "ai.onnx")  # ONNX's own operators
_BYTES = {"tensor(float)": 4, "tensor(double)": 8, "tensor(int64)": 8, "tensor(uint64)": 8, "tensor(int32)": 4}
_EXTERNAL = 1  # TensorProto.data_location
_DAMAGED = "not an ONNX model, or a damaged one; give a file that blemish train wrote"


class _Number:
    """Numbers of the fields that are read, as in onnx.proto."""

    MODEL_GRAPH = 7
    MODEL_METADATA = 14
    MODEL_FUNCTIONS = 25
    GRAPH_NODE = 1
    GRAPH_INITIALIZER = 5
    GRAPH_INPUT = 11
    GRAPH_OUTPUT = 12
    GRAPH_SPARSE_INITIALIZER = 15
    NODE_OUTPUT = 2
    NODE_OPERATOR = 4
    NODE_ATTRIBUTE = 5
    NODE_DOMAIN = 7
    ATTRIBUTE_TENSORS = (5, 10)
    ATTRIBUTE_GRAPHS = (6, 11)
    ATTRIBUTE_SPARSE_TENSORS = (22, 23)
    TENSOR_EXTERNAL_DATA = 13
    TENSOR_LOCATION = 14
    SPARSE_TENSOR_PARTS = (1, 2)
    VALUE_NAME = 1
    VALUE_TYPE = 2
    TYPE_TENSOR = 1
    TENSOR_SHAPE = 2
    SHAPE_SIDE = 1
    SIDE_NAME = 2


def metadata_of(model: bytes) -> dict[str, str]:
    """The metadata of an ONNX file, by key. Raises BlemishError where it is none, or a key occurs twice."""
    found: dict[str, str] = {}
    try:
        view = memoryview(model)
        if not any(True for _ in bodies(view, _Number.MODEL_GRAPH)):
            raise BlemishError(_DAMAGED)
        for entry in bodies(view, _Number.MODEL_METADATA):
            key = text(entry, 1)
            if key in found:
                raise BlemishError("its metadata are there twice: copy the file or train it again")
            found[key] = text(entry, 2)
    except ProtobufError as error:
        raise BlemishError(_DAMAGED) from error
    return found


def check_graph(model: bytes) -> None:
    """Raises BlemishError where a graph is no detector's: not all in the file, endless, at random, or too large."""
    try:
        view = memoryview(model)
        inner: list[str] = []
        outer: set[str] = set()
        if any(True for _ in bodies(view, _Number.MODEL_FUNCTIONS)):
            raise BlemishError("its graph has functions of its own, which no Blemish writes: train it again")
        for graph in bodies(view, _Number.MODEL_GRAPH):
            outer |= {text(value, _Number.VALUE_NAME) for value in bodies(graph, _Number.GRAPH_OUTPUT)}
            inner += _outputs_of_nodes(graph)
            _check_nodes(graph)
        free = list(_free_sides(view))
    except ProtobufError as error:
        raise BlemishError(_DAMAGED) from error
    except RecursionError as error:
        raise BlemishError("its graph is nested too deeply: copy the file or train it again") from error
    _check_sizes(model, [name for name in dict.fromkeys(inner) if name not in outer], free)


def _outputs_of_nodes(graph: memoryview) -> Iterator[str]:
    for node in bodies(graph, _Number.GRAPH_NODE):
        for name in bodies(node, _Number.NODE_OUTPUT):
            if name:
                yield bytes(name).decode(errors="replace")


def _check_nodes(graph: memoryview) -> None:
    """Looks at all nodes and constants of a graph and of the branches inside it."""
    for constant in bodies(graph, _Number.GRAPH_INITIALIZER):
        _check_inside(constant)
    for constant in bodies(graph, _Number.GRAPH_SPARSE_INITIALIZER):
        _check_inside_sparse(constant)
    for node in bodies(graph, _Number.GRAPH_NODE):
        operator, domain = text(node, _Number.NODE_OPERATOR), text(node, _Number.NODE_DOMAIN)
        if operator in REFUSED or domain not in _DOMAINS:
            name = f"{domain}.{operator}".lstrip(".")
            raise BlemishError(
                f"its graph holds the operator {ascii(name)[1:-1]}, which no Blemish writes: train it again"
            )
        for attribute in bodies(node, _Number.NODE_ATTRIBUTE):
            _check_attribute(attribute)


def _check_attribute(attribute: memoryview) -> None:
    for tag, _, start, end in fields(attribute):
        number, body = tag >> 3, attribute[start:end]
        if tag != tag_of(number):
            continue
        if number in _Number.ATTRIBUTE_TENSORS:
            _check_inside(body)
        elif number in _Number.ATTRIBUTE_SPARSE_TENSORS:
            _check_inside_sparse(body)
        elif number in _Number.ATTRIBUTE_GRAPHS:
            _check_nodes(body)


def _check_inside_sparse(tensor: memoryview) -> None:
    for number in _Number.SPARSE_TENSOR_PARTS:
        for part in bodies(tensor, number):
            _check_inside(part)


def _check_inside(tensor: memoryview) -> None:
    external = any(True for _ in bodies(tensor, _Number.TENSOR_EXTERNAL_DATA))
    if external or _EXTERNAL in numbers(tensor, _Number.TENSOR_LOCATION):
        raise BlemishError(
            "it keeps weights in another file, but a model is one file, so that its fingerprint covers all of it: "
            "save it with its weights inside, or train it again"
        )


def _free_sides(model: memoryview) -> Iterator[str]:
    """Names of the free sides of the graph's inputs, such as that of the batch."""
    for graph in bodies(model, _Number.MODEL_GRAPH):
        for value in bodies(graph, _Number.GRAPH_INPUT):
            for kind in bodies(value, _Number.VALUE_TYPE):
                for tensor in bodies(kind, _Number.TYPE_TENSOR):
                    for shape in bodies(tensor, _Number.TENSOR_SHAPE):
                        yield from (text(side, _Number.SIDE_NAME) for side in bodies(shape, _Number.SHAPE_SIDE))


def _check_sizes(model: bytes, names: list[str], free: list[str]) -> None:
    """Refuses a graph one of whose tensors is too large for one image, as far as sizes can be known beforehand.

    Every tensor is made an output of the graph: messages that occur twice are merged, so it is enough to append another
    graph which holds these outputs alone. ONNX Runtime then says what size each has.
    """
    outputs = b"".join(field(_Number.GRAPH_OUTPUT, field(_Number.VALUE_NAME, name.encode())) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_prepacking", "1")
    for name in filter(None, free):
        options.add_free_dimension_override_by_name(name, 1)
    session = onnxruntime.InferenceSession(
        model + field(_Number.MODEL_GRAPH, outputs), options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    for tensor in session.get_outputs():
        sides = [side for side in tensor.shape or () if isinstance(side, int)]
        size = _BYTES.get(tensor.type, 1) * math.prod(sides)
        if size > MAX_TENSOR:
            raise BlemishError(
                f"its graph asks for {size / 1e9:,.0f} GB for one image, above the limit of "
                f"{MAX_TENSOR / 1e9:.0f} GB: copy the file, or train it again at a smaller size"
            )
