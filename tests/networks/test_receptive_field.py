"""Receptive fields against the paper's table, against gradients, and on rectangles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from blemish.networks.receptive_field import AxisField, ReceptiveField, Window, receptive_fields
from blemish.networks.timm_cnn import TimmCNN


def conv(kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Module:
    return nn.Conv2d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation)


def vgg11_to_fourth_block() -> nn.Module:
    convs = [conv(3, padding=1) for _ in range(6)]
    pools = [nn.MaxPool2d(2) for _ in range(3)]
    c1, c2, c3, c4, c5, c6 = convs
    return nn.Sequential(c1, pools[0], c2, pools[1], c3, c4, pools[2], c5, c6, conv(1))


# The paper's networks: n, j, r, s as tabulated for the reference implementation.
PAPER = {
    "CNN28": (
        nn.Sequential(conv(5, padding=2), nn.MaxPool2d(2), conv(5, padding=2), nn.MaxPool2d(2), conv(1)),
        28,
        (7, 4, 16, 1.5),
    ),
    "CNN32_LW3K": (
        nn.Sequential(
            *(conv(3, padding=1), nn.MaxPool2d(2), conv(3, padding=1), conv(3, padding=1)),
            *(nn.MaxPool2d(2), conv(3, padding=1), conv(1)),
        ),
        32,
        (8, 4, 22, 1.5),
    ),
    "VGG": (vgg11_to_fourth_block(), 224, (28, 8, 62, 3.5)),
    "CNN224": (
        nn.Sequential(
            *(conv(5, padding=2), nn.MaxPool2d(3, 2, 1), conv(5, padding=2), nn.MaxPool2d(3, 2, 1)),
            *(conv(3, padding=1), conv(3, padding=1), nn.MaxPool2d(3, 2, 1), conv(3, padding=1), conv(1)),
        ),
        224,
        (28, 8, 59, 0.0),
    ),
}


@pytest.mark.parametrize(("network", "side", "expected"), PAPER.values(), ids=PAPER.keys())
def test_the_papers_networks(network: nn.Module, side: int, expected: tuple[int, int, int, float]) -> None:
    (field,) = receptive_fields(network, (side, side))
    axis = field.vertical
    assert (axis.cells, axis.stride, axis.extent, axis.centre) == expected
    assert field.horizontal == axis


@settings(max_examples=40, deadline=None)
@given(
    windows=st.lists(
        st.builds(
            Window,
            kernel=st.integers(1, 5),
            stride=st.integers(1, 2),
            padding=st.integers(0, 2),
            dilation=st.integers(1, 2),
        ),
        min_size=1,
        max_size=4,
    ),
    size=st.tuples(st.integers(121, 140), st.integers(121, 140)),  # four of the largest windows leave one cell of 121
)
def test_fields_are_where_gradients_are(windows: list[Window], size: tuple[int, int]) -> None:
    network = nn.Sequential(
        *(conv(w.kernel, stride=w.stride, padding=w.padding or 0, dilation=w.dilation) for w in windows)
    )
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    pixels = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
    output = network.double()(pixels)[0, 0]
    if min(output.shape) == 0:
        return
    (field,) = receptive_fields(network, size)
    assert field.grid == tuple(output.shape)
    row, column = output.shape[0] // 2, output.shape[1] // 2
    (gradient,) = torch.autograd.grad(output[row, column], pixels)
    seen = gradient[0, 0] != 0
    if not seen.any():
        return
    for axis, cell, length, dimension in (
        (field.vertical, row, size[0], 1),
        (field.horizontal, column, size[1], 0),
    ):
        pixels_seen = torch.nonzero(seen.any(dimension))[:, 0]
        first = axis.first + cell * axis.stride
        span = sum(w.dilation * (w.kernel - 1) for w in windows)
        holes = any(w.dilation > 1 or w.stride > w.kernel for w in windows) or span == 0
        assert pixels_seen.min() >= max(first, 0)
        assert pixels_seen.max() <= min(first + axis.extent - 1, length - 1)
        if not holes:
            assert pixels_seen.min() == max(first, 0)
            assert pixels_seen.max() == min(first + axis.extent - 1, length - 1)


@pytest.mark.parametrize("size", [(256, 256), (250, 199), (64, 320)])
def test_a_real_backbone_has_the_grids_it_says(size: tuple[int, int]) -> None:
    backbone = TimmCNN(strides=(4, 8, 16), pretrained=False).eval()
    fields = receptive_fields(backbone.backbone, size)
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, *size))
    assert [field.grid for field in fields] == [tuple(m.shape[-2:]) for m in maps]
    assert [field.vertical.stride for field in fields] == [4, 8, 16]


def test_residual_branches_are_joined() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = conv(5, padding=2), conv(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.wide(x) + self.narrow(x)

    (field,) = receptive_fields(Residual(), (9, 9))
    assert field.vertical == AxisField(cells=9, stride=1, extent=5, first=-2)


def test_tiles_cover_the_image_without_overlap() -> None:
    field = ReceptiveField(AxisField(32, 8, 67, -26), AxisField(16, 16, 339, -154)).tiles()
    assert (field.vertical.centre, field.horizontal.centre) == (3.5, 7.5)
