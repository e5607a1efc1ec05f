"""From raw images to network input, against NumPy formulas, Pillow and torchvision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from blemish.errors import BlemishError
from blemish.experiments.augmentation import Normalisation, Preparation, as_float, local_contrast
from blemish.experiments.data.fashion_mnist import SYSTEM_FOLDER
from blemish.experiments.data.sources import open_source
from blemish.experiments.data.tasks import ArrayImages
from blemish.experiments.recipe import Augmentation, Recipe


def photographs(count: int, height: int, width: int, *, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Uint8 (N, C, H, W), smooth and noisy at once, none like another."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    slopes = rng.uniform(-90, 90, (2, count, channels, 1, 1))
    pixels = 128 + slopes[0] * rows + slopes[1] * columns + rng.normal(0, 12, (count, channels, height, width))
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))


def preparation(size: int, *, mode="paper", normalisation=None, **augmentation) -> Preparation:
    return Preparation(size, Augmentation(**augmentation), normalisation or Normalisation.none(), mode)


def levels(pixels: torch.Tensor) -> np.ndarray:
    """Grey levels of un-normalised network input, as integers."""
    return np.rint(255 * pixels.numpy()).astype(int)


# Normalisation


def literal_lcn(image: np.ndarray) -> np.ndarray:
    """Local contrast normalisation of one image, float64: the mean goes, then the mean absolute value becomes 1."""
    image = image.astype(np.float64) / 255
    image = image - image.mean()
    return image / np.abs(image).mean()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), channels=st.sampled_from([1, 3]), height=st.integers(2, 30))
def test_local_contrast_is_the_formula(seed, channels, height):
    image = photographs(1, height, 9, channels=channels, seed=seed)[0]
    np.testing.assert_allclose(local_contrast(as_float(image)).numpy(), literal_lcn(image.numpy()), atol=2e-5)


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_a_flat_image_stays_finite_and_flat(value):
    flat = local_contrast(as_float(torch.full((3, 28, 28), value, dtype=torch.uint8)))
    assert flat.abs().max() < 0.5
    assert flat.std() == 0


def test_the_range_of_lcn_is_that_of_all_nominal_images_a_channel():
    recipe, nominal = Recipe.load("mvtec"), photographs(7, 20, 20)
    nominal[:, 2] //= 2  # channels of different range
    normalised = np.stack([literal_lcn(image.numpy()) for image in nominal])  # (N, C, H, W)
    low, high = normalised.min((0, 2, 3)), normalised.max((0, 2, 3))
    fitted = Normalisation.fit(recipe, ArrayImages(nominal))
    np.testing.assert_allclose(fitted.shift.flatten(), low, rtol=1e-5)
    np.testing.assert_allclose(fitted.scale.flatten(), high - low, rtol=1e-5)
    inputs = torch.stack([fitted(as_float(image)) for image in nominal])
    assert inputs.amin((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert inputs.amax((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_standard_constants_are_those_of_all_nominal_pixels_a_channel():
    nominal = photographs(7, 20, 14)
    fitted = Normalisation.fit(Recipe.load("cifar10"), ArrayImages(nominal))
    pixels = nominal.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(fitted.shift.flatten(), pixels.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(fitted.scale.flatten(), pixels.std((0, 2, 3)), rtol=1e-5)
    assert not fitted.lcn


def test_imagenet_constants_are_torchvisions():
    image = photographs(1, 224, 224)[0]
    fitted = Normalisation.fit(Recipe.load("imagenet30"), ArrayImages(image[None]))
    expected = v2.functional.normalize(as_float(image), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    torch.testing.assert_close(fitted(as_float(image)), expected)


def test_constants_of_fashion_mnist_are_the_papers():
    if not SYSTEM_FOLDER.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    shirts = open_source("fashion-mnist", SYSTEM_FOLDER).task("t-shirt-top").nominal
    recipe = Recipe.load("fashion-mnist")
    lcn = Normalisation.fit(recipe, shirts)
    assert float(lcn.shift) == pytest.approx(-2.68124, abs=5e-6)
    assert float(lcn.shift + lcn.scale) == pytest.approx(24.8543, abs=5e-5)
    standard = Normalisation.fit(recipe.with_setting("normalisation", "standard"), shirts)
    assert float(standard.shift) == pytest.approx(0.325608, abs=5e-7)
    assert float(standard.scale) == pytest.approx(0.350739, abs=5e-7)


# Training: places


def tagged(height: int, width: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A random image, and as its mask the odd grey levels: a mask that moved otherwise than its image shows at once."""
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, height, width), dtype=np.uint8))
    return image, image[0] % 2 == 1


def windows(image: np.ndarray, size: int, padding: int) -> list[np.ndarray]:
    """Every window of a padded image (H, W), row by row."""
    padded = np.pad(image, padding)
    views = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    return list(views.reshape(-1, size, size))


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(4, 12), more=st.tuples(st.integers(0, 6), st.integers(0, 6)), padding=st.integers(0, 4),
    flip=st.booleans(), seed=st.integers(0, 10_000),
)  # fmt: skip
def test_a_crop_is_a_window_of_the_padded_image_and_the_mask_goes_with_it(size, more, padding, flip, seed):
    image, mask = tagged(size + more[0], size + more[1], seed=seed)
    prepared = preparation(size, padding=padding, flip=flip)
    pixels, moved = prepared.training(image, mask, np.random.default_rng(seed))
    pixels = levels(pixels)[0]
    assert moved.dtype == torch.bool
    np.testing.assert_array_equal(moved.numpy(), pixels % 2 == 1)
    possible = windows(image[0].numpy(), size, padding)
    possible += [window[:, ::-1] for window in possible] * flip
    assert any(np.array_equal(pixels, window) for window in possible)


def test_every_crop_and_both_sides_come_up_equally_often():
    image, mask = tagged(28, 28, seed=1)
    prepared, rng = preparation(28, padding=2, flip=True), np.random.default_rng(0)
    crops = windows(image[0].numpy(), 28, 2)
    names = {crop.tobytes(): (k, False) for k, crop in enumerate(crops)}
    names |= {crop[:, ::-1].tobytes(): (k, True) for k, crop in enumerate(crops)}
    drawn = 2000
    found = [names[levels(prepared.training(image, mask, rng)[0])[0].astype(np.uint8).tobytes()] for _ in range(drawn)]
    counts = np.bincount([2 * k + flipped for k, flipped in found], minlength=50)
    chi_square = ((counts - drawn / 50) ** 2 / (drawn / 50)).sum()
    assert chi_square < 85.4  # the 99.9th percentile at 49 degrees of freedom


def test_without_augmentation_an_image_of_network_size_stays():
    image, mask = tagged(28, 28, seed=2)
    pixels, same = preparation(28).training(image, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(levels(pixels), image.numpy())
    assert torch.equal(same, mask)


@pytest.mark.parametrize("side", [240, 250])
def test_half_of_mvtecs_images_are_cropped_and_half_resized_as_pillow_does(side):
    image, mask = tagged(side, side, seed=3)
    prepared, rng = preparation(224, crop_or_resize=True), np.random.default_rng(0)
    whole = np.asarray(Image.fromarray(image[0].numpy()).resize((224, 224), Image.Resampling.NEAREST))
    resized = 0
    for _ in range(200):
        pixels, moved = prepared.training(image, mask, rng)
        pixels = levels(pixels)[0]
        np.testing.assert_array_equal(moved.numpy(), pixels % 2 == 1)
        resized += np.array_equal(pixels, whole)
    assert 70 <= resized <= 130  # binomial(200, 1/2) leaves this range once in 60,000


def test_soundly_resized_images_are_averaged_as_pillow_does():
    image = photographs(1, 240, 240)[0]
    prepared = preparation(224, mode="corrected", crop_or_resize=True)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BILINEAR)
    difference = levels(prepared.test(image)) - np.asarray(picture).astype(int).transpose(2, 0, 1)
    assert np.abs(difference).max() <= 1


def test_the_same_generator_gives_the_same_image():
    image, mask = photographs(1, 240, 240)[0], torch.zeros(240, 240, dtype=torch.bool)
    recipe = Recipe.load("mvtec")
    prepared = Preparation(224, recipe.augmentation, Normalisation.none(), "paper")
    first, second, other = (prepared.training(image, mask, np.random.default_rng(seed))[0] for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("shape", [(27, 28), (28, 27), (5, 100)])
def test_images_smaller_than_the_network_are_refused(shape):
    image, mask = tagged(*shape, seed=0)
    prepared = preparation(28, padding=2)
    with pytest.raises(BlemishError, match=f"{shape[0]} x {shape[1]} pixels is smaller .* 28 x 28; give larger"):
        prepared.training(image, mask, np.random.default_rng(0))
    with pytest.raises(BlemishError, match="is smaller"):
        prepared.test(image)


# Training: pixels

BLANK = torch.zeros(64, 64, dtype=torch.bool)


def test_white_noise_has_the_deviation_that_was_asked_for_and_is_not_cut():
    black = torch.zeros(3, 64, 64, dtype=torch.uint8)
    pixels, _ = preparation(64, noise=0.02).training(black, BLANK, np.random.default_rng(0))
    count = pixels.numel()
    assert abs(float(pixels.mean())) < 4 * 0.02 / np.sqrt(count)
    assert float(pixels.std()) == pytest.approx(0.02, rel=4 / np.sqrt(2 * count))
    assert (pixels < 0).any()
    channels = np.corrcoef(pixels.reshape(3, -1).numpy())
    assert np.abs(channels - np.eye(3)).max() < 0.06  # each pixel and channel for itself


def test_relative_noise_comes_to_half_of_the_images_and_follows_their_contrast():
    image = photographs(1, 64, 64)[0] // 2 + 64  # far from both ends, where nothing is cut
    plain, rng = as_float(image), np.random.default_rng(0)
    prepared = preparation(64, relative_noise=0.1)
    changes = [prepared.training(image, BLANK, rng)[0] - plain for _ in range(100)]
    noisy = [change for change in changes if change.abs().max() > 0]
    assert 30 <= len(noisy) <= 70  # binomial(100, 1/2) leaves this range once in 30,000
    expected = 0.1 * plain.numpy().std()
    assert [float(change.std()) for change in noisy] == pytest.approx([expected] * len(noisy), rel=0.03)


def test_relative_noise_is_cut_at_black_and_white():
    image = torch.zeros(1, 64, 64, dtype=torch.uint8)
    image[:, 32:] = 255
    rng = np.random.default_rng(0)
    found = [preparation(64, relative_noise=0.1).training(image, BLANK, rng)[0] for _ in range(10)]
    assert all(pixels.min() == 0 and pixels.max() == 1 for pixels in found)
    assert any(((pixels > 0) & (pixels < 1)).any() for pixels in found)


def test_jitter_of_strength_0_is_no_jitter():
    image = photographs(1, 64, 64)[0]
    pixels, _ = preparation(64, jitter=((0.0,) * 4,)).training(image, BLANK, np.random.default_rng(0))
    np.testing.assert_allclose(pixels.numpy(), as_float(image).numpy(), atol=1e-6)


@pytest.mark.parametrize("which", range(4), ids=["brightness", "contrast", "saturation", "hue"])
def test_each_jitter_is_torchvisions_with_a_factor_within_its_strength(which):
    image, rng = photographs(1, 24, 24)[0] // 2 + 64, np.random.default_rng(0)
    blank = torch.zeros(24, 24, dtype=torch.bool)
    strengths = tuple(0.1 if k == which else 0.0 for k in range(4))
    adjust = ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue")[which]
    low, high = (-0.1, 0.1) if which == 3 else (0.9, 1.1)
    factors = np.linspace(low, high, 401)
    table = torch.stack([getattr(v2.functional, adjust)(as_float(image), factor) for factor in factors])
    prepared, found = preparation(24, jitter=(strengths,)), []
    for _ in range(40):
        pixels, _ = prepared.training(image, blank, rng)
        distances = (table - pixels).abs().amax((1, 2, 3))
        assert distances.min() < 2e-3  # half a step of the table
        found.append(factors[int(distances.argmin())])
    assert min(found) < low + 0.03  # uniform: missed once in 500 times
    assert max(found) > high - 0.03


def test_rows_of_jitter_are_taken_at_equal_chance():
    image, rng = torch.full((3, 8, 8), 100, dtype=torch.uint8), np.random.default_rng(0)
    weak, strong = (0.0,) * 4, (0.5, 0.0, 0.0, 0.0)
    prepared, blank = preparation(8, jitter=(weak, strong)), torch.zeros(8, 8, dtype=torch.bool)
    changed = sum(bool((prepared.training(image, blank, rng)[0] - 100 / 255).abs().max() > 1e-5) for _ in range(200))
    assert 70 <= changed <= 130


# Tests


@pytest.mark.parametrize(("height", "width"), [(256, 341), (400, 256), (256, 256), (225, 224), (224, 224), (257, 999)])
def test_the_middle_of_a_photograph_is_tested_as_torchvision_cuts_it(height, width):
    image = photographs(1, height, width)[0]
    prepared = preparation(224, padding=4, flip=True, noise=0.001, jitter=((0.01,) * 4,))
    expected = v2.CenterCrop(224)(image)
    np.testing.assert_array_equal(levels(prepared.test(image)), expected.numpy())
    assert torch.equal(prepared.visible(image), expected)


@pytest.mark.parametrize("side", [224, 240, 250, 300])
def test_where_training_resizes_the_whole_image_is_tested(side):
    image = photographs(1, side, side)[0]
    prepared = preparation(224, crop_or_resize=True)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(levels(prepared.test(image)), np.asarray(picture).transpose(2, 0, 1))
    assert prepared.visible(image) is image


def test_the_test_normalises_what_training_normalises():
    nominal = photographs(5, 32, 32)
    recipe = Recipe.load("cifar10").with_setting("augmentation", Augmentation())
    prepared = Preparation(32, recipe.augmentation, Normalisation.fit(recipe, ArrayImages(nominal)), "paper")
    mask = torch.zeros(32, 32, dtype=torch.bool)
    trained, _ = prepared.training(nominal[0], mask, np.random.default_rng(0))
    assert torch.equal(prepared.test(nominal[0]), trained)
