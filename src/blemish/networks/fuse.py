"""Batch normalisation fused into the convolutions before it: the same numbers by half the work.

A frozen network's statistics do not change any more, so that each is one factor and one summand a channel.
"""

from collections import Counter
from copy import deepcopy
from typing import TypeVar

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def fused(network: Network) -> Network:
    """A copy that computes what the network does in evaluation mode, up to rounding.

    Normalisation that follows no convolution stays as it is, as does one behind a convolution that has other uses.

    Args:
        network: traceable by torch.fx, as timm's convolutional ones are.
    """
    network = deepcopy(network).eval()
    nodes = _Tracer().trace(network).nodes
    calls = Counter(node.target for node in nodes)
    for node in nodes:
        before = node.all_input_nodes[0] if node.op == "call_module" else None
        if before is None or before.op != "call_module" or len(before.users) > 1 or calls[before.target] > 1:
            continue
        convolution, norm = (network.get_submodule(str(one.target)) for one in (before, node))
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            network.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            # timm's normalisation has the activation in it.
            network.set_submodule(str(node.target), nn.Sequential(*norm.children()))
    return network


class _Tracer(fx.Tracer):
    """Keeps convolutions and normalisations whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)
