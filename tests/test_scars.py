import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import distance_transform_edt, label

from blemish.synthetic.scars import (
    KINDS,
    VISIBLE_CHANGE,
    blend,
    cut_paste,
    scar,
    scratch,
    smear,
)

DATA = Path(os.environ.get("BLEMISH_DATA", Path(__file__).parents[2] / "shared" / "data"))
by_kind = pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)


def texture(height: int, width: int, *, seed: int = 0, grey: bool = False) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 1 if grey else 3), dtype=np.uint8)
    return np.broadcast_to(values, (height, width, 3)).copy()


def flat(value: int, side: int = 96) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


IMAGES = {
    "colour": texture(96, 96),
    "grey": texture(96, 96, grey=True),
    "wide": texture(40, 300),
    "sliver": texture(9, 400),
    "tiny": texture(16, 16),
    "black": flat(0),
    "white": flat(255),
    "flat": flat(100),
}


@by_kind
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
def test_mask_is_all_that_changed_visible_and_never_empty(kind, image):
    before = image.copy()
    for seed in range(8):
        result, again = (scar(image, np.random.default_rng(seed), kinds=(kind,)) for _ in range(2))
        change = np.abs(result.image.astype(int) - image).max(axis=2)
        np.testing.assert_array_equal(result.mask, change > 0)
        assert result.mask.any()
        assert change[result.mask].min() > VISIBLE_CHANGE
        np.testing.assert_array_equal(result.image, again.image)
    np.testing.assert_array_equal(image, before)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 130), st.integers(8, 130), st.integers(0, 2**32))
def test_any_size_and_source(height, width, seed):
    image, source = texture(height, width, seed=seed), texture(height, width, seed=seed + 1)
    result = scar(image, np.random.default_rng(seed), source=source)
    assert result.image.shape == image.shape
    assert result.mask.any()


@by_kind
def test_a_grey_image_stays_grey_beside_a_coloured_source(kind):
    image = texture(96, 96, grey=True)
    source = texture(96, 96, seed=9)
    for seed in range(5):
        result = scar(image, np.random.default_rng(seed), kinds=(kind,), source=source).image
        assert (result == result[..., :1]).all()


@by_kind
def test_defects_lie_where_they_are_asked_for(kind):
    where = np.zeros((256, 256), bool)
    where[20:24, 200:204] = True
    away = distance_transform_edt(~where)
    for seed in range(20):
        mask = scar(texture(256, 256), np.random.default_rng(seed), where=where, kinds=(kind,)).mask
        assert away[mask].min() < 20


def test_kinds_come_with_equal_chance():
    drawn = []

    def recorder(kind):
        return lambda *args: drawn.append(kind.__name__) or kind(*args)

    rng = np.random.default_rng(0)
    for _ in range(400):
        drawn.append("|")
        scar(texture(64, 64), rng, kinds=[recorder(kind) for kind in KINDS])
    firsts = [name for before, name in itertools.pairwise(drawn) if before == "|"]
    for kind in KINDS:
        assert abs(firsts.count(kind.__name__) - 100) < 4 * np.sqrt(400 * 3 / 16)


def test_cut_paste_pastes_one_rectangle_of_the_source():
    measure = pytest.importorskip("skimage.measure")
    image, source = flat(40, 256), flat(200, 256)
    shares, aspects = [], []
    for seed in range(60):
        result = scar(image, np.random.default_rng(seed), source=source, kinds=(cut_paste,))
        pieces, count = label(result.mask)
        assert count == 1
        if result.mask[[0, -1]].any() or result.mask[:, [0, -1]].any():
            continue  # cut at the border
        inside = distance_transform_edt(result.mask) > 5
        assert len(np.unique(result.image[inside])) <= 1  # past the feather: the source alone, nothing black
        region = measure.regionprops(pieces)[0]
        assert region.solidity > 0.75
        shares.append(region.area / image[..., 0].size)
        aspects.append(region.axis_major_length / region.axis_minor_length)
    assert min(shares) < 0.004
    assert 0.015 < max(shares) < 0.042
    assert min(aspects) < 1.5
    assert 3 < max(aspects) < 6.5


def test_cut_paste_copies_the_texture_turned():
    # A ramp stays a ramp of the same slope, up to contrast (0.7 to 1.3), in whatever direction.
    ramp = np.broadcast_to((60 + np.arange(256) / 2).astype(np.uint8)[None, :, None], (256, 256, 3))
    for seed in range(20):
        patch = cut_paste(flat(0, 256), np.random.default_rng(seed), (128, 128), ramp)
        inside = distance_transform_edt(patch.alpha > 0) > 2
        down, right = np.gradient(patch.content.mean(axis=2))
        slope = np.hypot(down[inside].mean(), right[inside].mean())
        assert 0.5 * 0.65 < slope < 0.5 * 1.35


def test_a_scratch_is_one_thin_stroke_of_limited_strength_through_its_site():
    where = np.zeros((256, 256), bool)
    where[100, 80] = True
    signs = set()
    for seed in range(40):
        result = scar(flat(120, 256), np.random.default_rng(seed), where=where, kinds=(scratch,))
        change = result.image.astype(int) - 120
        assert result.mask[100, 80]
        assert label(result.mask, np.ones((3, 3)))[1] == 1
        assert distance_transform_edt(result.mask).max() <= 4  # at most 5 px wide, and a soft edge
        assert np.abs(change).max() <= 90
        assert (change >= 0).all() or (change <= 0).all()
        signs.add(change.sum() > 0)
    assert signs == {True, False}


def test_a_blend_shows_the_source_on_up_to_a_tenth_of_the_image():
    image, source = flat(40, 256), flat(200, 256)
    shares, opacities = [], []
    for seed in range(60):
        result = scar(image, np.random.default_rng(seed), source=source, kinds=(blend,))
        shares.append(result.mask.mean())
        opacities.append((result.image.max() - 40) / 160)
    assert min(shares) < 0.01
    assert 0.05 < max(shares) <= 0.1
    assert 0.28 < min(opacities) < 0.4
    assert 0.9 < max(opacities) <= 1


def test_a_blend_of_the_image_with_itself_only_moves_its_pixels():
    image = np.random.default_rng(0).choice([20, 90, 160, 230], (128, 128, 1)).astype(np.uint8).repeat(3, axis=2)
    for seed in range(10):
        patch = blend(image, np.random.default_rng(seed), (64, 64), image)
        assert set(np.unique(patch.content)) == {20, 90, 160, 230}


def test_smearing_keeps_to_its_disc_and_invents_no_grey_levels():
    image = np.clip(texture(256, 256), 60, 190)
    where = np.zeros((256, 256), bool)
    where[128, 128] = True
    away = distance_transform_edt(~where)
    reaches = []
    for seed in range(40):
        result = scar(image, np.random.default_rng(seed), where=where, kinds=(smear,))
        assert result.image.min() >= 60
        assert result.image.max() <= 190
        reaches.append(away[result.mask].max())
    assert min(reaches) < 8
    assert 20 < max(reaches) <= 25


def test_smearing_a_ramp_pushes_it_one_way_by_less_than_the_disc():
    # On a ramp of one level a pixel the change is the displacement itself; a blur hardly changes a ramp.
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    for seed in range(40):
        patch = smear(ramp, np.random.default_rng(seed), (128, 128), ramp)
        shift = (patch.content - ramp[patch.rows, patch.cols])[..., 0] * patch.alpha
        radius = (patch.rows.stop - patch.rows.start) // 2
        assert np.abs(shift).max() <= 1.2 * radius
        if np.abs(shift).max() > radius / 2:
            assert np.unravel_index(np.abs(shift).argmax(), shift.shape) == (radius, radius)
            assert shift.min() > -1e-3 or shift.max() < 1e-3


def test_a_blurred_flat_image_gets_a_scratch_instead():
    result = scar(flat(100), np.random.default_rng(0), kinds=(smear,))
    assert label(result.mask, np.ones((3, 3)))[1] == 1


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((8, 8), np.uint8), {}, "expected an RGB image"),
        (np.zeros((8, 8, 3), np.float32), {}, "expected an RGB image"),
        (flat(9), {"source": flat(9, 32)}, "the source has shape"),
        (flat(9), {"where": np.ones((8, 8), bool)}, "`where` needs shape"),
        (flat(9), {"where": np.zeros((96, 96), bool)}, "a true pixel"),
    ],
    ids=["grey array", "float", "source size", "where size", "where empty"],
)
def test_what_does_not_fit_is_refused(image, options, message):
    with pytest.raises(ValueError, match=message):
        scar(image, np.random.default_rng(0), **options)


@pytest.mark.parametrize("name", ["screw", "magnetic_tile"])
def test_defects_on_real_parts_are_small_but_visible(name):
    folder = DATA / name / "train" / "good"
    if not folder.is_dir():
        pytest.skip(f"needs the {name} images; set BLEMISH_DATA to the folder that holds {name}/")
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir())[:20]:
        image = np.asarray(Image.open(path).convert("RGB").resize((256, 256)))
        result = scar(image, rng)
        change = np.abs(result.image.astype(int) - image).max(axis=2)
        assert 1e-4 < result.mask.mean() < 0.1
        assert change[result.mask].mean() > 6
