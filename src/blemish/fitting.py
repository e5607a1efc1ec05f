"""Fitting closed forms to good images and to copies of them.

The ranks share the images: each shows its own to statistics that are then added up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from torch import Tensor

from blemish import copies
from blemish.align import Upright
from blemish.closed_form import CrossFit, fit_in_one
from blemish.datasets.pixels import Pixels
from blemish.extraction import Extraction, See
from blemish.networks.features import FeatureGrid
from blemish.networks.focus import Focus, small_cells
from blemish.networks.gaussian import GaussianHead, SecondOpinion, View
from blemish.networks.wide_cells import WideCells
from blemish.refinement import Training, coverage
from blemish.synthetic.turned import Freedom

Copies = Iterator[Iterator[Tensor]]  # rounds of batches of features (n, C, h, w)


@dataclass(frozen=True)
class Fitting:
    """What closed forms of one network have in common.

    Attributes:
        pixels: all training images, upright where parts are turned.
        features: makes the grid.
        wide: its cells, where images differ as wholes.
        extraction: how images are looked at.
        freedom: how copies may be turned.
        upright: how parts were turned upright, where they were.
        training: seed, device and progress.
    """

    pixels: Pixels
    features: FeatureGrid
    wide: WideCells | None
    extraction: Extraction
    freedom: Freedom
    upright: Upright | None
    training: Training

    @property
    def ignored(self) -> npt.NDArray[np.bool_] | None:
        """Where images do not count: (H, W)."""
        interest = self.extraction.interest
        return None if interest is None else interest.ignored.cpu().numpy()

    def cells(self, pixels: Tensor) -> Tensor:
        """What the closed form sees: vectors (N, C, h, w) of uint8 pixels (N, H, W, 3)."""
        return self.features(pixels) if self.wide is None else self.wide(*self.features.with_maps(pixels))

    def cross_fit(self, fit: Sequence[int]) -> CrossFit:
        """The closed form of the images `fit`."""
        seen = self.features if self.wide is None else self.wide
        cross_fit = CrossFit(self._head(seen.views, seen.grid), ranks=self.training.ranks)
        cross_fit.fit(
            self._originals(fit, self.cells, told="features"),
            copies=self._copies(fit, self.cells, images=len(fit)),
            first=self.training.ranks.share(len(fit)).start,
        )
        return cross_fit

    def focus(self, fit: Sequence[int]) -> Focus:
        """Small cells of the images `fit`, which say where they deviate."""
        head = self._head([small_cells(self.features.channels)], self.features.grid)
        fit_in_one(
            head,
            self._originals(fit, self.features, told="small cells"),
            copies=self._copies(fit, self.features, images=len(fit)),
            ranks=self.training.ranks,
        )
        return Focus(head)

    def second_opinion(self, cross_fit: CrossFit, held_back: Sequence[int], *, farthest: float) -> SecondOpinion:
        """A closed form that also knows the images held back, but for those farther out than `farthest`."""
        return cross_fit.second_opinion(
            self._originals(held_back, self.cells, told="held back"),
            copies=self._copies(held_back, self.cells, images=cross_fit.images, told="copies held back"),
            farthest=farthest,
        )

    def _head(self, views: Sequence[View], grid: tuple[int, int]) -> GaussianHead:
        part = None if self.upright is None else coverage(self.upright.part, grid) > 0.5
        return GaussianHead(views, grid=grid, part=part).to(self.training.fabric.device)

    def _originals(self, chosen: Sequence[int], see: See, *, told: str) -> Iterator[Tensor]:
        """Features of this rank's share of the images chosen."""
        own = chosen[self.training.ranks.share(len(chosen))]
        progress = partial(self.training.progress, told)
        return copies.in_batches(self.pixels.images, own, self.extraction.alone(see), progress)

    def _copies(self, chosen: Sequence[int], see: See, *, images: int, told: str = "copies") -> Copies:
        """Features of altered copies of the same, as many turned ones as make so few images fitted to up to enough."""
        extract, share = self.extraction.alone(see), self.training.ranks.share(len(chosen))
        seed, progress = self.training.seed, partial(self.training.progress, told)
        yield from copies.turned_copies(
            self.pixels.images,
            chosen,
            extract=extract,
            freedom=self.freedom,
            share=share,
            rounds=copies.rounds_of_turned(images, freedom=self.freedom, upright=self.upright is not None),
            seed=seed,
            progress=progress,
            ignored=self.ignored,
        )
        if self.wide is not None:
            yield copies.exposed_copies(
                self.pixels.images, chosen, extract=extract, share=share, seed=seed, progress=progress
            )
