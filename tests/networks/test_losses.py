"""FCDD's objectives against the literal formulas in float64, and their slopes near zero."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from blemish.networks.losses import (
    anomalous_loss,
    hypersphere_distance,
    image_loss,
    pixel_loss,
    pseudo_huber,
)
from blemish.networks.losses import cell_loss as plain_cell_loss
from blemish.networks.losses import detection_loss as plain_detection_loss

cell_loss = partial(plain_cell_loss, min_coverage=0.15)
detection_loss = partial(plain_detection_loss, min_coverage=0.15, worst=0.01, weight=0.3)


def literal_huber(x: float) -> float:
    return math.sqrt(x * x + 1) - 1


@settings(max_examples=50, deadline=None)
@given(x=st.floats(-1e3, 1e3))
def test_pseudo_huber_is_the_formula(x: float) -> None:
    got = pseudo_huber(torch.tensor(x, dtype=torch.float64)).item()
    assert got == pytest.approx(literal_huber(x), rel=1e-9, abs=1e-12)


def test_pseudo_huber_does_not_vanish_in_float32() -> None:
    assert pseudo_huber(torch.tensor(1e-4)).item() == pytest.approx(5e-9, rel=1e-5)


@pytest.mark.parametrize(
    "labels", [[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]], ids=["nominal", "anomalous", "one", "two"]
)
def test_image_loss_is_equation_2_for_any_mix(labels: list[int]) -> None:
    outputs = torch.randn(3, 1, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = image_loss(pseudo_huber(outputs), torch.tensor(labels, dtype=torch.bool)).item()
    expected = 0.0
    for output, label in zip(outputs, labels, strict=True):
        a = sum(literal_huber(x) for x in output.flatten().tolist()) / output.numel()
        expected += (a if label == 0 else -math.log(1 - math.exp(-a))) / 3
    assert loss == pytest.approx(expected, rel=1e-9)


def test_pixel_loss_is_equation_3_and_drops_the_infinite_term() -> None:
    generator = torch.Generator().manual_seed(2)
    maps = torch.rand(3, 6, 7, generator=generator, dtype=torch.float64) * 3
    masks = torch.rand(3, 6, 7, generator=generator) < 0.3
    masks[1] = False
    expected = 0.0
    for image, mask in zip(maps.tolist(), masks.tolist(), strict=True):
        pairs = [(a, y) for row, ys in zip(image, mask, strict=True) for a, y in zip(row, ys, strict=True)]
        nominal = sum(a for a, y in pairs if not y) / len(pairs)
        anomalous = sum(a for a, y in pairs if y) / len(pairs)
        expected += nominal / 3
        if any(y for _, y in pairs):
            expected += -math.log(1 - math.exp(-anomalous)) / 3
    assert pixel_loss(maps, masks).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("output", [0.0, 1e-30, 1e-10, 2.4e-4, 1e-3, 0.03, 1.0, 1e4, 1e18])
def test_slopes_are_finite_everywhere_in_float32(output: float) -> None:
    phi = torch.tensor(output, requires_grad=True)
    loss = anomalous_loss(pseudo_huber(phi))
    loss.backward()
    assert torch.isfinite(loss)
    # The formula's own slope d/dphi is about -2/phi; the reference's float32 slope at 2.4e-4 was 1e25.
    assert abs(phi.grad.item()) <= 45


def test_the_tangent_meets_the_curve() -> None:
    a = torch.tensor([0.9999e-3, 1.0001e-3], dtype=torch.float64)
    low, high = anomalous_loss(a).tolist()
    literal = [-math.log(1 - math.exp(-x)) for x in a.tolist()]
    assert low == pytest.approx(literal[0], rel=1e-6)
    assert high == pytest.approx(literal[1], rel=1e-9)
    assert anomalous_loss(torch.tensor(0.0)) > anomalous_loss(torch.tensor(1e-4))


def literal_cell_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy, image by image: mean of all nominal cells, and mean over images of anomalous cells' means."""
    nominal, anomalous = [], []
    for image, covered in zip(logits, coverage, strict=True):
        cells = list(zip(image.flatten(), covered.flatten().tolist(), strict=True))
        nominal += [binary_cross_entropy_with_logits(x, torch.zeros_like(x)) for x, share in cells if share == 0]
        most = max(share for _, share in cells)
        if most > 0:
            called = [x for x, share in cells if share >= 0.15 or share == most]
            own = [binary_cross_entropy_with_logits(x, torch.ones_like(x)) for x in called]
            anomalous.append(sum(own) / len(own))
    terms = [sum(some) / len(some) for some in (nominal, anomalous) if some]
    return sum(terms)


def some_logits(seed: int = 4, *, images: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(images, 3, 5, generator=generator, dtype=torch.float64)


def painted(*values: float) -> Tensor:
    """Coverage (3, 5) of one image: cells from the first on as given, all others 0."""
    cells = torch.zeros(15, dtype=torch.float64)
    cells[: len(values)] = torch.tensor(values)
    return cells.reshape(3, 5)


COVERAGES = {
    "a defect each, small and large": [painted(), painted(0.2), painted(*[1.0] * 9), painted(0.6, 0.15, 0.1)],
    "cells barely touched": [painted(), painted(1.0, 0.1499), painted(0.05, 0.9), painted()],
    "no cell covered by 15 %": [painted(), painted(0.02, 0.05, 0.01), painted(0.14, 0.14), painted(1.0)],
    "all nominal": [painted()] * 4,
    "all anomalous everywhere": [painted(*[1.0] * 15)] * 4,
    "all anomalous in part": [painted(0.5), painted(0.5, 0.01), painted(0.01), painted(1.0, 1.0)],
}


@pytest.mark.parametrize("coverages", COVERAGES.values(), ids=COVERAGES)
def test_cell_loss_is_the_cross_entropy_image_by_image(coverages: list[Tensor]) -> None:
    logits, again = some_logits().requires_grad_(), some_logits().requires_grad_()
    coverage = torch.stack(coverages)
    loss, expected = cell_loss(logits, coverage), literal_cell_loss(again, coverage)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(logits.grad, again.grad)


def test_cell_loss_has_the_slope_of_its_value() -> None:
    coverage = torch.stack(COVERAGES["cells barely touched"])
    assert torch.autograd.gradcheck(lambda x: cell_loss(x, coverage), some_logits().requires_grad_())


def test_cells_that_a_mask_barely_touches_are_pulled_neither_way() -> None:
    logits = some_logits(images=1).requires_grad_()
    cell_loss(logits, painted(1.0, 0.1)[None]).backward()
    slopes = logits.grad.flatten()
    assert slopes[0] < 0
    assert slopes[1] == 0
    assert (slopes[2:] > 0).all()


def test_a_small_defect_weighs_as_much_as_a_large_one() -> None:
    logits = torch.zeros(2, 3, 5, dtype=torch.float64, requires_grad=True)
    coverage = torch.stack([painted(1.0), painted(*[1.0] * 10)])
    cell_loss(logits, coverage).backward()
    small, large = (logits.grad[i][coverage[i] > 0].sum().item() for i in (0, 1))
    assert small == pytest.approx(large)


def test_cell_loss_is_finite_for_any_logit_in_float32() -> None:
    logits = torch.tensor([[[1e4, -1e4]], [[-1e4, 1e4]]], requires_grad=True)
    loss = cell_loss(logits, torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("grid", "worst"), [((3, 5), 1), ((32, 32), 10), ((48, 48), 23)])
def test_the_worst_cells_of_good_images_count_once_more(grid: tuple[int, int], worst: int) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(6, *grid, generator=generator, dtype=torch.float64)
    coverage = torch.zeros(6, *grid, dtype=torch.float64)
    coverage[1, 0, 0], coverage[4, 1:, 2] = 0.02, 1.0  # these two are not good, however little of them is covered
    twice = []
    for number in (0, 2, 3, 5):
        highest = sorted(logits[number].flatten().tolist(), reverse=True)[:worst]
        twice.append(sum(math.log1p(math.exp(x)) for x in highest) / worst)
    expected = cell_loss(logits, coverage).item() + 0.3 * sum(twice) / 4
    assert detection_loss(logits, coverage).item() == pytest.approx(expected, rel=1e-12)


def test_where_no_image_is_good_there_are_no_worst_cells() -> None:
    coverage = torch.stack(COVERAGES["all anomalous in part"])
    assert detection_loss(some_logits(), coverage) == cell_loss(some_logits(), coverage)


@settings(max_examples=50, deadline=None)
@given(vector=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8))
def test_hypersphere_distance_is_the_formula_of_the_whole_vector(vector: list[float]) -> None:
    outputs = torch.tensor([vector, [0.0] * len(vector)], dtype=torch.float64)
    far, centre = hypersphere_distance(outputs).tolist()
    assert far == pytest.approx(math.sqrt(sum(x * x for x in vector) + 1) - 1, rel=1e-9, abs=1e-10)
    assert centre == 0


def test_hypersphere_distance_does_not_vanish_in_float32() -> None:
    assert hypersphere_distance(torch.tensor([[6e-5, 8e-5]])).item() == pytest.approx(5e-9, rel=1e-5)


def test_hypersphere_distance_has_a_finite_slope_at_the_centre() -> None:
    outputs = torch.zeros(1, 4, requires_grad=True)
    hypersphere_distance(outputs).sum().backward()
    assert outputs.grad.tolist() == [[0.0] * 4]


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [0, 1, 0]], ids=["nominal", "anomalous", "mixed"])
def test_hypersphere_classification_is_the_image_loss_of_its_distance(labels: list[int]) -> None:
    outputs = torch.randn(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    loss = image_loss(hypersphere_distance(outputs)[:, None], torch.tensor(labels, dtype=torch.bool)).item()
    distances = [math.sqrt(sum(x * x for x in vector) + 1) - 1 for vector in outputs.tolist()]
    terms = [-math.log(1 - math.exp(-a)) if label else a for a, label in zip(distances, labels, strict=True)]
    assert loss == pytest.approx(sum(terms) / 3, rel=1e-9)
