"""The closed form against scikit-learn's covariance and SciPy's Mahalanobis distance, and what stands beside it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import mahalanobis
from scipy.special import expit
from scipy.stats import gmean
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from blemish import closed_form
from blemish.closed_form import FOLDS, FREAK, RIDGE, STEADY, CrossFit
from blemish.networks.cells import CellNetwork
from blemish.networks.gaussian import GaussianHead, View, to_blocks, to_cells
from blemish.networks.heads import Head, with_distance

N, C, ROWS, COLUMNS = 23, 5, 4, 6


def features(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(N, C, ROWS, COLUMNS, generator=generator) * torch.arange(1, COLUMNS + 1)
    return mixed + 40 + torch.randn(C, ROWS, COLUMNS, generator=generator)


def literal_distances(fitted: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of every cell: its own mean, the covariance of its 2 x 2 block about the cells' means."""
    means = fitted.mean(0)
    distances = np.zeros((len(scored), ROWS, COLUMNS))
    for top in range(0, ROWS, 2):
        for left in range(0, COLUMNS, 2):
            cells = [(top + i, left + k) for i in (0, 1) for k in (0, 1)]
            residuals = np.concatenate([fitted[:, :, r, c] - means[:, r, c] for r, c in cells])
            covariance = EmpiricalCovariance(assume_centered=True).fit(residuals).covariance_ + RIDGE * np.eye(C)
            precision = np.linalg.inv(covariance)
            for r, c in cells:
                for n, image in enumerate(scored):
                    distances[n, r, c] = mahalanobis(image[:, r, c], means[:, r, c], precision)
    return distances


def literal_scale(originals: np.ndarray, copies: list[np.ndarray], steady: int) -> np.ndarray:
    """The scale (h, w) from the distances of each original to all other folds' originals and copies."""
    fold = np.arange(N) % FOLDS
    maps = []
    for left_out in range(FOLDS):
        others = np.concatenate([some[fold != left_out] for some in [originals, *copies]])
        maps += list(literal_distances(others, originals[fold == left_out]))
    usual = sorted(one.max() for one in maps)[N // 2]
    largest = np.max([one * min(1, FREAK * usual / one.max()) for one in maps], axis=0)
    smooth = np.array(
        [[largest[max(0, r - 2) : r + 3, max(0, c - 2) : c + 3].mean() for c in range(COLUMNS)] for r in range(ROWS)]
    )
    return (smooth / smooth.mean()) ** min(1, N / steady)


def new_head(own: int = C) -> GaussianHead:
    return GaussianHead([View.whole(C, own=own)], grid=(ROWS, COLUMNS))


@pytest.mark.parametrize("steady", [10, STEADY], ids=["enough images", "few images"])
@pytest.mark.parametrize("copies", [0, 2], ids=["no copies", "two copies each"])
@pytest.mark.parametrize("batch", [1, 7, N])
def test_distances_are_mahalanobis_over_the_left_out_scale(
    batch: int, copies: int, steady: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_form, "STEADY", steady)
    nominal, new = features(), features(seed=1)
    altered = [nominal + 3 * torch.randn(nominal.shape, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    altered = altered[:copies]
    head = new_head()
    CrossFit(head).fit(nominal.split(batch), copies=[copy.split(batch + 1) for copy in altered])

    exact, exact_copies = nominal.double().numpy(), [copy.double().numpy() for copy in altered]
    scale = literal_scale(exact, exact_copies, steady)
    expected = literal_distances(np.concatenate([exact, *exact_copies]), new.double().numpy()) / scale
    np.testing.assert_allclose(head.scale.numpy(), scale, rtol=2e-3)
    np.testing.assert_allclose(head(new).numpy(), expected, rtol=2e-3)


def literal_low_rank(
    nominal: np.ndarray, new: np.ndarray, rank: int, *, whitened_by: np.ndarray | None = None
) -> np.ndarray:
    """Distances (N, h, w) with `rank` variances of its own a block and the geometric mean of all others, in v.

    v are the coordinates whitened by `whitened_by`, or by the nominal images themselves.
    """
    blocks = [(r, c) for r in range(0, ROWS, 2) for c in range(0, COLUMNS, 2)]
    away = new - nominal.mean(0)

    def vectors(images: np.ndarray, r: int, c: int) -> np.ndarray:
        return images[:, :, r : r + 2, c : c + 2].transpose(0, 2, 3, 1).reshape(-1, C)

    def covariances_of(images: np.ndarray) -> list[np.ndarray]:
        centred = images - images.mean(0)
        fits = [EmpiricalCovariance(assume_centered=True).fit(vectors(centred, *block)) for block in blocks]
        return [fit.covariance_ + RIDGE * np.eye(C) for fit in fits]

    covariances = covariances_of(nominal)
    shared = covariances if whitened_by is None else covariances_of(whitened_by)
    whitening = np.linalg.inv(sqrtm(np.mean(shared, axis=0)).real)
    distances = np.zeros((len(new), ROWS, COLUMNS))
    for (r, c), covariance in zip(blocks, covariances, strict=True):
        variances, axes = np.linalg.eigh(whitening @ covariance @ whitening)
        away_from_usual = np.abs(np.log(variances) - np.sort(np.log(variances))[(C - 1) // 2])  # torch's median
        others = np.argsort(-away_from_usual)[rank:]
        variances[others] = gmean(variances[others])
        along = vectors(away, r, c) @ whitening @ axes
        distances[:, r : r + 2, c : c + 2] = np.sqrt((along**2 / variances).sum(1)).reshape(-1, 2, 2)
    return distances


def test_a_block_keeps_the_variances_that_are_most_its_own() -> None:
    nominal, new = features(), features(seed=1)
    head = new_head(own=2)
    CrossFit(head).fit([nominal])
    assert head.variances[0].directions.shape[-1] == 2
    expected = literal_low_rank(nominal.double().numpy(), new.double().numpy(), 2)
    np.testing.assert_allclose((head(new) * head.scale).numpy(), expected, rtol=2e-3)
    assert np.abs(expected / literal_distances(nominal.double().numpy(), new.double().numpy()) - 1).max() > 0.05


# The background of parts that all lie alike


PART = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
PART[:2, :3] = True  # the third column shares its block with one of background


def with_background(monkeypatch: pytest.MonkeyPatch) -> tuple[CrossFit, np.ndarray]:
    """A cross-fit to features that vary most where there is no part, and those features."""
    monkeypatch.setattr(closed_form, "STEADY", 10)
    nominal = features()
    nominal[:, :, 4:] *= 3
    cross_fit = CrossFit(GaussianHead([View.whole(C)], grid=(ROWS, COLUMNS), part=PART))
    cross_fit.fit(nominal.split(7))
    return cross_fit, nominal.double().numpy()


def literal_with_background(nominal: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Distances (N, h, w) with one covariance for all blocks in which there is no part."""
    centred = nominal - nominal.mean(0)
    away = new - nominal.mean(0)
    blocks = [(r, c) for r in range(0, ROWS, 2) for c in range(0, COLUMNS, 2)]

    def covariance(r: int, c: int) -> np.ndarray:
        vectors = centred[:, :, r : r + 2, c : c + 2].transpose(0, 2, 3, 1).reshape(-1, C)
        return vectors.T @ vectors / len(vectors) + RIDGE * np.eye(C)

    shows = {block: bool(PART[block[0] : block[0] + 2, block[1] : block[1] + 2].any()) for block in blocks}
    background = np.mean([covariance(*block) for block in blocks if not shows[block]], axis=0)
    distances = np.zeros((len(new), ROWS, COLUMNS))
    for r, c in blocks:
        inverse = np.linalg.inv(covariance(r, c) if shows[r, c] else background)
        for row in (r, r + 1):
            for column in (c, c + 1):
                vectors = away[:, :, row, column]
                distances[:, row, column] = np.sqrt(np.einsum("nc,cd,nd->n", vectors, inverse, vectors))
    return distances


def test_the_background_has_one_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    cross_fit, nominal = with_background(monkeypatch)
    head, new = cross_fit.head, features(seed=1)
    assert len(head.variances[0].alike) > 1
    expected = literal_with_background(nominal, new.double().numpy())
    np.testing.assert_allclose((head(new) * head.scale).numpy(), expected, rtol=2e-3)
    second = cross_fit.second_opinion([features(seed=7)])
    both = np.concatenate([nominal, features(seed=7).double().numpy()])
    found = (second.distance(head.whiten(new), head.scale) * head.scale).numpy()
    np.testing.assert_allclose(found, literal_with_background(both, new.double().numpy()), rtol=5e-3)


def test_what_lies_in_the_background_of_good_images_stands_out_no_more_than_their_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cross_fit, nominal = with_background(monkeypatch)
    scale, part, fold = cross_fit.head.scale.double().numpy(), PART.numpy(), np.arange(N) % FOLDS
    left_out = np.concatenate([literal_with_background(nominal[fold != f], nominal[fold == f]) for f in range(FOLDS)])
    on_part = (left_out[:, part] / scale[part]).max(1)
    littered = np.quantile(left_out[:, ~part].max(1), 0.98)
    np.testing.assert_allclose(scale[~part], max(1, littered / np.sort(on_part)[(N - 1) // 2]), rtol=1e-2)
    assert scale[~part][0] > 1.5
    np.testing.assert_allclose(scale[part].mean(), 1, rtol=1e-5)


# The second opinion


def fitted(nominal: torch.Tensor, own: int = C) -> CrossFit:
    cross_fit = CrossFit(new_head(own))
    cross_fit.fit(nominal.split(7))
    return cross_fit


@pytest.mark.parametrize("copies", [0, 2], ids=["no copies", "two copies each"])
@pytest.mark.parametrize("batch", [1, 4, N])
def test_the_second_opinion_is_mahalanobis_of_all_images_over_the_first_ones_scale(batch: int, copies: int) -> None:
    nominal, held_back, new = features(), features(seed=7)[:9] + 2, features(seed=1)
    altered = [held_back + 3 * torch.randn(held_back.shape, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    altered = altered[:copies]
    cross_fit = fitted(nominal)
    first, before = cross_fit.head, cross_fit.head(new)
    second = cross_fit.second_opinion(held_back.split(batch), copies=[copy.split(batch) for copy in altered])
    assert torch.equal(first(new), before)

    everything = np.concatenate([some.double().numpy() for some in (nominal, held_back, *altered)])
    expected = literal_distances(everything, new.double().numpy()) / first.scale.double().numpy()
    np.testing.assert_allclose(second.distance(first.whiten(new), first.scale).numpy(), expected, rtol=2e-3)


def test_the_second_opinion_keeps_the_variances_that_are_most_a_blocks_own() -> None:
    nominal, held_back, new = features(), features(seed=7)[:9] + 2, features(seed=1)
    cross_fit = fitted(nominal, own=2)
    first = cross_fit.head
    second = cross_fit.second_opinion([held_back])
    everything = torch.cat([nominal, held_back]).double().numpy()
    # Which variances are a block's own is decided in the first one's coordinates.
    expected = literal_low_rank(everything, new.double().numpy(), 2, whitened_by=nominal.double().numpy())
    found = second.distance(first.whiten(new), first.scale) * first.scale
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3)


@pytest.mark.parametrize("with_gate", [False, True], ids=["no gate", "gate"])
@pytest.mark.parametrize("with_evidence", [False, True], ids=["no evidence", "evidence"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), away=st.floats(-20, 20), unit=st.floats(0.1, 10), images=st.integers(1, 40))
def test_the_map_is_nowhere_larger_with_a_second_opinion(
    with_gate: bool, with_evidence: bool, seed: int, away: float, unit: float, images: int
) -> None:
    """Whatever the second opinion has learned from, and it is the literal minimum of both distances that counts."""
    cross_fit = fitted(features())
    gaussian = cross_fit.head
    generator = torch.Generator().manual_seed(seed)
    held_back = 40 + away + unit * torch.randn(images, C, ROWS, COLUMNS, generator=generator)
    second = cross_fit.second_opinion([held_back])
    gate = cell_network(C + 1, 1, centre=0.1, spread=0.2) if with_gate else None
    evidence = cell_network(C, 2, centre=-0.3, spread=0.7) if with_evidence else None
    head = Head(gaussian, second=second, gate=gate, evidence=evidence)
    new = torch.cat([features(seed=2), held_back])
    with torch.inference_mode():
        both, alone = head(new).double().numpy(), head.first_opinion()(new).double().numpy()
        whitened = gaussian.whiten(new)
        distances = [gaussian(new).double().numpy(), second.distance(whitened, gaussian.scale).double().numpy()]
        weight, learned = 1.0, 0.0
        if gate is not None:  # which knows of the first one only
            weight = torch.sigmoid(gate.standing(with_distance(whitened, gaussian(new)))).double().numpy()
        if evidence is not None:
            learned = evidence.standing(new).clamp(min=0).double().numpy()
    assert (both <= alone * (1 + 1e-6) + 1e-6).all()
    expected = np.sqrt((weight * np.minimum(*distances)) ** 2 + learned**2 + 1) - 1
    np.testing.assert_allclose(both, expected, rtol=1e-4, atol=1e-5)


def test_the_second_opinion_leaves_out_what_lies_too_far_out() -> None:
    nominal, held_back, new = features(), features(seed=7)[:9], features(seed=1)
    cross_fit = fitted(nominal)
    outsiders = features(seed=8)[:3] + 60
    reach = [float(cross_fit.head(some).amax((1, 2)).amax()) for some in (held_back, outsiders)]
    limit = (reach[0] + float(cross_fit.head(outsiders).amax((1, 2)).amin())) / 2
    assert reach[0] < limit < reach[1]
    mixed = torch.cat([outsiders[:1], held_back[:4], outsiders[1:], held_back[4:]])

    def opinion(images: torch.Tensor, farthest: float) -> torch.Tensor:
        second = cross_fit.second_opinion(images.split(1), copies=[images.split(5)], farthest=farthest)
        return second.distance(cross_fit.head.whiten(new), cross_fit.head.scale)

    torch.testing.assert_close(opinion(mixed, limit), opinion(held_back, math.inf), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(opinion(mixed, math.inf), opinion(held_back, math.inf), rtol=0.1)


def test_a_second_opinion_that_nothing_was_left_for_is_the_first() -> None:
    nominal, new = features(), features(seed=1)
    cross_fit = fitted(nominal)
    second = cross_fit.second_opinion([features(seed=7) + 60], farthest=1e-3)
    found = second.distance(cross_fit.head.whiten(new), cross_fit.head.scale)
    torch.testing.assert_close(found, cross_fit.head(new), rtol=1e-3, atol=1e-4)


def test_how_far_images_lie_is_told_by_heads_that_have_not_seen_them() -> None:
    nominal, head = features(), new_head()
    cross_fit = CrossFit(head)
    cross_fit.fit(nominal.split(7))
    exact, scale = nominal.double().numpy(), head.scale.double().numpy()
    fold = np.arange(N) % FOLDS
    expected = [(literal_distances(exact[fold != fold[place]], exact[[place]]) / scale).max() for place in range(N)]
    np.testing.assert_allclose(cross_fit.farthest.numpy(), expected, rtol=5e-3)  # of features kept in float16


@pytest.mark.parametrize("fold", range(FOLDS))
def test_leaving_a_fold_out_is_fitting_without_its_images_and_their_copies(fold: int) -> None:
    nominal, copy = features(), features(seed=5)
    others = np.arange(N) % FOLDS != fold
    by_hand = new_head()
    CrossFit(by_hand).fit([nominal[others], copy[others]])

    head = new_head()
    cross_fit = CrossFit(head)
    cross_fit.fit(nominal.split(7), copies=[copy.split(3)])
    scale = head.scale.clone()
    left_out = cross_fit.leave_out(fold)
    torch.testing.assert_close(left_out.float(), nominal[~others], rtol=1e-3, atol=0)
    torch.testing.assert_close(head.mean, by_hand.mean, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(head(copy), by_hand(copy) * by_hand.scale / head.scale, rtol=2e-3, atol=1e-3)
    assert torch.equal(head.scale, scale)


def test_fitting_to_all_again_is_as_if_nothing_had_been_left_out() -> None:
    head = new_head()
    cross_fit = CrossFit(head)
    cross_fit.fit(features().split(7))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    cross_fit.leave_out(1)
    assert not torch.equal(head.mean, before["mean"])
    cross_fit.fit_all()
    torch.testing.assert_close(dict(head.state_dict()), before, rtol=0, atol=0)


def test_only_so_many_images_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_form, "MOST_HELD_OUT", 10)
    nominal, head = features(), new_head()
    cross_fit = CrossFit(head)
    cross_fit.fit(nominal.split(7))
    torch.testing.assert_close(cross_fit.leave_out(1).float(), nominal[[1, 5, 9]], rtol=1e-3, atol=0)
    cross_fit.fit_all()
    torch.testing.assert_close(head.mean, nominal.mean(0))  # all 23 are fitted to


def test_a_single_image_is_enough() -> None:
    head = new_head()
    CrossFit(head).fit([features()[:1]])
    assert torch.all(head.scale == 1)
    assert torch.isfinite(head(features(seed=1))).all()


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no features"):
        CrossFit(new_head()).fit([])


def test_blocks_come_back_where_they_were() -> None:
    x = torch.randn(3, C, ROWS, COLUMNS)
    back = [to_cells(numbers, (ROWS, COLUMNS)) for numbers in to_blocks(x).unbind(-1)]
    torch.testing.assert_close(torch.stack(back, dim=1), x)
    block = to_blocks(x)[COLUMNS // 2 + 1]  # second row of blocks, second block: cells (2..3, 2..3)
    wanted = x[:, :, 2:4, 2:4].permute(0, 2, 3, 1).reshape(-1, C)
    torch.testing.assert_close(block, wanted)


# What stands beside the closed form


def cell_network(channels: int, seed: int, *, centre: float, spread: float) -> CellNetwork:
    torch.manual_seed(seed)
    network = CellNetwork(channels=channels).eval()
    network.centre.fill_(centre)
    network.spread.fill_(spread)
    return network


@pytest.mark.parametrize("with_gate", [False, True], ids=["no gate", "gate"])
@pytest.mark.parametrize("with_evidence", [False, True], ids=["no evidence", "evidence"])
def test_the_head_is_its_formula(with_gate: bool, with_evidence: bool) -> None:
    gaussian = new_head()
    CrossFit(gaussian).fit([features()])
    gate = cell_network(C + 1, 1, centre=0.1, spread=0.2) if with_gate else None
    evidence = cell_network(C, 2, centre=-0.3, spread=0.7) if with_evidence else None
    new = features(seed=2)
    with torch.inference_mode():
        whitened = gaussian.whiten(new).double().numpy()
        norm = gaussian(new).double().numpy()
        weight, learned = np.ones_like(norm), np.zeros_like(norm)
        if gate is not None:
            logits = gate(torch.from_numpy(np.concatenate([whitened, norm[:, None]], axis=1)).float())
            weight = expit((logits.double().numpy() - 0.1) / 0.2)
            assert weight.std() > 0.01  # or the test would not see it
        if evidence is not None:
            standing = (evidence(new).double().numpy() + 0.3) / 0.7
            learned = np.maximum(standing, 0)
            for some in (standing < 0, standing > 0):
                assert some.any()
        got = Head(gaussian, gate=gate, evidence=evidence)(new).numpy()
    expected = np.sqrt((weight * norm) ** 2 + learned**2 + 1) - 1
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e6], ids=["steep", "usual", "flat"])
def test_the_gate_only_quietens_and_the_evidence_only_adds(spread: float) -> None:
    gaussian = new_head()
    CrossFit(gaussian).fit([features()])
    gate = cell_network(C + 1, 3, centre=0.0, spread=spread)
    evidence = cell_network(C, 4, centre=0.0, spread=spread)
    new = features(seed=3)
    with torch.inference_mode():
        alone, gated = Head(gaussian)(new), Head(gaussian, gate=gate)(new)
        assert ((gated >= 0) & (gated <= alone + 1e-4)).all()
        assert (Head(gaussian, evidence=evidence)(new) >= alone - 1e-4).all()
        assert (Head(gaussian, gate=gate, evidence=evidence)(new) >= gated - 1e-4).all()


def test_a_cell_network_sees_standardised_inputs() -> None:
    # Far from zero and many: sums of float16 or float32 would lose the digits.
    nominal = (1000 + 3 * torch.randn(50, C, 20, 20, generator=torch.Generator().manual_seed(0))).half()
    nominal[:, 1] = 7.0  # a channel that never varies
    network = CellNetwork(channels=C)
    network.standardise_by(nominal)
    vectors = nominal.double().permute(0, 2, 3, 1).reshape(-1, C).numpy()
    scaler = StandardScaler().fit(vectors)
    expected = scaler.transform(vectors).reshape(50, 20, 20, C).transpose(0, 3, 1, 2)[:2]
    with torch.inference_mode():
        logits = network(nominal[:2].float())
        by_hand = network.layers(network.first.layer(torch.from_numpy(expected).float()))[:, 0]
    assert torch.isfinite(logits).all()
    np.testing.assert_allclose(logits.numpy(), by_hand.numpy(), atol=2e-3)


def test_images_that_do_not_vary_get_the_same_scale_everywhere() -> None:
    head = GaussianHead([View.whole(C)], grid=(ROWS, COLUMNS))
    CrossFit(head).fit([torch.full((8, C, ROWS, COLUMNS), 3.0)])
    torch.testing.assert_close(head.scale, torch.ones(ROWS, COLUMNS))


def literal_views(nominal: np.ndarray, new: np.ndarray, views: list[View]) -> np.ndarray:
    """Distances (N, h, w): the mean over views of squared Mahalanobis distances a direction, times all directions."""
    away = new - nominal.mean(0)
    centred = nominal - nominal.mean(0)
    squares = np.zeros((len(new), ROWS, COLUMNS))
    first = 0
    for view in views:
        channels = slice(first, first := first + view.channels)
        rows = centred[:, channels].transpose(0, 2, 3, 1).reshape(-1, view.channels)
        leading = PCA(view.directions).fit(rows).components_.T  # means of places are gone, so of cells as well
        for r in range(0, ROWS, 2):
            for c in range(0, COLUMNS, 2):
                fitted, seen = (
                    images[:, channels, r : r + 2, c : c + 2].transpose(0, 2, 3, 1).reshape(-1, view.channels)
                    for images in (centred, away)
                )
                covariance = leading.T @ (fitted.T @ fitted / len(fitted) + RIDGE * np.eye(view.channels)) @ leading
                along = seen @ leading
                found = np.einsum("nc,cd,nd->n", along, np.linalg.inv(covariance), along) / view.directions
                squares[:, r : r + 2, c : c + 2] += found.reshape(-1, 2, 2)
    return np.sqrt(squares * sum(view.directions for view in views) / len(views))


@pytest.mark.parametrize(
    "views",
    [[View(C, 2)], [View(2, 2), View(C - 2, C - 2)], [View(3, 1), View(C - 3, C - 3)], [View(2, 2), View(C - 2, 1)]],
    ids=["leading", "two", "leading first", "leading last"],
)
def test_views_are_gaussians_of_their_own_along_leading_directions(views: list[View]) -> None:
    nominal, further, new = features(), features(seed=7), features(seed=1)
    head = GaussianHead(views, grid=(ROWS, COLUMNS))
    cross_fit = CrossFit(head)
    cross_fit.fit(nominal.split(7))
    exact = nominal.double().numpy()
    found = (head(new) * head.scale).numpy()
    np.testing.assert_allclose(found, literal_views(exact, new.double().numpy(), views), rtol=3e-3)
    assert head.whiten(new).shape[1] == head.directions == sum(view.directions for view in views)

    second = cross_fit.second_opinion([further])
    if all(view.directions == view.channels for view in views):  # else it keeps to the first one's directions
        both = np.concatenate([exact, further.double().numpy()])
        found = (second.distance(head.whiten(new), head.scale) * head.scale).numpy()
        np.testing.assert_allclose(found, literal_views(both, new.double().numpy(), views), rtol=5e-3)
