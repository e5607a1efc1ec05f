"""What is decided from the data before anything is learned: printed by `blemish train --plan`, kept in the model file.

A plan is plain values, so that every decision can be read, compared and tested without a training.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import msgspec

from blemish.errors import BlemishError
from blemish.io.text import counted


@dataclass(frozen=True, kw_only=True)
class AlignmentPlan:
    """Whether parts are turned to one direction.

    Attributes:
        aligned: whether they are.
        reason: why, in words.
        figures: what was measured on the nominal images for it, by name; see `blemish.training.steps.alignment`.
    """

    aligned: bool
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """The split of the nominal images for one network, and its alignment.

    Attributes:
        fit: how many images the distances are fitted to.
        validation: how many of these nothing is trained on: they scale the defect branch, or show how far training is.
        calibration: how many calibrate.
        alignment: whether parts are turned to one direction.
    """

    fit: int
    validation: int
    calibration: int
    alignment: AlignmentPlan


@dataclass(frozen=True, kw_only=True)
class DetectorPlan:
    """Everything about a detector that is decided from the data and the configuration before anything is learned.

    Attributes:
        method: a name in `blemish.plugins.METHODS`.
        backbone: the feature extractor.
        size: network size (height, width) in pixels.
        pixel_aspect: how high a pixel at network size is over how wide, in the undistorted image.
        image_ratio: height over width of the nominal images; None where they are of several shapes.
        bits: depth of the values in 16-bit images; None where there is none.
        nominal: how many distinct nominal images there are.
        copies: how many more are identical to one of them, and left out.
        defects: how many labelled defects of each type are learned from.
        masks: how many of these have a mask.
        ignored_defects: how many labelled defects are left out, since the ignore mask covers all of each.
        groups: by what nominal images are grouped, into how many groups, and a digest; None where they are not.
        ignore_mask: "one mask for all images", "a mask for each image", or None.
        defect_branch: the anomalous images that the defect branch, or a trained method, learns from; empty where there
            are none.
        supervision: in one line, what the detector learns from.
        advice: what few images can promise and what helps, in a sentence; None where there are enough.
        networks: one plan; with cross-conformal calibration one for each fold.
    """

    method: str
    backbone: str
    size: tuple[int, int]
    pixel_aspect: float
    image_ratio: float | None
    bits: int | None
    nominal: int
    copies: int
    defects: Mapping[str, int]
    masks: int
    ignored_defects: int
    groups: Mapping[str, Any] | None
    ignore_mask: str | None
    defect_branch: tuple[str, ...]
    supervision: str
    advice: str | None
    networks: tuple[NetworkPlan, ...]

    @property
    def aligned(self) -> bool:
        """Whether any network turns parts to one direction."""
        return any(network.alignment.aligned for network in self.networks)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; `from_dict` reads it back."""
        values: dict[str, Any] = msgspec.to_builtins(asdict(self))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` wrote. Raises BlemishError for anything else."""
        try:
            return msgspec.convert(dict(values), cls)
        except msgspec.ValidationError as error:
            raise BlemishError(f"this is no plan of a detector: {error}") from error

    def as_text(self) -> str:
        """A line for each decision."""
        height, width = self.size
        ratio = self.image_ratio
        shape = "images of several shapes" if ratio is None else f"height / width of the images {ratio:.3g}"
        defects = ", ".join(f"{number:,} {kind}" for kind, number in self.defects.items()) or "none"
        rows = [
            ("method", f"{self.method} on {self.backbone}"),
            ("network size", f"{height} x {width} px (height x width); {shape}"),
            ("bit depth", "8 bits" if self.bits is None else f"16-bit images read as {self.bits} bits"),
            ("good images", f"{self.nominal:,} distinct" + (f", {self.copies:,} copies left out" * (self.copies > 0))),
            ("groups", None if self.groups is None else f"{self.groups['number']:,} by {self.groups['by']}"),
            ("labelled defects", defects + (f"; {counted(self.masks, 'mask')}" if self.defects else "")),
            ("ignored", self.ignore_mask),
            ("anomalies", " + ".join(self.defect_branch) or "none"),
            *(self._network_row(number) for number in range(len(self.networks))),
            ("supervision", self.supervision),
            ("few images", self.advice),
        ]
        return "\n".join(f"{name:<17} {words}" for name, words in rows if words is not None)

    def _network_row(self, number: int) -> tuple[str, str]:
        network = self.networks[number]
        alignment = network.alignment
        beside = f", {network.validation:,} of them to validate" if network.validation else ""
        figures = ", ".join(f"{name} {value:.3g}" for name, value in alignment.figures.items())
        turned = "aligned" if alignment.aligned else "not aligned"
        words = (
            f"{network.fit:,} images to fit to{beside}, {network.calibration:,} to calibrate with; {turned}: "
            f"{alignment.reason}" + (f" ({figures})" if figures else "")
        )
        return ("split" if len(self.networks) == 1 else f"fold {number + 1}"), words
