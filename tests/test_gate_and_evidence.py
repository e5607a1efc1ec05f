"""What the gate and the evidence learn, on features simple enough to be read: mean and contrast of small cells."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

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


@pytest.mark.parametrize("gated", [False, True], ids=["closed form", "gated"])
@pytest.mark.parametrize("validation", [VALIDATION, []], ids=["held back", "none held back"])
def test_evidence_reaches_on_rare_good_images_what_the_norm_reaches(
    validation: list[int], gated: bool, images: np.ndarray, training: Training, learn: Callable
) -> None:
    cross_fit = cross_fit_to(images, FIT)
    head = Head(cross_fit.head, gate=learn(cross_fit) if gated else None)
    known, learned = stained(images, 0), new_evidence()
    learn_evidence(
        learned,
        head,
        images,
        FIT,
        validation,
        known,
        alteration=Alteration(ANY),
        extract=with_maps,
        training=training,
    )
    with torch.inference_mode():
        features = extract(images[validation or FIT])
        standing = learned.standing(features).double().numpy()
        norms = np.sqrt((head(features).double().numpy() + 1) ** 2 - 1)  # A = sqrt(norm^2 + 1) - 1
    assert np.median(standing) == pytest.approx(0, abs=0.01)
    loud, usual = (np.quantile(values.max((1, 2)), 0.9) for values in (standing, norms))
    assert loud == pytest.approx(usual, rel=1e-3)


def test_evidence_is_learned_wherever_the_defect_lies(images: np.ndarray, training: Training, few: None) -> None:
    head = Head(cross_fit_to(images, FIT).head)
    longer = replace(training, epochs=25)
    known, new, learned = stained(images, 0), stained(images, 5), new_evidence()
    learn_evidence(
        learned, head, images, FIT, VALIDATION, known, alteration=Alteration(ANY), extract=with_maps, training=longer
    )
    with torch.inference_mode():
        standing = learned.standing(extract(np.stack([one.image for one in new]))).numpy()
    cells = np.stack([one.mask.reshape(GRID[0], CELL, GRID[1], CELL).mean((1, 3)) for one in new])
    assert roc_auc_score(cells[(cells == 0) | (cells == 1)], standing[(cells == 0) | (cells == 1)]) > 0.97
