"""Maps as high as wide cells say and as sharp as small ones: the formula in numpy, and what must hold of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from blemish.closed_form import fit_in_one
from blemish.networks.backbones import Backbone
from blemish.networks.cells import CellNetwork
from blemish.networks.features import FeatureGrid
from blemish.networks.focus import Focus, as_high_as
from blemish.networks.gaussian import GaussianHead, SecondOpinion, View, ViewVariances
from blemish.networks.heads import Head, with_distance
from blemish.networks.network import DetectorNetwork
from blemish.networks.wide_cells import WideCells
from test_closed_form import COLUMNS, ROWS, C, N, features, literal_distances

SIZE = (64, 96)
GRID = (8, 12)


def random_gaussian(views: list[View], grid: tuple[int, int]) -> GaussianHead:
    gaussian = GaussianHead(views, grid=grid)
    gaussian.mean.normal_()
    randomise(gaussian.variances)
    return gaussian


def randomise(views: ViewVariances) -> None:
    for variances in views:
        variances.directions.normal_(std=0.1)
        variances.gains.uniform_(0, 2)
        variances.rest.uniform_(0.1, 1)


def random_head(grid: FeatureGrid, *, gate: bool, evidence: bool, seed: int = 0) -> Head:
    torch.manual_seed(seed)
    wide = WideCells(grid, beyond=grid.backbone.beyond())
    gaussian = random_gaussian(wide.views, wide.grid)
    gaussian.scale.uniform_(0.5, 2)
    second = SecondOpinion(gaussian)
    second.shift.normal_()
    randomise(second.variances)
    small = random_gaussian([View.whole(grid.channels)], grid.grid)
    head = Head(gaussian, wide=wide, second=second, focus=Focus(small))
    if gate:
        head.gate = read_as(CellNetwork(channels=gaussian.directions + 1), spread=0.02)
    if evidence:
        head.evidence = read_as(CellNetwork(channels=grid.channels, wide=True), spread=0.001)
    return head.eval()


def read_as(network: CellNetwork, *, spread: float) -> CellNetwork:
    network.centre.fill_(0.05)
    network.spread.fill_(spread)
    return network


@pytest.fixture(scope="module")
def grid() -> FeatureGrid:
    return FeatureGrid(Backbone(pretrained=False), size=SIZE).eval().deepest()


@pytest.mark.parametrize("evidence", [False, True], ids=["no evidence", "evidence"])
@pytest.mark.parametrize("gate", [False, True], ids=["no gate", "gate"])
@torch.inference_mode()
def test_both_maps_are_what_the_formula_says(gate: bool, evidence: bool, grid: FeatureGrid) -> None:
    head = random_head(grid, gate=gate, evidence=evidence)
    seen, maps = torch.randn(2, 112, *GRID), [torch.randn(2, 112, 4, 6)]
    level, pattern = (one.double().numpy() for one in head.maps(seen, maps))

    assert head.wide is not None
    assert head.second is not None
    assert head.focus is not None
    whitened = head.gaussian.whiten(head.wide(seen, maps))
    first, second = head.gaussian.distance(whitened), head.second.distance(whitened, head.gaussian.scale)
    weight = np.ones(first.shape)
    if head.gate is not None:
        weight = expit((head.gate(with_distance(whitened, first)).double().numpy() - 0.05) / 0.02)
    weighed = [
        head.wide.back(torch.from_numpy(weight * one).float()).double().numpy()
        for one in (first.numpy(), np.minimum(first.numpy(), second.numpy()))
    ]
    standing = np.zeros(level.shape)
    if head.evidence is not None:
        standing = np.maximum((head.evidence(seen).double().numpy() - 0.05) / 0.001, 0)
        assert 0 < (standing > weighed[1]).mean() < 1  # or the test would not see which is the larger
    small = head.focus.gaussian(seen).double().numpy()
    norms = np.maximum(weighed[1], standing)
    np.testing.assert_allclose(level, np.sqrt(norms**2 + 1) - 1, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(pattern, np.sqrt(weighed[0] * small + standing**2 + 1) - 1, rtol=1e-3, atol=1e-5)


positive = st.floats(0.0078125, 1024, width=32)


@given(
    level=arrays(np.float32, (2, 3, 5), elements=positive),
    pattern=arrays(np.float32, (2, 3, 5), elements=positive),
)
def test_a_pattern_keeps_its_shape_and_takes_the_level_s_height(level: np.ndarray, pattern: np.ndarray) -> None:
    got = as_high_as(torch.from_numpy(level), torch.from_numpy(pattern)).double().numpy()
    for image in range(2):
        expected = pattern[image].astype(float) / pattern[image].max() * level[image].max()
        np.testing.assert_allclose(got[image], expected, rtol=1e-5)


def test_a_pattern_of_nothing_stays_nothing() -> None:
    assert not as_high_as(torch.rand(1, 4, 4), torch.zeros(1, 4, 4)).any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), gate=st.booleans(), evidence=st.booleans())
@torch.inference_mode()
def test_scores_are_those_of_wide_cells_and_no_pixel_is_higher_with_a_second_opinion(
    seed: int, gate: bool, evidence: bool, grid: FeatureGrid
) -> None:
    """So what calibration promises of scores, and of regions, holds with a focus as without."""
    head = random_head(grid, gate=gate, evidence=evidence, seed=seed)
    network = DetectorNetwork(grid, head, sigma=5.0).eval()
    pixels = torch.randint(0, 256, (3, *SIZE, 3), dtype=torch.uint8)
    maps, without = network(pixels), network.first_opinion()(pixels)
    assert (maps <= without * (1 + 1e-5) + 1e-6).all()
    blurred = Head(head.gaussian, wide=head.wide, second=head.second, gate=head.gate, evidence=head.evidence)
    scores = DetectorNetwork(grid, blurred, sigma=5.0).eval()(pixels).amax((1, 2))
    np.testing.assert_allclose(maps.amax((1, 2)).numpy(), scores.numpy(), rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 7, N])
def test_small_cells_are_fitted_to_all_images_and_copies_without_a_scale(batch: int) -> None:
    nominal, copies, new = features(), features(seed=5), features(seed=1)
    head = GaussianHead([View.whole(C)], grid=(ROWS, COLUMNS))
    fit_in_one(head, nominal.split(batch), copies=[copies.split(batch + 1)])
    fitted = torch.cat([nominal, copies]).double().numpy()
    np.testing.assert_allclose(head(new).numpy(), literal_distances(fitted, new.double().numpy()), rtol=2e-3)
    assert (head.scale == 1).all()


def test_nothing_to_fit_to_is_said() -> None:
    with pytest.raises(ValueError, match="no features to fit to"):
        fit_in_one(GaussianHead([View.whole(C)], grid=(ROWS, COLUMNS)), [])
