"""Measures of heatmaps against their definitions, and the reference heatmaps against their formulas."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.faithfulness.inpainting import NormalImages, inpaint, inpaint_from_surroundings
from blemish.faithfulness.measures import (
    deletion_auc,
    insertion_auc,
    mass_inside,
    pointing_game,
    shift,
    shift_correlation,
)
from blemish.faithfulness.study import study
from blemish.model.detector import Detector
from blemish.training.run import train
from helpers.hammers import pictures
from helpers.images import noise, save_image, stained

SIDE = 64


def square() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:36, 30:46] = True
    return mask


# Measures


def test_deletion_and_insertion_are_areas_under_the_curve_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    pixels, fill = noise(0), np.full((SIDE, SIDE, 3), 100, np.uint8)
    heatmap = rng.permutation(SIDE * SIDE).reshape(SIDE, SIDE).astype(np.float32)  # no two alike

    def score(images: np.ndarray) -> np.ndarray:
        return (images.astype(float) ** 2).mean((1, 2, 3)).astype(np.float32)

    order = np.argsort(-heatmap.ravel())
    removed, inserted = [], []
    for step in range(21):
        marked = np.zeros(SIDE * SIDE, bool)
        marked[order[: round(step / 2000 * SIDE * SIDE)]] = True
        marked = marked.reshape(SIDE, SIDE)
        removed.append(score(inpaint(pixels, fill, marked)[None])[0] / score(pixels[None])[0])
        inserted.append(score(inpaint(fill, pixels, marked)[None])[0] / score(pixels[None])[0])
    for found, curve in (
        (deletion_auc(score, pixels, lambda image, marked: inpaint(image, fill, marked), heatmap), removed),
        (insertion_auc(score, pixels, fill, heatmap), inserted),
    ):
        assert found == pytest.approx(sum((a + b) / 2 for a, b in pairwise(curve)) / 20, rel=1e-5)


def test_a_map_that_marks_what_the_score_hangs_on_is_the_more_faithful() -> None:
    """The score is the darkness of a square: marking it empties the score soonest, marking anything else does not."""
    mask, fill = square(), np.full((SIDE, SIDE, 3), 200, np.uint8)
    pixels = np.where(mask[..., None], 0, fill).astype(np.uint8)

    def score(images: np.ndarray) -> np.ndarray:
        return 1 + (200 - images.astype(np.float32)).sum((1, 2, 3))

    right, wrong = mask.astype(np.float32), np.roll(mask, 25, axis=0).astype(np.float32)
    for remove in (lambda image, marked: inpaint(image, fill, marked), inpaint_from_surroundings):
        assert deletion_auc(score, pixels, remove, right) < deletion_auc(score, pixels, remove, wrong) - 0.01
    assert insertion_auc(score, pixels, fill, right) > insertion_auc(score, pixels, fill, wrong) + 0.01


@pytest.mark.parametrize(
    ("peak", "expected"), [([(25, 35)], 1.0), ([(0, 0)], 0.0), ([(25, 35), (0, 0), (1, 1), (2, 2)], 0.25)]
)
def test_the_pointing_game_asks_where_the_highest_pixels_lie(peak: list, expected: float) -> None:
    heatmap = np.zeros((SIDE, SIDE), np.float32)
    for place in peak:
        heatmap[place] = 5
    assert pointing_game(heatmap, square()) == expected


def test_mass_inside_counts_what_is_above_the_level() -> None:
    heatmap = np.full((SIDE, SIDE), 1.0, np.float32)
    heatmap[square()] = 3.0
    heatmap[0, :64] = 5.0
    assert mass_inside(heatmap, square(), level=1.0) == pytest.approx(256 * 2 / (256 * 2 + 64 * 4))
    assert mass_inside(heatmap, square(), level=3.0) == 0.0
    assert mass_inside(heatmap, square(), level=9.0) == 0.0


def test_a_map_that_moves_along_has_shift_correlation_one_and_one_that_stays_does_not() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    along = lambda image: image[..., 0].astype(np.float32)  # noqa: E731
    assert shift_correlation(along, pixels, along(pixels)) == pytest.approx(1)
    still = along(pixels)
    assert abs(shift_correlation(lambda image: still, pixels, still)) < 0.1
    flat = np.zeros_like(still)
    assert shift_correlation(lambda image: flat, pixels, flat) == 0
    np.testing.assert_array_equal(shift(pixels, (2, -3))[2:, :-3], pixels[:-2, 3:])


def test_inpainting_is_exact_far_from_the_edge_and_from_surroundings_takes_the_surroundings() -> None:
    pixels, fill = noise(0), noise(1)
    nothing, everything = np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool)
    np.testing.assert_array_equal(inpaint(pixels, fill, nothing), pixels)
    np.testing.assert_array_equal(inpaint(pixels, fill, everything), fill)
    np.testing.assert_array_equal(inpaint_from_surroundings(pixels, everything), pixels)
    ramp = np.repeat(np.linspace(60, 180, SIDE)[None, :, None], SIDE, axis=0).repeat(3, axis=2)
    spoiled = np.where(square()[..., None], 0, ramp).astype(np.uint8)
    middle = inpaint_from_surroundings(spoiled, square())[25:31, 35:41].astype(float)
    assert abs(middle - ramp[25:31, 35:41]).max() < 30  # a tenth of the black is left, see `inpaint`


def test_the_mean_of_good_images(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{number}.png", noise(number)) for number in range(5)]
    (tmp_path / "broken.png").write_bytes(b"no image")
    nominal = NormalImages([*paths, tmp_path / "broken.png"], (SIDE, SIDE))
    literal = np.stack([noise(number) for number in range(5)]).astype(float).mean(0)
    np.testing.assert_array_equal(nominal.mean, np.round(literal))
    assert (nominal.images, len(nominal.failed)) == (5, 1)
    with pytest.raises(BlemishError, match="no good image"):
        NormalImages([tmp_path / "broken.png"], (SIDE, SIDE))


# References


@pytest.fixture(scope="module")
def torch_model(tiny_model: Path):
    """The module of the file and its score: the graph read by another program than ours."""
    pytest.importorskip("captum")
    pytest.importorskip("onnx2torch")
    from blemish.faithfulness.differentiable import differentiable

    network = differentiable(tiny_model)
    return lambda pixels: network(pixels).amax((1, 2))


def smooth(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values.astype(np.float32), 5.0, mode="nearest")


@pytest.mark.filterwarnings("error:Using a non-tuple")  # of Slice: newer torch may refuse it
@pytest.mark.parametrize("align", [True, False], ids=["turned upright", "as it lies"])
def test_models_with_more_in_their_graphs_can_be_differentiated(align: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    from blemish.faithfulness.differentiable import differentiable

    images, _, _ = pictures(24)
    for number, image in enumerate(images):
        save_image(tmp_path / f"hammers/{number}.png", image)
    detector = train(tmp_path / "hammers", tmp_path / "m.onnx", size=(64, 64), align=align)
    assert detector.metadata.aligned == align
    pixels = images[:1, ::2, ::2]
    grey = torch.from_numpy(pixels).float().requires_grad_()
    anomaly_map = differentiable(tmp_path / "m.onnx")(grey)
    np.testing.assert_allclose(
        anomaly_map.detach().numpy(), detector.forward(pixels)[0], atol=1e-3 * detector.scale.high
    )
    anomaly_map.max().backward()
    assert grey.grad is not None
    assert grey.grad.isfinite().all()
    assert (grey.grad != 0).any()


def test_the_differentiable_module_scores_as_the_file(torch_model: Callable, tiny_model: Path) -> None:
    for pixels in (noise(1), stained(2)):
        expected = Detector.load(tiny_model).forward(pixels[None])[1]
        with torch.no_grad():
            found = torch_model(torch.from_numpy(pixels.astype(np.float32))[None])
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)


def test_references_are_those_of_the_formulas(torch_model: Callable, tiny_model: Path) -> None:
    from blemish.faithfulness.attribution import STEPS, attribution_methods

    detector = Detector.load(tiny_model)
    explainers = attribution_methods(tiny_model, detector)
    pixels, fill = stained(2), noise(50)

    def gradient_at(image: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(image.astype(np.float32))[None].requires_grad_()
        torch_model(x).sum().backward()
        return x.grad[0].numpy()

    literal = smooth(np.abs(gradient_at(pixels)).sum(-1))
    np.testing.assert_allclose(explainers["gradient"](pixels, fill), literal, rtol=1e-3, atol=1e-6)

    points, weights = np.polynomial.legendre.leggauss(STEPS)
    way = pixels.astype(np.float32) - fill
    mean = sum(w / 2 * gradient_at(fill + (p + 1) / 2 * way) for p, w in zip(points, weights, strict=True))
    literal = smooth(np.abs((way * mean).sum(-1)))
    scale = np.abs(literal).max()
    np.testing.assert_allclose(explainers["integrated gradients"](pixels, fill), literal, atol=1e-3 * scale)

    score = detector.forward(pixels[None])[1][0]
    total, count = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for top in range(0, SIDE - 7, 4):
        for left in range(0, SIDE - 7, 4):
            covered = pixels.copy()
            window = (slice(top, top + 8), slice(left, left + 8))
            covered[window] = fill[window]
            total[window] += score - detector.forward(covered[None])[1][0]
            count[window] += 1
    literal = smooth(total / count)
    found = explainers["occlusion"](pixels, fill)
    assert np.corrcoef(found.ravel(), literal.ravel())[0, 1] > 0.999
    np.testing.assert_allclose(found, literal, atol=0.02 * np.abs(literal).max())


# The study


def test_evaluate_prints_the_table_and_its_figures_are_those_of_the_maps(
    parts: Path, tiny_model: Path, run: Callable
) -> None:
    pytest.importorskip("captum")
    pytest.importorskip("onnx2torch")
    result = run("evaluate", tiny_model, parts, "--faithfulness", 5, "--json").json["faithfulness"]
    assert (result["images"], result["masks"], result["filled_from"]) == (2, 2, 7)
    assert list(result["methods"]) == ["blemish", "gradient", "integrated gradients", "occlusion"]
    images = np.stack([stained(400), stained(401)])
    maps, masks = Detector.load(tiny_model).forward(images)[0], (images == 0).all(3)
    ours = result["methods"]["blemish"]
    assert ours["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert ours["pointing"] == np.mean([mask.ravel()[one.argmax()] for one, mask in zip(maps, masks, strict=True)])
    good = Detector.load(tiny_model).forward(np.stack([noise(300 + number) for number in range(3)]))[0]
    excess = np.maximum(maps.astype(float) - np.quantile(good, 0.95), 0)
    literal = np.mean([one[mask].sum() / one.sum() for one, mask in zip(excess, masks, strict=True)])
    assert ours["mass_inside"] == pytest.approx(literal, rel=1e-4)
    again = run("evaluate", tiny_model, parts, "--faithfulness", 5, "--json").json["faithfulness"]
    for name, one in result["methods"].items():
        assert one | {"milliseconds": 0} == again["methods"][name] | {"milliseconds": 0}
    text = run("evaluate", tiny_model, parts, "--faithfulness", 1).out
    assert "this model's" in text
    assert "on 1 defective image (1 mask)" in text


def test_what_cannot_be_studied_is_refused(parts: Path, tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    detector, data = Detector.load(tiny_model), read_data_set(parts)
    good = type(data)(data.root, data.layout, data.train, tuple(one for one in data.test if not one.anomalous))
    with pytest.raises(BlemishError, match="there is none"):
        study(tiny_model, detector, good, images=3)
    save_image(tmp_path / "mask.png", np.eye(SIDE, dtype=np.uint8) * 255)
    with pytest.raises(BlemishError, match="leave out --ignore"):
        study(tiny_model, Detector.load(tiny_model, ignore_mask=tmp_path / "mask.png"), data, images=3)


def test_the_report_has_the_table(parts: Path, tiny_model: Path, tmp_path: Path, run: Callable) -> None:
    pytest.importorskip("captum")
    pytest.importorskip("onnx2torch")
    plain = run("report", tiny_model, parts, "-o", tmp_path / "plain.html")
    assert plain.status == 0
    assert "what the score hangs on" not in (tmp_path / "plain.html").read_text()
    assert run("report", tiny_model, parts, "-o", tmp_path / "page.html", "--faithfulness", 1).status == 0
    page = (tmp_path / "page.html").read_text()
    assert "what the score hangs on" in page
    assert "integrated gradients" in page
