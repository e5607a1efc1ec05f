"""Training small networks on cached features: what is drawn, what is learned, where a killed run goes on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from blemish.networks.defect_branch import CellClassifier
from blemish.training.config import DefectBranchConfig
from blemish.training.trainer import Anomalies, Training, coverage
from blemish.training.trainer import train_classifier as plain_train_classifier

C, ROWS, COLUMNS = 4, 6, 8
BATCH, LEARNING_RATE = 16, 2e-3
train_classifier = partial(plain_train_classifier, config=DefectBranchConfig())


def nominal_features(images: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, C, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed)).half()


def anomalies_of(kinds: list[int], *, seed: int = 1) -> Anomalies:
    """A dent of two by two cells in two channels of every image."""
    features, covered = nominal_features(len(kinds), seed=seed), torch.zeros(len(kinds), ROWS, COLUMNS)
    for number in range(len(kinds)):
        row, column = number % (ROWS - 1), number % (COLUMNS - 1)
        features[number, :2, row : row + 2, column : column + 2] -= 3
        covered[number, row : row + 2, column : column + 2] = 1
    return Anomalies(features, covered, torch.tensor(kinds))


def network() -> CellClassifier:
    torch.manual_seed(0)
    return CellClassifier(C, hidden=8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32))
def test_coverage_is_the_share_of_each_cell(rows: int, columns: int, tall: int, wide: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows * tall, columns * wide)) < 0.4
    expected = np.zeros((rows, columns))
    for r in range(rows * tall):
        for c in range(columns * wide):
            expected[r // tall, c // wide] += mask[r, c] / (tall * wide)
    got = coverage(mask, (rows, columns))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_coverage_of_nothing_and_of_everything_is_exact() -> None:
    # Cells count as nominal only where their coverage is 0 to the last bit.
    assert torch.equal(coverage(np.zeros((32, 48), dtype=bool), (4, 6)), torch.zeros(4, 6))
    assert torch.equal(coverage(np.ones((32, 48), dtype=bool), (4, 6)), torch.ones(4, 6))


def test_it_learns_to_tell_anomalous_cells(training: Training) -> None:
    trained = network()
    train_classifier(
        trained,
        nominal=nominal_features(60),
        anomalies=anomalies_of([0] * 90),
        training=training,
        stage="defect branch",
    )
    new = anomalies_of([0] * 40, seed=9)
    with torch.inference_mode():
        logits = trained(new.features.float())
    assert roc_auc_score(new.coverage.flatten() > 0, logits.flatten()) > 0.97


def test_half_of_a_batch_is_nominal_and_every_kind_is_drawn_as_often(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = [0] * 150 + [1] * 9 + [2]
    known = anomalies_of(kinds)
    marked = replace(known, coverage=torch.tensor(kinds)[:, None, None].expand(-1, ROWS, COLUMNS) * 0.25 + 0.25)
    drawn: Counter[float] = Counter()

    def note(logits: torch.Tensor, covered: torch.Tensor, **constants: float) -> torch.Tensor:
        assert len(logits) == len(covered) == 2 * BATCH
        drawn.update(covered[:, 0, 0].tolist())
        return logits.mean()

    data = {"nominal": nominal_features(20), "anomalies": marked}
    monkeypatch.setattr("blemish.training.trainer.detection_loss", note)
    train_classifier(network(), **data, training=training, stage="defect branch")
    assert drawn[0.0] == drawn.total() / 2 == 4 * 10 * BATCH  # epochs, steps of 160 anomalies
    for kind in (0.25, 0.5, 0.75):
        assert 160 < drawn[kind] < 267  # a third of 640, six deviations to either side


def test_a_batch_is_varied_before_it_is_learned_from(training: Training) -> None:
    varied: list[torch.Tensor] = []

    def shifted(features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        varied.append(features + torch.rand(1, generator=generator))
        return varied[-1]

    class Noting(CellClassifier):
        seen: ClassVar[list[torch.Tensor]] = []

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            self.seen.append(features.clone())
            return super().forward(features)

    data = {"nominal": nominal_features(5), "anomalies": anomalies_of([0])}
    train_classifier(
        Noting(C, hidden=8), **data, training=training, stage="defect branch", feature_augmentation=shifted
    )
    torch.testing.assert_close(Noting.seen, varied)
    offsets = {round(float((after - before).mean()), 4) for after, before in zip(varied[1:], varied[:-1], strict=True)}
    assert len(offsets) == 3  # another draw each epoch


def test_progress_counts_epochs(training: Training) -> None:
    told = []
    noted = replace(training, progress=lambda *step: told.append(step))
    train_classifier(
        network(), nominal=nominal_features(5), anomalies=anomalies_of([0]), training=noted, stage="defect branch"
    )
    assert told == [("defect branch", done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize("died_after", [1, 3, 4], ids=["first", "third", "last"])
def test_a_killed_run_ends_in_the_same_weights(training: Training, killed_after: Callable, died_after: int) -> None:
    nominal, known = nominal_features(20), anomalies_of([0] * 30)
    whole = network()
    train_classifier(whole, nominal=nominal, anomalies=known, training=training, stage="whole")

    with killed_after(died_after):
        train_classifier(network(), nominal=nominal, anomalies=known, training=training, stage="killed")
    told: list[str] = []
    resumed = CellClassifier(C, hidden=8)
    told_to = replace(training, notify=told.append)
    train_classifier(resumed, nominal=nominal, anomalies=known, training=told_to, stage="killed")
    assert told == [f"killed: resumed after epoch {died_after} of 4"]
    torch.testing.assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)


def test_a_state_of_another_training_or_stage_is_not_resumed_from(training: Training) -> None:
    nominal, known = nominal_features(20), anomalies_of([0] * 30)
    train_classifier(network(), nominal=nominal, anomalies=known, training=training, stage="defect branch")
    told: list[str] = []
    for key, stage in (("another training", "defect branch"), ("one training", "another stage")):
        other = replace(training, key=key, notify=told.append)
        train_classifier(network(), nominal=nominal, anomalies=known, training=other, stage=stage)
    assert told == []  # nothing was resumed


def test_the_learning_rate_rises_then_falls_to_nothing(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step = torch.optim.AdamW.step

    def note(self: torch.optim.AdamW, *arguments: object, **options: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", note)
    train_classifier(
        network(),
        nominal=nominal_features(20),
        anomalies=anomalies_of([0] * 400),
        training=training,
        stage="defect branch",
    )
    assert len(rates) == 4 * 25
    highest = int(np.argmax(rates))
    assert highest == 30
    assert rates[highest] == pytest.approx(LEARNING_RATE)
    assert (np.diff(rates[: highest + 1]) > 0).all()
    assert (np.diff(rates[highest:]) < 0).all()
    assert rates[-1] < 0.01 * LEARNING_RATE
