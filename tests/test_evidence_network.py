"""The evidence network: its layers against torch's own, what it sees of the maps against loops over cells."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from blemish.networks.evidence import Dilated


@settings(max_examples=40, deadline=None)
@given(
    apart=st.integers(1, 4),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_a_dilated_convolution_learns_as_torchs_does(
    apart: int, rows: int, columns: int, channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    options = {"padding": 2 * apart, "dilation": apart, "groups": channels}
    plain = nn.Conv2d(channels, channels, 5, **options).double()
    ours = Dilated(channels, channels, 5, **options).double()
    ours.load_state_dict(plain.state_dict())
    cells, back = torch.randn(2, 3, channels, rows, columns, dtype=torch.float64)
    seen = [cells.clone().requires_grad_() for _ in range(2)]
    made = [layer(one) for layer, one in zip((ours, plain), seen, strict=True)]
    torch.testing.assert_close(*made)
    for one in made:
        one.backward(back)
    torch.testing.assert_close(seen[0].grad, seen[1].grad)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
    torch.testing.assert_close(ours.bias.grad, plain.bias.grad)
    torch.testing.assert_close(ours.eval()(cells), made[0].detach())
