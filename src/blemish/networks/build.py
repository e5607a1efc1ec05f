"""Builds a detector's network from its parts; no other module does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from blemish.errors import BlemishError
from blemish.networks.alignment import Alignment
from blemish.networks.defect_branch import DefectBranch
from blemish.networks.detector import SIGMA, DetectorNetwork, MinEnsemble
from blemish.networks.feature_pyramid import STRIDE, FeaturePyramid
from blemish.networks.head import Head
from blemish.networks.input_mask import InputMask
from blemish.networks.normal_model import NormalModel
from blemish.networks.upsampling import Resample, gaussian_upsampling
from blemish.plugins import METHODS

if TYPE_CHECKING:
    from blemish.training.config import TrainConfig


def build_normal_model(method: str, pyramid: FeaturePyramid, config: "TrainConfig") -> NormalModel:
    """The method's model, which has learned nothing yet.

    Args:
        method: a name in `blemish.plugins.METHODS`.
        pyramid: makes the maps.
        config: every option and constant of the training.

    Raises:
        BlemishError: there is no such method, or its entry is no normal model.
    """
    kind = METHODS.load(method)
    if not (isinstance(kind, type) and issubclass(kind, NormalModel)):
        raise BlemishError(f"the method {method!r} is no subclass of NormalModel: {METHODS[method]}")
    return kind(pyramid, config).eval()


def build_detector(
    pyramid: FeaturePyramid,
    normal_model: NormalModel,
    *,
    background: nn.Module | None = None,
    defect_branch: DefectBranch | None = None,
    input_mask: InputMask | None = None,
    alignment: Alignment | None = None,
    sigma: float = SIGMA,
) -> DetectorNetwork:
    """A detector of parts that are fitted before or after; they are shared, not copied.

    Args:
        pyramid: pixels to maps.
        normal_model: maps to distances.
        background: makes less of distances (N, h, w) beside the part, see `BackgroundWeight`.
        defect_branch: what labels add to the distances.
        input_mask: what the detector is blind to.
        alignment: brings parts to one direction first, and their maps back.
        sigma: standard deviation in pixels of the Gaussian that enlarges the map, where its stride is `STRIDE`; of a
            coarser map in proportion, so that neighbouring cells blend.
    """
    distance = nn.Sequential(normal_model, background or nn.Identity())
    head = Head(distance, *([] if defect_branch is None else [defect_branch]))
    return assemble(pyramid, head, input_mask=input_mask, alignment=alignment, sigma=sigma)


def assemble(
    pyramid: FeaturePyramid,
    head: nn.Module,
    *,
    input_mask: InputMask | None = None,
    alignment: Alignment | None = None,
    sigma: float = SIGMA,
) -> DetectorNetwork:
    """A detector of a pyramid and any head.

    Args:
        pyramid: pixels to maps.
        head: these maps to the anomaly map A >= 0 (N, h, w) on the grid of `pyramid.field`.
        input_mask, alignment, sigma: see `build_detector`.
    """
    upsample = map_upsampling(pyramid, sigma=sigma, halves=alignment is not None)
    return DetectorNetwork(pyramid, head, upsample, input_mask=input_mask, alignment=alignment).eval()


def map_upsampling(pyramid: FeaturePyramid, *, sigma: float, halves: bool = False) -> Resample:
    """What enlarges the anomaly map (N, h, w) of a pyramid's grid to network size.

    Args:
        pyramid: gives the grid and the size.
        sigma: see `build_detector`.
        halves: see `gaussian_upsampling`.
    """
    wider = max(1.0, pyramid.field.vertical.stride / STRIDE)
    return gaussian_upsampling(pyramid.field, size=pyramid.size, sigma=sigma * wider, halves=halves)


def build_ensemble(networks: Sequence[DetectorNetwork]) -> DetectorNetwork | MinEnsemble:
    """One network for all: itself where it is the only one, else the minimum of their maps."""
    return networks[0] if len(networks) == 1 else MinEnsemble(networks)
