"""FCDD's objectives against the literal formulas in float64, and their slopes near zero."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.objectives import anomalous_loss, hypersphere_distance, image_loss, pixel_loss, pseudo_huber


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
