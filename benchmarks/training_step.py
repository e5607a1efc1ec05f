"""Milliseconds of one training step (forward, loss, backward, optimiser) of the paper's networks, as a Markdown table.

    python benchmarks/training_step.py [--threads 1] [--steps 3] [--compile] [NAME...]

"Elsewhere" is the reference implementation on one thread of another computer. "Reference" is its way of doing the step
redone on this one: float32, contiguous, an optimiser that goes through the parameters one by one, batch normalisation
in frozen layers by the batch, upsampling by transposed convolution. The ways after it are ours, each of them the one
before and something more. With "cached" the frozen layers' output is computed once and only the rest is timed: that is
the step where images are not augmented.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.experiments.networks.fcdd import build, field
from blemish.experiments.networks.lite0 import Lite0
from blemish.experiments.networks.vgg import random_trunk
from blemish.networks.losses import image_loss, pixel_loss, pseudo_huber
from blemish.networks.receptive_field import AxisField, ReceptiveField
from blemish.networks.upsampling import gaussian_upsampling


@dataclass(frozen=True)
class Case:
    """A network and its input; with `sigma`, the loss is that of masks on the upsampled map."""

    network: str
    batch: int
    channels: int
    size: int
    optimiser: Literal["sgd", "adam"]
    elsewhere: str
    sigma: float | None = None
    frozen: bool = False


@dataclass(frozen=True)
class Way:
    """How the step is done."""

    name: str
    fused: bool = True
    matrices: bool = True
    update_bn_stats: bool = False
    channels_last: bool = False
    bfloat16: bool = False
    cached: bool = False
    compiled: bool = False


CASES = (
    Case("cnn28-w", 128, 1, 28, "sgd", "620"),
    Case("cnn32-lw3k", 200, 3, 32, "adam", "2700"),
    Case("vgg11-nopt", 16, 3, 224, "adam", "5800"),
    Case("vgg11-f", 16, 3, 224, "sgd", "3000", sigma=12, frozen=True),
    Case("lite0-f", 16, 3, 224, "sgd", "", sigma=12, frozen=True),
)
UPSAMPLING = "upsampling"  # of 16 maps from 28 x 28 to 224 x 224, forward
UPSAMPLING_ELSEWHERE = "51 to 95"

REFERENCE = Way("reference", fused=False, matrices=False, update_bn_stats=True)
FLOAT32 = Way("float32")
CHANNELS_LAST = replace(FLOAT32, name="channels-last", channels_last=True)
BFLOAT16 = replace(CHANNELS_LAST, name="+ bfloat16", bfloat16=True)
CACHED = replace(BFLOAT16, name="+ cached", cached=True)
COMPILED = replace(BFLOAT16, name="+ compiled", compiled=True)
WAYS = (REFERENCE, FLOAT32, CHANNELS_LAST, BFLOAT16)


def main() -> None:
    names = [*(case.network for case in CASES), UPSAMPLING]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all of them if none is given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one that is not")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too, which takes minutes")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))} here: choose of {', '.join(names)}")
    torch.set_num_threads(options.threads)
    ways = (*WAYS, COMPILED, CACHED) if options.compile else (*WAYS, CACHED)
    print(f"| network | elsewhere | {' | '.join(way.name for way in ways)} | reference / best but cached |")
    print("|---|" + (len(ways) + 2) * "---:|")
    for case in CASES:
        if not options.names or case.network in options.names:
            times = {
                way: milliseconds(training_step(case, way), options.steps)
                for way in ways
                if case.frozen or not way.cached
            }
            print_row(f"{case.network}, batch {case.batch}", case.elsewhere, ways, times)
    if not options.names or UPSAMPLING in options.names:
        maps, axis = torch.rand(16, 28, 28), AxisField(28, stride=8, extent=62, first=-27)
        calls = {REFERENCE: transposed_convolution(axis, 224, 12.0), FLOAT32: matrices(axis, 224, 12.0)}
        times = {way: milliseconds(partial(call, maps), options.steps) for way, call in calls.items()}
        print_row("upsampling, batch 16", UPSAMPLING_ELSEWHERE, ways, times)


def print_row(name: str, elsewhere: str, ways: Sequence[Way], times: Mapping[Way, float]) -> None:
    cells = (f"{times[way]:.{0 if times[way] >= 10 else 2}f}" if way in times else "" for way in ways)
    best = min(taken for way, taken in times.items() if way != REFERENCE and not way.cached)
    print(f"| {name} | {elsewhere} | {' | '.join(cells)} | {times[REFERENCE] / best:.1f} |", flush=True)


def milliseconds(call: Callable[[], object], steps: int) -> float:
    # The processor's time of one thread is the same however busy the computer is; of several it is their sum.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    call()
    times = []
    for _ in range(steps):
        started = clock()
        call()
        times.append(1000 * (clock() - started))
    return statistics.median(times)


def training_step(case: Case, way: Way) -> Callable[[], None]:
    torch.manual_seed(0)
    network = network_of(case, way).train()
    upsampling = matrices if way.matrices else transposed_convolution
    axis = field(network, (case.size, case.size)).vertical
    upsample = upsampling(axis, case.size, case.sigma) if case.sigma else None
    inputs = torch.rand(case.batch, case.channels, case.size, case.size)
    anomalous = torch.arange(case.batch) % 2 == 0
    masks = anomalous[:, None, None].expand(-1, case.size, case.size)
    if way.channels_last:
        network = network.to(memory_format=torch.channels_last)
        inputs = inputs.to(memory_format=torch.channels_last)
    if way.cached:
        frozen, network = cut(network)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=way.bfloat16):
            inputs = frozen(inputs)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = optimiser_of(case, trained, fused=way.fused)
    forward = torch.compile(network) if way.compiled else network

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=way.bfloat16):
            phi = forward(inputs)
        maps = pseudo_huber(phi[:, 0].float())
        loss = pixel_loss(upsample(maps), masks) if upsample else image_loss(maps, anomalous)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def network_of(case: Case, way: Way) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        weights = None
        if case.network == "vgg11-f":  # timing needs no pretrained weights, but the network wants a file of them
            weights = Path(folder) / "vgg11.pt"
            torch.save({f"features.{name}": value for name, value in random_trunk().state_dict().items()}, weights)
        return build(case.network, weights=weights, update_bn_stats=way.update_bn_stats)


def cut(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A network's frozen layers, and those after them."""
    if isinstance(network, Lite0):
        return network.features, network.head
    trunk, phi = network.children()
    frozen, *trained = trunk.children()
    return frozen, nn.Sequential(*trained, phi)


def optimiser_of(case: Case, parameters: list[nn.Parameter], *, fused: bool) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-6, "fused": fused, "foreach": False}
    if case.optimiser == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **common)
    return torch.optim.Adam(parameters, **common)


def matrices(axis: AxisField, size: int, sigma: float) -> Callable[[Tensor], Tensor]:
    """The paper's upsampling of maps (N, u, u) to (N, size, size), as the package does it."""
    return gaussian_upsampling(ReceptiveField(axis, axis), size=(size, size), sigma=sigma, normalised=False)


def transposed_convolution(axis: AxisField, size: int, sigma: float) -> Callable[[Tensor], Tensor]:
    """The same, to rounding, as the reference does it."""
    even = axis.extent % 2 == 0
    offsets = (torch.arange(axis.extent) - (axis.extent - 1) / 2).abs() - 0.5 * even
    line = torch.exp(-0.5 * (offsets / sigma) ** 2) * (0.5 if even else 1.0)
    kernel = torch.outer(line, line)[None, None]
    inside = slice(-axis.first, size - axis.first)
    return lambda maps: F.conv_transpose2d(maps[:, None], kernel, stride=axis.stride)[:, 0, inside, inside]


if __name__ == "__main__":
    main()
