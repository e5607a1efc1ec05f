"""The test of a method: scores, heatmaps and AUROC against scikit-learn, and which test images are taken."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import nn

from blemish.experiments import tester
from blemish.experiments.augmentation import Normalisation, Preparation
from blemish.experiments.data.tasks import ArrayImages, Task
from blemish.experiments.recipe import Augmentation

CPU = torch.device("cpu")


class Shown:
    """A method whose heatmap is the image itself."""

    supervised = False
    network = nn.Identity()

    def scores(self, inputs):
        return inputs.mean((1, 2, 3))

    def maps(self, inputs):
        return inputs[:, 0]


@dataclass(frozen=True)
class Painted:
    masks: list[np.ndarray]

    def read(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.masks[index])


def alternating(images: torch.Tensor, masks: list[np.ndarray] | None) -> tester.Tester:
    anomalous = torch.arange(len(images)) % 2 == 1
    task = Task(ArrayImages(images), ArrayImages(images), anomalous, ("some",) * len(images), masks and Painted(masks))
    size = images.shape[-1]
    return tester.Tester(task, Preparation(size, Augmentation(), Normalisation.none(), "paper"), CPU)


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(8, 61), st.integers(8, 61)), min_size=2, max_size=5),
    mode=st.sampled_from(["paper", "corrected"]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_pixel_auroc_is_scikit_learns_on_heatmaps_at_the_masks_sizes(sizes, mode, seed):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (len(sizes), 1, 8, 8), dtype=np.uint8))
    masks = [rng.random(size) < 0.3 * (k % 2) for k, size in enumerate(sizes)]
    masks[1][0, 0] = True
    how = {"mode": "nearest"} if mode == "paper" else {"mode": "bilinear", "align_corners": False}
    enlarged = [
        F.interpolate(image[None].float() / 255, size=size, **how)[0, 0]
        for image, size in zip(images, sizes, strict=True)
    ]
    labels, values = np.concatenate([mask.ravel() for mask in masks]), torch.cat([one.flatten() for one in enlarged])
    found = alternating(images, masks).pixel_auroc(Shown(), mode=mode)
    # Two ways to interpolate round differently, and what is tied in one need not be in the other.
    assert found == pytest.approx(roc_auc_score(labels, values), abs=1e-9 if mode == "paper" else 2e-3)


def test_without_masks_there_is_no_pixel_auroc():
    assert alternating(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), None).pixel_auroc(Shown(), mode="paper") is None


def test_scores_and_maps_come_in_the_order_of_the_images():
    images = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(200, 1, 8, 8)
    some = alternating(images, None)
    assert np.rint(255 * some.scores(Shown())).tolist() == list(range(200))
    assert np.rint(255 * some.maps(Shown(), [7, 3, 150])[:, 0, 0]).tolist() == [7, 3, 150]
    assert some.anomalous.tolist() == [k % 2 == 1 for k in range(200)]


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.booleans(), min_size=2, max_size=200), at_most=st.integers(1, 50))
def test_a_part_of_the_test_images_has_both_labels(labels, at_most):
    labels[0], labels[-1] = False, True
    count = len(labels)
    images = ArrayImages(torch.zeros(count, 1, 8, 8, dtype=torch.uint8))
    task = Task(images, images, torch.tensor(labels), ("some",) * count)
    prepared = Preparation(8, Augmentation(), Normalisation.none(), "paper")
    part = tester.Tester(task, prepared, CPU, at_most=at_most)
    assert part.indices == sorted(set(part.indices))
    assert part.anomalous.tolist() == [labels[index] for index in part.indices]
    assert set(part.anomalous.tolist()) == {False, True}
    assert len(part.indices) <= at_most + 2
    assert len(tester.Tester(task, prepared, CPU, at_most=count).indices) == count
