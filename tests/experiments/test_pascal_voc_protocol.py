"""The recipe pascal-voc on a tiny VOC: the roles are swapped, so that the heatmaps show what looks like a horse."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from blemish.experiments.methods import Fcdd
from blemish.experiments.recipe import Recipe
from blemish.experiments.runner import Plan, run_experiment
from blemish.experiments.trial import Settings
from helpers.images import save_image

SIDE = 32
# Objects of each photograph; the paper learns from the train split's horses and tests on all of the val split.
TRAIN = [["horse"], ["horse", "person"], ["person"], ["person", "horse"], ["dog"], ["horse"]] * 2
VAL = [["person"], ["horse"], ["person", "horse"], ["cow"], ["dog", "person"], ["horse", "dog"]] * 2
CONTAINS_HORSE = [False, True, True, False, False, True] * 2


def photograph(seed: int, *, horse: bool) -> np.ndarray:
    """Noise, uint8 (36, 48, 3); a horse is a brown field with black stripes, about half of it."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 200, (36, 48, 3), dtype=np.uint8)
    if horse:
        left = int(rng.integers(0, 24))
        pixels[4:32, left : left + 24] = (150, 90, 40)
        pixels[4:32, left : left + 24 : 4] = 0
    return pixels


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("voc")
    home = root / "VOCdevkit" / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main"):
        (home / folder).mkdir(parents=True)
    for split, photographs in (("train", TRAIN), ("val", VAL)):
        names = [f"{split}{number:02}" for number in range(len(photographs))]
        (home / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")
        for seed, (name, objects) in enumerate(zip(names, photographs, strict=True)):
            pixels = photograph(seed + 100 * (split == "val"), horse="horse" in objects)
            save_image(home / "JPEGImages" / f"{name}.png", pixels).rename(home / "JPEGImages" / f"{name}.jpg")
            entries = "".join(f"<object><name>{entry}</name></object>" for entry in objects)
            (home / "Annotations" / f"{name}.xml").write_text(f"<annotation>{entries}</annotation>", "utf-8")
    return root


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("foreign")
    for number in range(8):
        save_image(root / f"{number}.png", photograph(1000 + number, horse=False))
    return root


@dataclass(frozen=True)
class Outcome:
    """What a run left, and what its objective was given.

    Attributes:
        inputs: all network inputs (N, 3, S, S) of the training.
        on_the_anomalous_side: bool (N,), the labels that went with them.
    """

    labels: np.ndarray
    scores: np.ndarray
    image_auroc: float
    inputs: torch.Tensor
    on_the_anomalous_side: torch.Tensor


@pytest.fixture(scope="module", params=[True, False], ids=["swapped", "not swapped"])
def experiment(request, voc, foreign, tmp_path_factory) -> tuple[bool, Outcome]:
    """The recipe as it is or without the swap, but with a small network, small images and few epochs."""
    recipe = Recipe.load("pascal-voc")
    assert recipe.swap_roles
    smaller = {"network": "cnn32-s", "size": SIDE, "reading.size": SIDE, "sigma": 2.0}
    for setting, value in (smaller | {"training.batch": 8, "training.passes": 16, "swap_roles": request.param}).items():
        recipe = recipe.with_setting(setting, value)
    folder = tmp_path_factory.mktemp("out")
    settings = Settings(epochs=3, device="cpu", points=1)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    loss = Fcdd.loss

    def watched(self, network, inputs, masks, anomalous):
        seen.append((inputs, anomalous))
        return loss(self, network, inputs, masks, anomalous)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fcdd, "loss", watched)
        plan = Plan(recipe, ("fcdd",), (), 1, voc, str(foreign), folder, settings)
        run_experiment(plan, progress=lambda *_: None, notify=lambda _: None)
    made = folder / "runs" / "fcdd" / "horse" / "seed-0"
    with open(made / "scores.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return request.param, Outcome(
        np.array([row["anomalous"] == "1" for row in rows]),
        np.array([float(row["score"]) for row in rows]),
        json.loads((made / "run.json").read_text("utf-8"))["image_auroc"],
        *(torch.cat(parts) for parts in zip(*seen, strict=True)),
    )


def test_the_test_labels_say_what_contains_a_horse(experiment):
    swapped, outcome = experiment
    assert (outcome.labels == swapped).tolist() == CONTAINS_HORSE
    assert outcome.image_auroc == pytest.approx(roc_auc_score(outcome.labels, outcome.scores))


def test_horses_score_higher_only_where_the_roles_are_swapped(experiment):
    swapped, outcome = experiment
    horses = roc_auc_score(CONTAINS_HORSE, outcome.scores)
    assert horses > 0.8 if swapped else horses < 0.2


def test_the_loss_has_the_horses_on_the_anomalous_side_only_where_the_roles_are_swapped(experiment):
    swapped, outcome = experiment
    redness = (outcome.inputs[:, 0] - outcome.inputs[:, 2]).mean((1, 2))  # a horse is brown, all else is grey
    shows_horse = redness > (redness.min() + redness.max()) / 2
    assert outcome.on_the_anomalous_side.tolist() == (shows_horse == swapped).tolist()
    assert 0.3 < shows_horse.float().mean() < 0.7  # half of the draws are foreign photographs
