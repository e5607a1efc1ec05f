"""Vision transformers of timm as feature extractors: ViT, DeiT, DINOv2, DINOv3 and their kin.

None of their weights is bundled; timm's configuration of a name says what licence they have.
"""

import sys
from collections.abc import Mapping
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, Self, cast

import timm
import torch
from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.io.text import printable
from blemish.networks.extractor import STRIDES, FeatureExtractor, Size
from blemish.networks.receptive_field import AxisField, ReceptiveField
from blemish.networks.timm_weights import check_obtainable, normalisation_of
from blemish.networks.weights import misfits, read_weights

MAPS = 3  # blocks whose outputs are maps: the last, and those that divide the depth evenly
_MODULES = ("timm.models.vision_transformer", "timm.models.deit", "timm.models.eva")


class TimmViT(FeatureExtractor):
    """The patch tokens after several blocks of a vision transformer, each set as a map on the grid of patches.

    Class and register tokens are dropped, and each map passes through the final normalisation, so that the maps have
    one scale. Every cell sees the whole image; what it stands for is its patch.

    Args:
        name: a timm model name, such as "vit_small_patch14_dinov2".
        strides: has no effect, there is one stride, the side of a patch.
        weights: a local weights file in timm's format or the authors'; position embeddings of another size are
            resampled.
        download: let timm fetch the weights from its hub. Ignored when `weights` is given.
        pretrained: False leaves the weights random.

    Raises:
        BlemishError: weights that cannot be had or do not fit, or patches that are not square.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        *,
        strides: tuple[int, ...] = STRIDES,
        weights: str | Path | None = None,
        download: bool = False,
        pretrained: bool = True,
    ) -> None:
        super().__init__(name)
        self.name = name
        if pretrained:
            check_obtainable(name, weights=weights, download=download)
        transformer = cast(Any, timm.create_model(name, num_classes=0, pretrained=pretrained and weights is None))
        if pretrained and weights is not None:
            _load_file(transformer, Path(weights), name)
        rows, columns = transformer.patch_embed.patch_size
        if rows != columns:
            raise BlemishError(f"{name} has patches of {rows} x {columns} pixels: choose a backbone with square ones")
        self.backbone = PatchTokens(transformer)
        self.multiple: int = rows
        self.strides = (rows,) * MAPS
        self.channels = (int(transformer.embed_dim),) * MAPS
        self.size: Size = transformer.patch_embed.img_size
        normalisation = normalisation_of(name)
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def handles(cls, name: str) -> bool:
        """Whether timm has a plain vision transformer of that name."""
        return timm.is_model(name) and timm.model_entrypoint(name).__module__ in _MODULES

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps (N, C, h, w), the shallowest first, of float pixels (N, 3, H, W) in 0..255."""
        height, width = map(int, pixels.shape[2:])
        if (height, width) != self.size:
            return self.prepared((height, width))(pixels)
        tokens = self.backbone((pixels - self.mean) / self.std)
        grid = height // self.multiple, width // self.multiple
        return [one.transpose(1, 2).reshape(-1, one.shape[2], *grid) for one in tokens]  # of (N, h * w, C)

    def fields(self, size: Size) -> list[ReceptiveField]:
        """The patches."""
        axes = (AxisField(side // self.multiple, stride=self.multiple, extent=self.multiple) for side in size)
        return [ReceptiveField(*axes)] * MAPS

    def prepared(self, size: Size) -> Self:
        """The same with its position embeddings resampled to the grid of that size."""
        if size == self.size:
            return self
        other = copy(self)
        backbone = deepcopy(self.backbone)
        backbone.transformer.set_input_size(img_size=size)
        other._modules = self._modules | {"backbone": backbone}
        other.size = size
        return other


class PatchTokens(nn.Module):
    """The normalised tokens of patches after several blocks of a transformer.

    A module of its own, so that a graph's nodes are named by it, and an export finds the backbone's.

    Args:
        transformer: timm's.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        depth = len(transformer.blocks)
        self.blocks = [depth * (place + 1) // MAPS - 1 for place in range(MAPS)]
        transformer.prune_intermediate_layers(self.blocks)
        self.transformer = transformer

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Tokens (N, h * w, C) of each block of normalised images (N, 3, H, W)."""
        tokens: list[Tensor] = self.transformer.forward_intermediates(
            inputs, indices=self.blocks, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return tokens


def _load_file(backbone: nn.Module, path: Path, name: str) -> None:
    """Loads weights in any format that timm knows of that network's family."""
    state, wanted = read_weights(path), backbone.state_dict()
    family: Any = sys.modules[timm.model_entrypoint(name).__module__]
    advice = f"give weights of {name}, or name their backbone with --backbone"
    try:
        fitted: Mapping[str, Tensor] = family.checkpoint_filter_fn(dict(state), backbone)
    except Exception as error:  # what timm raises depends on what the file holds instead
        raise BlemishError(f"{printable(path)} does not fit the backbone {name}: {advice}") from error
    if faults := misfits(wanted, fitted):
        raise BlemishError(f"{printable(path)} does not fit the backbone {name} ({faults[0]}): {advice}")
    backbone.load_state_dict({key: fitted[key] for key in wanted})
