"""Receptive fields by arithmetic: which pixels each cell of a feature map sees, derived from the network itself.

Following the layers from the input (Dumoulin and Visin 2016; FCDD section 3), every convolution or pooling with
kernel k, stride t, dilation d and padding p turns the number of cells n, the distance j between cells in pixels,
the extent r and the first pixel of cell 0 into

    n' = floor((n + 2p - d(k-1) - 1) / t) + 1,   j' = j t,   r' = r + d(k-1) j,   first' = first - p j.

Where branches meet (residual sums, concatenations) a cell sees what either branch sees. Global gates, such as
squeeze-and-excitation, would make every field the whole image; they are left out, since they carry no position.
"""

import operator
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import fx, nn


@dataclass(frozen=True)
class AxisField:
    """The fields of the cells along one axis; cell i sees pixels first + i*stride ... first + i*stride + extent - 1.

    Attributes:
        cells: number of cells.
        stride: pixels from one cell to the next.
        extent: pixels seen by one cell.
        first: first pixel of cell 0; negative where padding reaches over the border.
    """

    cells: int
    stride: int = 1
    extent: int = 1
    first: int = 0

    @property
    def centre(self) -> float:
        """Pixel coordinate of the middle of cell 0's field; half an odd number where the extent is even."""
        return self.first + (self.extent - 1) / 2

    def through(self, window: "Window") -> "AxisField":
        """The fields after one convolution or pooling."""
        before, after = window.padding_for(self.cells)
        span = window.dilation * (window.kernel - 1)
        steps = (self.cells + before + after - span - 1) / window.stride
        return AxisField(
            cells=(ceil(steps) if window.ceil_mode else int(steps // 1)) + 1,
            stride=self.stride * window.stride,
            extent=self.extent + span * self.stride,
            first=self.first - before * self.stride,
        )

    def joined(self, other: "AxisField") -> "AxisField":
        """The fields of a sum or concatenation of two maps on the same grid."""
        first = min(self.first, other.first)
        last = max(self.first + self.extent, other.first + other.extent)
        return AxisField(cells=self.cells, stride=self.stride, extent=last - first, first=first)


@dataclass(frozen=True)
class Window:
    """A convolution or pooling along one axis; `padding` None is TensorFlow's SAME, which depends on the size."""

    kernel: int
    stride: int = 1
    padding: int | None = 0
    dilation: int = 1
    ceil_mode: bool = False

    def padding_for(self, cells: int) -> tuple[int, int]:
        """Padding before and after a row of this many cells."""
        if self.padding is not None:
            return self.padding, self.padding
        span = self.dilation * (self.kernel - 1)
        total = max((ceil(cells / self.stride) - 1) * self.stride + span + 1 - cells, 0)
        return total // 2, total - total // 2  # SAME puts the odd cell at the end


@dataclass(frozen=True)
class ReceptiveField:
    """The fields of a feature map's cells on both axes."""

    vertical: AxisField
    horizontal: AxisField

    def through(self, vertical: Window, horizontal: Window) -> "ReceptiveField":
        """The fields after one convolution or pooling."""
        return ReceptiveField(self.vertical.through(vertical), self.horizontal.through(horizontal))

    def joined(self, other: "ReceptiveField") -> "ReceptiveField":
        """The fields of a sum or concatenation of two maps on the same grid."""
        return ReceptiveField(self.vertical.joined(other.vertical), self.horizontal.joined(other.horizontal))

    def tiles(self) -> "ReceptiveField":
        """The same grid, each cell standing for the stride x stride pixels of its own tile.

        Training with padding on one side only, as TensorFlow's, moves the weight inside the field: the middle of a
        stride-8 field of EfficientNet-Lite0 is pixel 7 by arithmetic, and 3.5, its tile's middle, by gradients.
        """
        return ReceptiveField(*(AxisField(a.cells, a.stride, a.stride) for a in (self.vertical, self.horizontal)))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.vertical.cells, self.horizontal.cells


_SAME = (Conv2dSame, MaxPool2dSame, AvgPool2dSame)
_WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def receptive_fields(network: nn.Module, size: tuple[int, int]) -> list[ReceptiveField]:
    """The receptive field of every output of `network` for an input of `size` = (height, width).

    The network must be traceable by torch.fx, as timm's and torchvision's convolutional ones are; it is not run.
    """
    graph = _Tracer().trace(network)
    whole = ReceptiveField(AxisField(size[0]), AxisField(size[1]))
    fields: dict[fx.Node, ReceptiveField | None] = {}
    for node in graph.nodes:
        if node.op == "output":
            outputs = node.args[0] if isinstance(node.args[0], list | tuple) else [node.args[0]]
            return [field for output in outputs if (field := fields[output]) is not None]
        fields[node] = whole if node.op == "placeholder" else _after(node, network, fields)
    raise AssertionError("a traced graph ends in an output")


class _Tracer(fx.Tracer):
    """Keeps every layer without children whole, timm's SAME-padded ones included."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _WINDOWED) or not any(m.children())


def _after(node: fx.Node, network: nn.Module, fields: dict[fx.Node, ReceptiveField | None]) -> ReceptiveField | None:
    inputs = [field for source in node.all_input_nodes if (field := fields[source]) is not None]
    if not inputs or node.op == "get_attr" or (node.op == "call_method" and node.target == "mean"):
        return None
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            return None
        if isinstance(module, _WINDOWED):
            return inputs[0].through(*_windows(module))
    if node.target in (operator.add, operator.iadd, torch.add, torch.cat):
        joined = inputs[0]
        for other in inputs[1:]:
            joined = joined.joined(other)
        return joined
    return inputs[0]


def _windows(module: nn.Module) -> tuple[Window, Window]:
    def pair(value: Any) -> tuple[Any, Any]:
        return value if isinstance(value, tuple) else (value, value)

    kernels, strides = pair(module.kernel_size), pair(module.stride)
    dilations = pair(getattr(module, "dilation", 1))
    if isinstance(module, _SAME) or module.padding == "same":
        paddings: tuple[int | None, int | None] = (None, None)
    else:
        paddings = pair(0 if module.padding == "valid" else module.padding)
    ceil_mode = bool(getattr(module, "ceil_mode", False))
    vertical, horizontal = (
        Window(kernels[axis], strides[axis], paddings[axis], dilations[axis], ceil_mode) for axis in (0, 1)
    )
    return vertical, horizontal
