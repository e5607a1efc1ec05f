"""VGG11 with batch normalisation (Simonyan and Zisserman 2015), whole or cut before its fourth pool.

The ImageNet weights are torchvision's, `VGG11_BN_Weights.IMAGENET1K_V1`. They are not bundled: they come from a file
or, when the caller allows it, from torchvision's server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torchvision.models import VGG, VGG11_BN_Weights, vgg11_bn
from torchvision.models.vgg import make_layers

from blemish.errors import BlemishError
from blemish.experiments.networks.frozen import Frozen
from blemish.networks.weights import misfits, read_weights

FIRST_FOUR_BLOCKS: list[str | int] = [64, "M", 128, "M", 256, 256, "M", 512, 512]
FROZEN_LAYERS = 15  # up to the third pool


@dataclass(frozen=True)
class Pretraining:
    """Where ImageNet weights come from, and what batch normalisation does in frozen layers (see `Frozen`).

    Attributes:
        weights: a state dict saved by torch or as .safetensors.
        download: let them be fetched where `weights` is None.
        update_bn_stats: see `Frozen`.
    """

    weights: Path | None = None
    download: bool = False
    update_bn_stats: bool = False


def random_trunk() -> nn.Sequential:
    """The layers up to the fourth block's ReLU, with PyTorch's own random weights: (N, 3, H, W) to (N, 512, h, w)."""
    return make_layers(FIRST_FOUR_BLOCKS, batch_norm=True)


def pretrained_trunk(pretraining: Pretraining) -> nn.Sequential:
    """The same layers with ImageNet weights."""
    trunk = random_trunk()
    _load(trunk, _state(pretraining), prefix="features.")
    return trunk


def frozen_below(layers: nn.Sequential, *, update_bn_stats: bool) -> nn.Sequential:
    """Freezes everything up to the third pool; the rest stays trainable."""
    frozen = Frozen(*layers[:FROZEN_LAYERS], update_bn_stats=update_bn_stats)
    return nn.Sequential(frozen, *layers[FROZEN_LAYERS:])


def random_embedding() -> VGG:
    """The whole network but its last three modules, (N, 3, H, W) to (N, 4096), with torchvision's random weights."""
    return _without_class_scores(vgg11_bn())


def pretrained_embedding(pretraining: Pretraining) -> VGG:
    """The same network with ImageNet weights."""
    state = _state(pretraining)
    network = _without_class_scores(vgg11_bn(init_weights=False))
    _load(network, state)
    return network


def _without_class_scores(network: VGG) -> VGG:
    network.classifier = network.classifier[:-3]
    return network


def _state(pretraining: Pretraining) -> Mapping[str, Tensor]:
    if pretraining.weights is not None:
        return read_weights(pretraining.weights, advice="give torchvision's vgg11_bn file with --weights FILE")
    if not pretraining.download:
        raise BlemishError(
            "the ImageNet weights of VGG11 are not on this computer: give torchvision's vgg11_bn file with "
            "--weights FILE, let it be fetched with --download, or take the network lite0-f, whose weights are bundled"
        )
    try:
        return VGG11_BN_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no connection, or a file cut short
        raise BlemishError(
            f"the weights of VGG11 could not be fetched ({error}): give a file with --weights FILE"
        ) from error


def _load(module: nn.Module, state: Mapping[str, Tensor], *, prefix: str = "") -> None:
    # Torchvision's file is older than the batch counters, which are not needed; load_state_dict then sets them to 0.
    wanted = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("batches_tracked")}
    if faults := misfits(wanted, state, prefix=prefix):
        raise BlemishError(
            f"the weights do not fit VGG11 with batch normalisation ({faults[0]}): give torchvision's vgg11_bn file"
        )
    module.load_state_dict({name: state[prefix + name] for name in wanted})
