"""From raw images to network input: the paper's augmentation and normalisation, image and mask together."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from blemish.errors import BlemishError
from blemish.experiments.data.tasks import Images
from blemish.experiments.recipe import Augmentation, Mode, Recipe

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Normalisation:
    """(x - shift) / scale a channel, after local contrast normalisation where `lcn` is set.

    Attributes:
        shift: float (C, 1, 1).
        scale: float (C, 1, 1).
    """

    lcn: bool
    shift: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, recipe: Recipe, nominal: Images) -> Self:
        """The constants of a recipe, computed from the un-augmented nominal training images."""
        if recipe.normalisation == "imagenet":
            return cls(False, torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None])
        lcn = recipe.normalisation == "lcn"
        least, most, sums, squares, pixels = [], [], [], [], 0
        for index in range(len(nominal)):
            image = as_float(nominal.read(index)).double()
            image = local_contrast(image) if lcn else image
            least.append(image.amin((1, 2)))
            most.append(image.amax((1, 2)))
            sums.append(image.sum((1, 2)))
            squares.append(image.square().sum((1, 2)))
            pixels += image[0].numel()
        if lcn:
            shift, end = torch.stack(least).amin(0), torch.stack(most).amax(0)
            scale = end - shift
        else:
            shift = torch.stack(sums).sum(0) / pixels
            scale = (torch.stack(squares).sum(0) / pixels - shift**2).sqrt()
        return cls(lcn, shift[:, None, None].float(), scale.clamp(min=1e-6)[:, None, None].float())

    @classmethod
    def none(cls) -> Self:
        """Leaves images as they are."""
        return cls(False, torch.zeros(1, 1, 1), torch.ones(1, 1, 1))

    def __call__(self, image: Tensor) -> Tensor:
        """Float (C, H, W), range 0..1, normalised."""
        return ((local_contrast(image) if self.lcn else image) - self.shift) / self.scale


def as_float(image: Tensor) -> Tensor:
    """Uint8 (C, H, W) as float32 in 0..1."""
    return image.float() / 255


def local_contrast(image: Tensor) -> Tensor:
    """The image less its mean, divided by the mean of its absolute values (L1); a flat image becomes zero.

    Takes one image (C, H, W) or several (N, C, H, W), each of which is treated alone.
    """
    if image.ndim == 3:
        centred = image - image.mean()
        return centred / centred.abs().mean().clamp(min=1e-6)
    centred = image - image.mean((1, 2, 3), keepdim=True)
    return centred / centred.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-6)


@dataclass(frozen=True)
class Preparation:
    """A recipe's way from raw images to network input.

    Attributes:
        size: side of the network's input.
        augmentation: what training images go through.
        normalisation: what every image goes through.
        mode: "paper" resizes with the nearest pixel, as the reference does; "corrected" averages.
    """

    size: int
    augmentation: Augmentation
    normalisation: Normalisation
    mode: Mode

    def training(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Network input (C, S, S) and mask (S, S) of a raw image, uint8 (C, H, W), and its mask, bool (H, W)."""
        image, mask = self._place(image, mask, rng)
        pixels = as_float(image)
        how = self.augmentation
        if how.jitter:
            pixels = _jitter(pixels, how.jitter[rng.integers(len(how.jitter))], rng)
        if how.relative_noise and rng.random() < 0.5:
            strength = how.relative_noise * float(pixels.std())
            pixels = (pixels + strength * _white(pixels, rng)).clamp(0, 1)
        if how.noise:
            pixels = pixels + how.noise * _white(pixels, rng)
        return self.normalisation(pixels), mask

    def test(self, image: Tensor) -> Tensor:
        """Network input (C, S, S) of a raw image, uint8 (C, H, W)."""
        return self.normalisation(as_float(self._resize(self.visible(image))))

    def visible(self, image: Tensor) -> Tensor:
        """What the network sees of a raw test image (C, H, W): its centre, or where training resizes, all of it."""
        if self.augmentation.crop_or_resize:
            return image
        self._refuse_small(image)
        seen: Tensor = tv.center_crop(image, [self.size, self.size])
        return seen

    def _refuse_small(self, image: Tensor) -> None:
        height, width = image.shape[1:]
        if min(height, width) < self.size:
            raise BlemishError(
                f"an image of {height} x {width} pixels is smaller than the network's input of "
                f"{self.size} x {self.size}; give larger images"
            )

    def _place(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        how = self.augmentation
        if how.crop_or_resize and rng.random() < 0.5:
            image, mask = self._resize(image), _nearest(mask[None].byte(), self.size)[0].bool()
        else:
            self._refuse_small(image)
            image, mask = (F.pad(field, [how.padding] * 4) for field in (image, mask))
            top, left = (int(rng.integers(side - self.size + 1)) for side in image.shape[1:])
            window = (..., slice(top, top + self.size), slice(left, left + self.size))
            image, mask = image[window], mask[window]
        if how.flip and rng.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask

    def _resize(self, image: Tensor) -> Tensor:
        if image.shape[1:] == (self.size, self.size):
            return image
        if self.mode == "paper":
            return _nearest(image, self.size)
        return tv.resize(image, [self.size, self.size], antialias=True)


def _nearest(image: Tensor, size: int) -> Tensor:
    """An image (C, H, W) as (C, size, size), each pixel that under its middle, as Pillow takes it."""
    return F.interpolate(image[None], size=(size, size), mode="nearest-exact")[0]


def _white(like: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(like.shape), dtype=np.float32))


def _jitter(pixels: Tensor, strengths: tuple[float, float, float, float], rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue in random order, each by a factor within 1 ± its strength."""
    brightness, contrast, saturation = (float(rng.uniform(1 - s, 1 + s)) for s in strengths[:3])
    hue = float(rng.uniform(-strengths[3], strengths[3]))
    steps = [
        lambda x: tv.adjust_brightness(x, brightness),
        lambda x: tv.adjust_contrast(x, contrast),
        lambda x: tv.adjust_saturation(x, saturation),
        lambda x: tv.adjust_hue(x, hue),
    ]
    for step in rng.permutation(4):
        pixels = steps[step](pixels)
    return pixels
