"""MixStyle against loops over images and channels."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.training.mixstyle import mixstyle as mixstyle_with

mixstyle = partial(mixstyle_with, probability=0.25)


def features_of(images: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (images, 3, 1, 1)
    offsets, spreads = torch.randn(size, generator=generator), torch.rand(size, generator=generator) + 0.1
    return offsets + spreads * torch.randn(images, 3, 4, 6, generator=generator)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 2**31))
def test_each_image_has_the_look_of_one_of_them(images: int, seed: int) -> None:
    features = features_of(images, seed)
    got = mixstyle(features, torch.Generator().manual_seed(seed)).numpy()
    for image in range(images):
        fits = []
        for look in range(images):
            expected = np.empty((3, 4, 6))
            for channel in range(3):
                own, borrowed = (features[one, channel].double().numpy() for one in (image, look))
                expected[channel] = (own - own.mean()) / own.std() * borrowed.std() + borrowed.mean()
            fits.append(np.allclose(got[image], expected, rtol=1e-4, atol=1e-4))
        assert any(fits)


def test_one_image_in_four_takes_another_one_s_look() -> None:
    generator, changed = torch.Generator().manual_seed(0), []
    features = features_of(32, 1)
    for _ in range(50):
        moved = (mixstyle(features, generator) - features).abs().amax((1, 2, 3)) > 1e-3
        changed.append(moved.double().mean().item())
    # 1600 draws of 1/4 * 31/32, four deviations to either side.
    assert np.mean(changed) == pytest.approx(0.242, abs=0.043)


def test_a_channel_that_is_the_same_everywhere_becomes_another_level() -> None:
    features = torch.stack([torch.full((2, 3, 3), value) for value in (1.0, 5.0, 9.0)])
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        got = mixstyle(features, generator)
        assert (got.std((2, 3)) == 0).all()
        assert set(got.flatten().tolist()) <= {1.0, 5.0, 9.0}


def test_one_image_alone_stays_as_it_is() -> None:
    features = features_of(1, 3)
    torch.testing.assert_close(mixstyle(features, torch.Generator().manual_seed(0)), features)
