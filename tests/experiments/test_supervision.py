"""The anomalous half of the training draws: shares, determinism, labelled images and their masks."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from blemish.errors import BlemishError
from blemish.experiments.augmentation import Normalisation, Preparation
from blemish.experiments.data.tasks import ArrayImages, Task
from blemish.experiments.noise import NOISES
from blemish.experiments.recipe import Augmentation, Supervision
from blemish.experiments.supervision import EpochDataset, Labelled, Noise, Outliers, set_labelled_aside

SIDE = 6
AS_IT_IS = Preparation(SIDE, Augmentation(), Normalisation.none(), "paper")
ONLINE, EVERY = Supervision("outliers"), Supervision("outliers", every=True)
FOREIGN = 128  # grey levels from here on are foreign images


def numbered(count: int, *, first: int = 0) -> ArrayImages:
    """Flat images, each of a grey level of its own."""
    values = torch.arange(first, first + count, dtype=torch.uint8)
    return ArrayImages(values[:, None, None, None].expand(count, 1, SIDE, SIDE))


def of_epoch(nominal, anomalies, *, supervision=ONLINE, passes=1, seed=(0, 0), preparation=AS_IT_IS) -> EpochDataset:
    return EpochDataset.of_epoch(nominal, anomalies, preparation, supervision=supervision, passes=passes, seed=seed)


def numbers(draws: EpochDataset) -> list[tuple[int, bool, bool]]:
    """Of every draw the image's number, whether its mask is full, and whether it is called anomalous."""
    found = []
    for index in range(len(draws)):
        image, mask, anomalous = draws[index]
        assert mask.all() == mask.any()
        found.append((round(255 * float(image[0, 0, 0])), bool(mask.all()), anomalous))
    return found


# Shares


def half(count: int, *, risk: float = 1e-6) -> range:
    """How often a fair coin falls in `count` throws, but for a chance below `risk` on either side."""
    total, sure = 0.0, 0
    while total + math.comb(count, sure) / 2**count < risk:
        total += math.comb(count, sure) / 2**count
        sure += 1
    return range(sure, count - sure + 1)


def test_half_of_the_draws_are_replaced_and_an_epoch_has_as_many_as_there_are_nominal_images():
    drawn = [numbers(of_epoch(numbered(100), Outliers(numbered(20, first=FOREIGN)), seed=(3, k))) for k in range(10)]
    assert {len(epoch) for epoch in drawn} == {100}
    replaced = sum(anomalous for epoch in drawn for _, _, anomalous in epoch)
    assert replaced in half(1000)
    for number, full, anomalous in (draw for epoch in drawn for draw in epoch):
        assert anomalous == full == (number >= FOREIGN)


def test_a_nominal_image_is_never_twice_in_a_pass():
    epoch = numbers(of_epoch(numbered(100), Outliers(numbered(20, first=FOREIGN))))
    assert max(Counter(number for number, _, anomalous in epoch if not anomalous).values()) == 1


def test_outliers_are_drawn_equally_often():
    outliers = Outliers(numbered(20, first=FOREIGN))
    epochs = [numbers(of_epoch(numbered(100), outliers, seed=(0, k))) for k in range(20)]
    counts = np.bincount([number - FOREIGN for epoch in epochs for number, _, bad in epoch if bad], minlength=20)
    expected = counts.sum() / 20
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # the 99.9th percentile at 19 degrees of freedom


def test_without_anomalies_all_nominal_images_come_once_a_pass():
    epoch = numbers(of_epoch(numbered(30), None, passes=3))
    assert Counter(number for number, _, _ in epoch) == dict.fromkeys(range(30), 3)
    assert not any(full or anomalous for _, full, anomalous in epoch)
    for k in range(3):  # pass after pass
        assert {number for number, _, _ in epoch[30 * k : 30 * (k + 1)]} == set(range(30))


def test_an_epoch_of_ten_passes_is_ten_times_as_long():
    assert len(of_epoch(numbered(7), Outliers(numbered(3, first=FOREIGN)), passes=10)) == 70


@pytest.mark.parametrize("passes", [1, 4])
def test_every_outlier_and_every_nominal_image(passes):
    draws = of_epoch(numbered(30), Outliers(numbered(50, first=FOREIGN)), supervision=EVERY, passes=passes)
    epoch = numbers(draws)
    counts = Counter(number for number, _, _ in epoch)
    assert counts == dict.fromkeys(range(30), passes) | dict.fromkeys(range(FOREIGN, FOREIGN + 50), 1)
    assert all(anomalous == full == (number >= FOREIGN) for number, full, anomalous in epoch)
    places = [place for place, (_, _, anomalous) in enumerate(epoch) if anomalous]
    assert np.mean(places) == pytest.approx(len(epoch) / 2, rel=0.2)  # mixed, not one after the other


# Determinism


def busy() -> EpochDataset:
    """A data set in which everything is random."""
    augmentation = Augmentation(padding=1, flip=True, noise=0.05, relative_noise=0.1, jitter=((0.1,) * 4,))
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (23, 3, SIDE, SIDE), dtype=np.uint8))
    prepared = Preparation(SIDE, augmentation, Normalisation.none(), "paper")
    outliers = Outliers(ArrayImages(pixels.flip(0)))
    return of_epoch(ArrayImages(pixels), outliers, preparation=prepared, seed=(4, 2), passes=2)


def everything(**options) -> list[torch.Tensor]:
    return [torch.cat(part) for part in zip(*DataLoader(busy(), **options), strict=True)]


@pytest.mark.parametrize("workers", [0, 1])
def test_draws_do_not_depend_on_batch_size_or_workers(workers):
    one_by_one = everything(batch_size=1)
    together = everything(batch_size=9, num_workers=workers)
    assert len(one_by_one) == 3
    assert all(torch.equal(left, right) for left, right in zip(one_by_one, together, strict=True))


def test_draws_do_not_depend_on_the_order_in_which_they_are_made():
    draws = busy()
    backwards = [draws[index][0] for index in reversed(range(len(draws)))]
    assert all(torch.equal(draws[k][0], image) for k, image in enumerate(reversed(backwards)))


def test_epochs_and_seeds_draw_anew():
    draw = partial(of_epoch, numbered(100), Outliers(numbered(20, first=FOREIGN)))
    drawn = [numbers(draw(seed=seed)) for seed in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert drawn[0] == drawn[3]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
    replaced = [[anomalous for _, _, anomalous in epoch] for epoch in drawn]
    assert replaced[0] != replaced[1] != replaced[2] != replaced[0]


# Noise


@pytest.mark.parametrize("name", ["confetti", "perlin", *NOISES])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_changes_the_nominal_image(name, channels):
    rng = np.random.default_rng(0)
    nominal = torch.from_numpy(rng.integers(60, 200, (channels, 48, 40), dtype=np.uint8))
    before = nominal.clone()
    noisy, everywhere = Noise(name, changed=False).draw(nominal, np.random.default_rng(1))
    again, changed = Noise(name, changed=True).draw(nominal, np.random.default_rng(1))
    assert torch.equal(nominal, before)
    assert torch.equal(noisy, again)
    assert (noisy.shape, noisy.dtype) == (nominal.shape, torch.uint8)
    assert everywhere.all()
    assert changed.any()
    for row, column in np.ndindex(48, 40):
        assert changed[row, column] == any(noisy[c, row, column] != nominal[c, row, column] for c in range(channels))


# Labelled images


@dataclass(frozen=True)
class Dots:
    """Masks of one pixel each, at a place that tells the image's number."""

    kinds: tuple[str, ...]

    def read(self, index: int) -> torch.Tensor:
        mask = torch.zeros(60, 90, dtype=torch.bool)
        if self.kinds[index] != "good":
            mask[index % 60, (7 * index) % 90] = True
        return mask


def inspection(kinds: tuple[str, ...]) -> Task:
    anomalous = torch.tensor([kind != "good" for kind in kinds])
    return Task(numbered(5), numbered(len(kinds)), anomalous, kinds, Dots(kinds))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(3, 8), min_size=1, max_size=4), good=st.integers(1, 6), per_kind=st.integers(1, 2),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_labelled_images_leave_the_test_set(counts, good, per_kind, seed):
    kinds = ["good"] * good + [f"kind-{k}" for k, count in enumerate(counts) for _ in range(count)]
    kinds = tuple(np.random.default_rng(seed).permutation(kinds).tolist())
    task = inspection(kinds)
    rest, labelled = set_labelled_aside(task, per_kind=per_kind, seed=seed)

    taken = [int(labelled.images.read(k)[0, 0, 0]) for k in range(len(labelled.images))]
    left = [int(rest.test.read(k)[0, 0, 0]) for k in range(len(rest.test))]
    assert sorted(taken + left) == list(range(len(kinds)))  # none lost, none in both
    assert Counter(kinds[number] for number in taken) == {f"kind-{k}": per_kind for k in range(len(counts))}

    assert rest.kinds == tuple(kinds[number] for number in left)
    assert rest.anomalous.tolist() == [kinds[number] != "good" for number in left]
    assert all(torch.equal(rest.masks.read(k), task.masks.read(number)) for k, number in enumerate(left))
    assert rest.nominal is task.nominal

    again = set_labelled_aside(task, per_kind=per_kind, seed=seed)[1]
    assert [int(again.images.read(k)[0, 0, 0]) for k in range(len(again.images))] == taken


def test_seeds_choose_different_images():
    task = inspection(("good",) * 5 + ("crack",) * 20)
    chosen = {int(set_labelled_aside(task, per_kind=1, seed=seed)[1].images.read(0)[0, 0, 0]) for seed in range(20)}
    assert len(chosen) > 8


@settings(max_examples=60, deadline=None)
@given(
    mask=st.tuples(st.integers(1, 40), st.integers(1, 40)), image=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_a_mask_brought_to_the_images_size_keeps_every_defective_pixel(mask, image, seed):
    rng = np.random.default_rng(seed)
    painted = rng.random(mask) < rng.choice([0.02, 0.5])

    class One:
        def read(self, index: int) -> torch.Tensor:
            return torch.from_numpy(painted)

    tests = ArrayImages(torch.zeros(2, 1, *image, dtype=torch.uint8))
    task = Task(numbered(1), tests, torch.tensor([True, True]), ("crack",) * 2, One())
    shrunk = set_labelled_aside(task, per_kind=1, seed=0)[1].masks[0]
    assert shrunk.shape == image
    for row, column in np.argwhere(painted):
        # The cell that holds the pixel's middle.
        assert shrunk[int((row + 0.5) * image[0] / mask[0]), int((column + 0.5) * image[1] / mask[1])]
    for row, column in np.argwhere(shrunk.numpy()):
        rows = slice(row * mask[0] // image[0], -(-(row + 1) * mask[0] // image[0]))
        columns = slice(column * mask[1] // image[1], -(-(column + 1) * mask[1] // image[1]))
        assert painted[rows, columns].any()  # and nothing is made up


def test_labelled_images_are_drawn_equally_often_each_with_its_mask():
    masks = [torch.zeros(SIDE, SIDE, dtype=torch.bool) for _ in range(4)]
    for number, mask in enumerate(masks):
        mask[number, number] = True
    rng, drawn = np.random.default_rng(0), Counter()
    labelled = Labelled(numbered(4, first=FOREIGN), masks)
    for _ in range(400):
        image, mask = labelled.draw(torch.zeros(1, SIDE, SIDE, dtype=torch.uint8), rng)
        number = int(image[0, 0, 0]) - FOREIGN
        assert torch.nonzero(mask).tolist() == [[number, number]]
        drawn[number] += 1
    assert all(60 <= drawn[number] <= 140 for number in range(4))  # binomial(400, 1/4), 4.6 deviations


@pytest.mark.parametrize(("per_kind", "there"), [(1, 1), (3, 3), (5, 2)])
def test_too_few_labelled_images_are_refused(per_kind, there):
    task = inspection(("good",) * 4 + ("crack",) * 9 + ("hole",) * there)
    with pytest.raises(BlemishError, match=f"of hole there are {there} test images: {per_kind} to learn from"):
        set_labelled_aside(task, per_kind=per_kind, seed=0)


def test_a_data_set_without_masks_is_refused():
    task = Task(numbered(2), numbered(4), torch.tensor([False, False, True, True]), ("good",) * 2 + ("hole",) * 2)
    with pytest.raises(BlemishError, match="no masks to learn from; choose another"):
        set_labelled_aside(task, per_kind=1, seed=0)
