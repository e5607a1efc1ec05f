"""Writing the one model file: the torch module as ONNX, with the metadata inside."""

import copy
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from blemish.io.files import atomic_write
from blemish.model.description import label
from blemish.model.metadata import ModelMetadata
from blemish.networks.detector import CalibratedNetwork, MapNetwork

OPSET = 17
LARGE_TENSOR = 2**14  # numbers


def export_onnx(network: MapNetwork, metadata: ModelMetadata, path: Path) -> None:
    """Writes the network with its calibration as an ONNX file of one input and three outputs.

    Input `pixels` uint8 (N, H, W, 3) at network size, N free; outputs `anomaly_map` float32 (N, H, W), `score`
    float32 (N,) and `p_value` float32 (N,). Raises BlemishError when the file cannot be written.
    """
    graph = onnx.load_model_from_string(to_onnx(CalibratedNetwork(network, metadata.calibration.scores), network.size))
    label(graph, metadata)
    with atomic_write(path) as file:
        file.write(graph.SerializeToString(deterministic=True))


def to_onnx(module: CalibratedNetwork, size: tuple[int, int]) -> bytes:
    """The module as the bytes of an ONNX model without metadata, on whatever device it is."""
    pixels = torch.zeros(2, *size, 3, dtype=torch.uint8)
    buffer = io.BytesIO()
    with _quiet_exporter():
        torch.onnx.export(
            with_fixed_padding(module.cpu().eval(), pixels),
            (pixels,),
            buffer,  # type: ignore[arg-type]  # the signature names paths only; the exporter takes files too
            input_names=["pixels"],
            output_names=["anomaly_map", "score", "p_value"],
            dynamic_axes={name: {0: "n"} for name in ("pixels", "anomaly_map", "score", "p_value")},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_model_from_string(buffer.getvalue())
    return with_halves(without_aliases(graph)).SerializeToString(deterministic=True)


def without_aliases(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, in place, whose nodes take each constant by its own name.

    The exporter writes equal tensors once and gives them to others by `Identity`. ONNX Runtime (1.32) refuses such a
    graph where it fuses a division with a product by one of these: it drops the `Identity` and keeps its name.
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    aliases: dict[str, str] = {}
    for node in graph.graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            aliases[node.output[0]] = node.input[0]
    nodes = [node for node in graph.graph.node if node.output[0] not in aliases]
    for node in nodes:
        node.input[:] = [aliases.get(name, name) for name in node.input]
    return _with_nodes(graph, nodes)


def with_halves(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, in place, with large tensors of half-precision numbers stored as such.

    The exporter writes out what is cast to single precision; a runtime casts it when it loads the file. Weights of
    convolutions stay as they are: the quantiser wants constants.
    """
    weights = {name for node in graph.graph.node if node.op_type == "Conv" for name in node.input}
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.name in weights or (halves := _as_halves(tensor)) is None:
            continue
        name, stored = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(onnx.numpy_helper.from_array(halves, stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT))
    return _with_nodes(graph, [*casts, *graph.graph.node])


def _as_halves(tensor: onnx.TensorProto) -> npt.NDArray[np.float16] | None:
    """The values of a large tensor in half precision; None where that would change one of them."""
    if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) < LARGE_TENSOR:
        return None
    values = onnx.numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    return halves if (halves == values).all() else None


def _with_nodes(graph: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """The graph, in place, with these nodes instead of its own."""
    kept = list(nodes)
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    return graph


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keeps off what torch's tracer and exporter say of this graph; filters and log levels are then as before.

    The tracer warns of shapes that it keeps fixed; only the batch is free here, and a test runs it at several sizes.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def with_fixed_padding(module: nn.Module, example: Tensor) -> nn.Module:
    """A copy in which convolutions of padding "same" pad by plain numbers.

    They work their padding out from the size of their input, which a graph does anew for every image; known numbers
    are merged into the convolution when it is loaded.
    """
    module = copy.deepcopy(module)
    sizes: dict[str, torch.Size] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        sizes[name] = inputs[0].shape[-2:]

    same = {name: part for name, part in module.named_modules() if isinstance(part, Conv2dSame)}
    hooks = [part.register_forward_pre_hook(partial(note, name)) for name, part in same.items()]
    with torch.no_grad():
        module(example)
    for hook in hooks:
        hook.remove()
    for name, part in same.items():
        module.set_submodule(name, nn.Sequential(nn.ZeroPad2d(_padding(part, sizes[name])), _unpadded(part)))
    return module


def _padding(convolution: Conv2dSame, size: torch.Size) -> tuple[int, int, int, int]:
    """TensorFlow's "same": cells of zeros to the left, right, above and below; the odd one goes to the end."""
    ends: list[int] = []
    for axis in (1, 0):
        kernel, stride, dilation = (
            values[axis] for values in (convolution.kernel_size, convolution.stride, convolution.dilation)
        )
        total = max((-(-size[axis] // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size[axis], 0)
        ends += [total // 2, total - total // 2]
    left, right, top, bottom = ends
    return left, right, top, bottom


def _unpadded(convolution: Conv2dSame) -> nn.Conv2d:
    plain = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]  # pairs, as the constructor made them
        stride=convolution.stride,  # type: ignore[arg-type]
        dilation=convolution.dilation,  # type: ignore[arg-type]
        groups=convolution.groups,
        bias=convolution.bias is not None,
    )
    plain.load_state_dict(convolution.state_dict())
    return plain
