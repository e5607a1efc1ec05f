"""A model file that takes images of any size: Blemish's antialiased resize is part of the graph.

Pillow's bilinear filter is a triangle, as wide as the reduction, along each axis by itself: two matrix products, whose
matrices follow from the size of the input. Pillow rounds to whole grey levels after each of them, and so does the
graph. The order of the axes changes a pixel by one grey level at most, so the graph equals Pillow to one level. The
calibration stays valid.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.conversion.onnx_edit import onnx
from blemish.errors import BlemishError
from blemish.imaging.outputs import MODEL, check_overwriting
from blemish.io.files import atomic_write, check_output_file
from blemish.io.text import printable
from blemish.model.description import label
from blemish.model.detector import Detector
from blemish.model.metadata import ModelMetadata

RESIZED = "pixels at network size"
AXES = {"height": 1, "width": 2}  # of the input (n, h, w, 3)


@dataclass(frozen=True)
class AnySize:
    """A written model that takes images of any size.

    Attributes:
        file: where it is.
        size: network size (height, width), to which it resizes.
    """

    file: Path
    size: tuple[int, int]

    def as_json(self) -> dict[str, Any]:
        """As one flat object."""
        return {"file": str(self.file), "size": list(self.size), "any_size": True}


def export_any_size(model: Path, output: Path) -> AnySize:
    """Writes the model with its resize inside; calibration and everything else in the file stay as they are.

    Raises BlemishError where the model resizes itself already or runs in OpenVINO, the output is an input or has no
    name of a model file, or the file cannot be written.
    """
    check_overwriting(output, (model,), kind=MODEL)
    check_output_file(output)
    metadata = Detector.load(model, threads=1).metadata
    if metadata.any_size or metadata.runtime != "onnxruntime":
        raise BlemishError(f"{printable(model)} is an export itself: give the file that blemish train wrote")
    content = with_resize(model.read_bytes(), metadata)
    with atomic_write(output) as file:
        file.write(content)
    Detector.load(output, threads=1)
    return AnySize(output, metadata.size)


def with_resize(model: bytes, metadata: ModelMetadata) -> bytes:
    """The model with another input, uint8 (n, height, width, 3) of any height and width."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == "pixels":
                node.input[place] = RESIZED
    (pixels,) = (value for value in graph.input if value.name == "pixels")
    for name, axis in AXES.items():
        pixels.type.tensor_type.shape.dim[axis].dim_param = name
    resize = _Resize(metadata.size)
    nodes = [*resize.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(resize.constants)
    label(proto, replace(metadata, any_size=True))
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


class _Resize:
    """Nodes and constants that make `RESIZED` of pixels.

    Args:
        size: network size (height, width).
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._constant("zero", np.array(0, np.int64))
        self._constant("one", np.array(1, np.int64))
        self._constant("1.0", np.array(1, np.float64))
        self._constant("0.0", np.array(0, np.float64))
        self._constant("half a pixel", np.array(0.5, np.float64))
        self._constant("half a level", np.array(0.5, np.float32))
        self._constant("black", np.array(0, np.float32))
        self._constant("white", np.array(255, np.float32))
        self._constant("last axis", np.array([1], np.int64))
        shape = self._node("Shape", "pixels")
        down, across = (
            self._weights(shape, axis, name, side) for side, (name, axis) in zip(size, AXES.items(), strict=True)
        )
        levels = self._node("Cast", "pixels", to=onnx.TensorProto.FLOAT)
        channels = self._node("Transpose", levels, perm=[0, 3, 1, 2])  # (n, 3, h, w)
        narrow = self._rounded(self._node("MatMul", channels, self._node("Transpose", across)))  # (n, 3, h, W)
        small = self._rounded(self._node("MatMul", down, narrow))  # (n, 3, H, W)
        rows = self._node("Transpose", small, perm=[0, 2, 3, 1])
        self.nodes.append(onnx.helper.make_node("Cast", [rows], [RESIZED], to=onnx.TensorProto.UINT8))

    def _weights(self, shape: str, axis: int, name: str, side: int) -> str:
        """The share that each of s pixels along an axis has in each of `side` ones, float32 (side, s).

        In float64: float32 would lose places along an axis of many pixels.
        """
        self._constant(f"axis of {name}", np.array(axis, np.int64))
        self._constant(f"network {name}", np.array(side, np.float64))
        self._constant(f"centres along {name}", np.arange(side, dtype=np.float64)[:, None] + 0.5)
        count = self._node("Gather", shape, f"axis of {name}", axis=0)
        scale = self._node("Div", self._node("Cast", count, to=onnx.TensorProto.DOUBLE), f"network {name}")
        radius = self._node("Max", scale, "1.0")
        pixels = self._node("Cast", self._node("Range", "zero", count, "one"), to=onnx.TensorProto.DOUBLE)
        centres = self._node("Add", pixels, "half a pixel")  # (s,)
        distance = self._node("Abs", self._node("Sub", centres, self._node("Mul", f"centres along {name}", scale)))
        triangle = self._node("Max", self._node("Sub", "1.0", self._node("Div", distance, radius)), "0.0")  # (side, s)
        total = self._node("ReduceSum", triangle, "last axis", keepdims=1)
        return self._node("Cast", self._node("Div", triangle, total), to=onnx.TensorProto.FLOAT)

    def _rounded(self, name: str) -> str:
        levels = self._node("Floor", self._node("Add", name, "half a level"))
        return self._node("Clip", levels, "black", "white")

    def _node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node; constants are named by what they are."""
        known = {constant.name for constant in self.constants}
        names = [f"resize/{name}" if f"resize/{name}" in known else name for name in inputs]
        output = f"resize/{operator} {len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, value: np.ndarray) -> None:
        self.constants.append(onnx.numpy_helper.from_array(value, f"resize/{name}"))
