"""What a training log gets: a point of each curve after every epoch, at the steps of the whole training."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from blemish.networks.defect_branch import CellClassifier
from blemish.training.config import DefectBranchConfig
from blemish.training.trainer import Anomalies, Training, train_classifier


class Recorder:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, int], float] = {}

    def scalar(self, name: str, value: float, step: int) -> None:
        assert (name, step) not in self.points
        self.points[name, step] = value

    def close(self) -> None:
        raise AssertionError("whoever opened the log closes it")


def learn(training: Training) -> CellClassifier:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(40, 4, 6, 8, generator=generator).half()
    covered = torch.zeros(20, 6, 8)
    covered[:, 2:4, 2:4] = 1
    anomalies = Anomalies(features[20:] - 3 * covered[:, None].half(), covered, torch.zeros(20, dtype=torch.int64))
    torch.manual_seed(0)
    network = CellClassifier(4, hidden=8)
    train_classifier(
        network,
        nominal=features[:20],
        anomalies=anomalies,
        training=training,
        stage="defect branch",
        config=DefectBranchConfig(),
    )
    return network


def test_loss_and_learning_rate_come_after_each_epoch(training: Training) -> None:
    log = Recorder()
    learn(replace(training, log=log))
    assert set(log.points) == {(name, step) for name in ("loss", "learning rate") for step in (1, 2, 3, 4)}
    assert log.points["loss", 4] < log.points["loss", 1]
    assert log.points["learning rate", 4] == pytest.approx(0, abs=1e-9)  # where the cosine ends


def test_a_log_changes_no_weight(training: Training) -> None:
    plain = learn(replace(training, key="plain"))
    logged = learn(replace(training, key="logged", log=Recorder()))
    torch.testing.assert_close(dict(logged.state_dict()), dict(plain.state_dict()), rtol=0, atol=0)


def test_the_curve_of_a_resumed_training_goes_on_at_its_step(training: Training, killed_after: Callable) -> None:
    whole, resumed = Recorder(), Recorder()
    learn(replace(training, key="whole", log=whole))
    with killed_after(2):
        learn(training)
    learn(replace(training, log=resumed))
    assert resumed.points == {point: value for point, value in whole.points.items() if point[1] > 2}
