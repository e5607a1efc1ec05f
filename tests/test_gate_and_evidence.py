"""What the gate and the evidence learn, on features simple enough to be read: mean and contrast of small cells."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from blemish import evidence, gate
from blemish.closed_form import FOLDS, CrossFit
from blemish.evidence import learn_evidence
from blemish.gate import learn_gate
from blemish.networks.cells import CellNetwork
from blemish.networks.gaussian import GaussianHead, View
from blemish.networks.heads import Head, with_distance
from blemish.refinement import Training
from blemish.synthetic.turned import ANY
from blemish.training_anomalies import Alteration, Anomaly

SIDE, CELL, C = 32, 4, 4
GRID = (SIDE // CELL, SIDE // CELL)
FIT, VALIDATION = list(range(1, 23)), list(range(24, 34))
MORE = FIT + VALIDATION


def extract(images: np.ndarray) -> torch.Tensor:
    """Features (N, 4, 8, 8): the mean of each channel and the contrast, cell by cell."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    mean = F.avg_pool2d(pixels, CELL)
    contrast = (F.avg_pool2d(pixels**2, CELL) - mean**2).clamp(min=0).sum(1, keepdim=True).sqrt()
    return 10 * torch.cat([mean, contrast], dim=1)


def with_maps(images: np.ndarray) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The same, and a map of the backbone's that these networks do not look at."""
    features = extract(images)
    return features, [torch.full_like(features, torch.nan)]


def new_evidence() -> CellNetwork:
    torch.manual_seed(0)
    return CellNetwork(channels=C, hidden=64, wide=True)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noise whose brightness varies from image to image in the right half: what a gate should learn to ignore."""
    rng = np.random.default_rng(0)
    made = rng.normal(120, 12, (36, SIDE, SIDE, 3))
    made[:, :, SIDE // 2 :] += rng.normal(0, 25, (36, 1, 1, 1))
    return made.clip(0, 255).astype(np.uint8)


def cross_fit_to(images: np.ndarray, fit: list[int]) -> CrossFit:
    cross_fit = CrossFit(GaussianHead([View.whole(C)], grid=GRID))
    cross_fit.fit([extract(images[fit])])
    return cross_fit


def seen(head: GaussianHead, images: np.ndarray) -> torch.Tensor:
    """What a gate looks at."""
    whitened = head.whiten(extract(images))
    return with_distance(whitened, head.distance(whitened))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MOST_SYNTHETIC", 200)
    monkeypatch.setattr(evidence, "COPIES", 20)


@pytest.fixture
def learn(images: np.ndarray, training: Training, few: None) -> Callable[[CrossFit], CellNetwork]:
    return partial(learn_gate, images=images, fit=FIT, kind="scars", extract=extract, training=training)


# The gate


def test_the_head_is_fitted_to_all_images_afterwards(images: np.ndarray, learn: Callable) -> None:
    cross_fit = cross_fit_to(images, FIT)
    before = {name: value.clone() for name, value in cross_fit.head.state_dict().items()}
    learn(cross_fit)
    torch.testing.assert_close(dict(cross_fit.head.state_dict()), before, rtol=0, atol=0)


def test_the_usual_left_out_logit_stands_at_zero_with_spread_one(images: np.ndarray, learn: Callable) -> None:
    cross_fit = cross_fit_to(images, FIT)
    learned = learn(cross_fit)
    standing = []
    with torch.inference_mode():
        for fold in range(FOLDS):  # by hand: a head that never saw the fold, on the scale of all
            others = [index for place, index in enumerate(FIT) if place % FOLDS != fold]
            own = [index for place, index in enumerate(FIT) if place % FOLDS == fold]
            head = cross_fit_to(images, others).head
            head.scale.copy_(cross_fit.head.scale)
            standing.append(learned.standing(seen(head, images[own])).flatten())
    values = torch.cat(standing).double().numpy()
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.std() == pytest.approx(1, abs=0.02)


def test_the_gate_quietens_good_images_more_than_defects(images: np.ndarray, learn: Callable) -> None:
    cross_fit = cross_fit_to(images, FIT)
    learned = learn(cross_fit)
    dented = images[VALIDATION].copy()
    dented[:, 8:16, 4:12] = 60
    with torch.inference_mode():
        good, bad = (
            torch.sigmoid(learned.standing(seen(cross_fit.head, some))) for some in (images[VALIDATION], dented)
        )
    assert bad[:, 2:4, 1:3].mean() > good.mean() + 0.2


@pytest.mark.parametrize(("fitted", "number"), [(22, 200), (5, 60), (3, 36)], ids=["many", "some", "few"])
def test_every_image_is_painted_on_as_often_and_seen_by_a_head_that_left_it_out(
    fitted: int, number: int, images: np.ndarray, learn: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_PER_IMAGE", 12)
    cross_fit = cross_fit_to(images, FIT[:fitted])
    folds, painted = [], []
    leave_out, paint = cross_fit.leave_out, gate.paint

    def note_fold(fold: int) -> torch.Tensor:
        folds.append(fold)
        return leave_out(fold)

    def note_image(images: np.ndarray, index: int, *arguments: object, nominal: list[int], **options: object) -> object:
        assert nominal == FIT[:fitted]
        assert FIT.index(index) % FOLDS == folds[-1]
        painted.append(index)
        return paint(images, index, *arguments, nominal=nominal, **options)

    monkeypatch.setattr(cross_fit, "leave_out", note_fold)
    monkeypatch.setattr(gate, "paint", note_image)
    learn(cross_fit, fit=FIT[:fitted])
    assert len(painted) == number
    times = np.unique(painted, return_counts=True)[1]
    assert len(times) == fitted
    assert times.max() - times.min() <= 1


# The evidence


def stained(images: np.ndarray, seed: int) -> list[Anomaly]:
    """Good images, each with a red stain somewhere."""
    rng, made = np.random.default_rng(seed), []
    for index in FIT:
        image, mask = images[index].copy(), np.zeros((SIDE, SIDE), dtype=bool)
        top, left = rng.integers(0, SIDE - 8, 2)
        mask[top : top + 8, left : left + 8] = True
        image[mask] = (150, 110, 110)
        made.append(Anomaly(image, mask, kind="stain"))
    return made


@pytest.fixture
def learn_stains(images: np.ndarray, training: Training, few: None) -> Callable[..., CellNetwork]:
    """Learns evidence from stains on the images FIT."""

    def learn(head: Head, cross_fit: CrossFit, images: np.ndarray = images, **options: Any) -> CellNetwork:
        learned = new_evidence()
        options = {"fit": MORE, "validation": VALIDATION, "training": training} | options
        learn_evidence(
            learned,
            head,
            cross_fit,
            images,
            anomalies=stained(images, 0),
            alteration=Alteration(ANY),
            extract=with_maps,
            **options,
        )
        return learned

    return learn


def loud(maps: np.ndarray) -> float:
    """What maps (N, h, w) reach, the mean of those not below the median."""
    largest = maps.max((1, 2))
    return float(largest[largest >= np.median(largest)].mean())


@pytest.mark.parametrize("gated", [False, True], ids=["closed form", "gated"])
def test_evidence_reaches_on_the_louder_good_images_a_little_less_than_norms_that_left_them_out(
    gated: bool, images: np.ndarray, learn: Callable, learn_stains: Callable
) -> None:
    cross_fit = cross_fit_to(images, MORE)
    gate = learn(cross_fit, fit=MORE) if gated else None
    learned = learn_stains(Head(cross_fit.head, gate=gate), cross_fit)
    maps = []
    with torch.inference_mode():
        for fold in range(FOLDS):  # by hand: a head that never saw the fold, on the scale of all
            head = cross_fit_to(images, [index for place, index in enumerate(MORE) if place % FOLDS != fold]).head
            head.scale.copy_(cross_fit.head.scale)
            own = [index for index in MORE[fold::FOLDS] if index in VALIDATION]
            maps.append(Head(head, gate=gate)(extract(images[own])))
        standing = learned.standing(extract(images[VALIDATION])).double().numpy()
    norms = np.sqrt((torch.cat(maps).double().numpy() + 1) ** 2 - 1)  # A = sqrt(norm^2 + 1) - 1
    assert np.median(standing) == pytest.approx(0, abs=0.01)
    assert loud(standing) == pytest.approx(0.85 * loud(norms), rel=1e-3)
    everything = dict(cross_fit_to(images, MORE).head.state_dict())
    torch.testing.assert_close(dict(cross_fit.head.state_dict()), everything, rtol=0, atol=0)


@pytest.mark.parametrize("gated", [False, True], ids=["closed form", "gated"])
def test_without_validation_images_the_known_ones_give_evidence_its_unit(
    gated: bool, images: np.ndarray, learn: Callable, learn_stains: Callable
) -> None:
    cross_fit = cross_fit_to(images, FIT)
    head = Head(cross_fit.head, gate=learn(cross_fit) if gated else None)
    learned = learn_stains(head, cross_fit, fit=FIT, validation=[])
    with torch.inference_mode():
        features = extract(images[FIT])
        both = learned.standing(features), ((head(features) + 1).square() - 1).sqrt()
    assert float(both[0].median()) == pytest.approx(0, abs=0.01)
    reached, usual = (loud(values.double().numpy()) for values in both)
    assert reached == pytest.approx(0.85 * usual, rel=1e-3)


def test_evidence_takes_nothing_but_its_unit_from_validation_images(images: np.ndarray, learn_stains: Callable) -> None:
    other, cross_fit = images.copy(), cross_fit_to(images, MORE)
    other[VALIDATION] = np.random.default_rng(9).integers(0, 256, other[VALIDATION].shape)
    before, after = (
        learn_stains(Head(cross_fit.head), cross_fit, images=some).state_dict() for some in (images, other)
    )
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"centre", "spread"}


@torch.inference_mode()
def test_on_small_cells_evidence_is_one_more_element_of_the_norm(images: np.ndarray) -> None:
    head = Head(cross_fit_to(images, FIT).head)
    features = extract(images[VALIDATION])
    distance = head.gaussian(features).double().numpy()
    head.evidence = new_evidence().eval()
    logits = head.evidence(features)
    head.evidence.centre.fill_(logits.median())
    head.evidence.spread.fill_(0.5 * logits.std())
    standing = ((logits - logits.median()) / (0.5 * logits.std())).clamp(min=0).double().numpy()
    norm = np.linalg.norm([distance, standing], axis=0)
    np.testing.assert_allclose(head(features).numpy(), np.sqrt(norm**2 + 1) - 1, rtol=1e-3, atol=1e-5)


def test_evidence_is_learned_wherever_the_defect_lies(
    images: np.ndarray, training: Training, learn_stains: Callable
) -> None:
    cross_fit = cross_fit_to(images, MORE)
    learned = learn_stains(Head(cross_fit.head), cross_fit, training=replace(training, epochs=25))
    new = stained(images, 5)
    with torch.inference_mode():
        standing = learned.standing(extract(np.stack([one.image for one in new]))).numpy()
    cells = np.stack([one.mask.reshape(GRID[0], CELL, GRID[1], CELL).mean((1, 3)) for one in new])
    assert roc_auc_score(cells[(cells == 0) | (cells == 1)], standing[(cells == 0) | (cells == 1)]) > 0.97
