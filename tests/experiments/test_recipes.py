"""The recipes against the paper's settings, written down here from the paper's appendix and the authors' code."""

import math
from dataclasses import dataclass, replace

import pytest

from blemish.errors import BlemishError
from blemish.experiments.networks import fcdd as paper
from blemish.experiments.networks.vgg import random_trunk
from blemish.experiments.noise import NOISES
from blemish.experiments.recipe import Augmentation, Recipe, Supervision, names
from blemish.plugins import SYNTHETIC


@dataclass(frozen=True)
class Printed:
    """What was published for one experiment.

    Attributes:
        schedule: factor on the learning rate -> epochs done when it holds, the batch's being counted from 0.
        place: n, j, r, s of the network's cells: their number a side, stride, extent and first centre in pixels.
    """

    network: str
    size: int
    channels: int
    optimiser: str
    learning_rate: float
    schedule: dict[int, float]
    epochs: int
    batch: int
    weight_decay: float
    outliers: str | None
    sigma: float
    quantile: float
    place: tuple[int, int, int, float]


STEPS = {0: 1, 399: 1, 400: 0.1, 499: 0.1, 500: 0.01, 599: 0.01}
FADING_98 = {0: 1, 1: 0.98, 10: 0.98**10, 399: 0.98**399}
FADING_985 = {0: 1, 1: 0.985, 10: 0.985**10, 199: 0.985**199}
CNN28, CNN32, VGG = (7, 4, 16, 1.5), (8, 4, 22, 1.5), (28, 8, 62, 3.5)
MVTEC = Printed("vgg11-f", 224, 3, "sgd", 1e-3, FADING_985, 200, 16 * 8, 1e-4, None, sigma=12, quantile=0.99, place=VGG)
PRINTED = {
    "fashion-mnist": Printed(
        "cnn28-w", 28, 1, "sgd", 1e-2, FADING_98, 400, 128, 1e-6, "cifar100", sigma=1.2, quantile=0.85, place=CNN28
    ),
    "cifar10": Printed(
        "cnn32-lw3k", 32, 3, "adam", 1e-3, STEPS, 600, 20 * 10, 1e-6, "cifar100", sigma=1.2, quantile=0.85, place=CNN32
    ),
    "imagenet30": Printed(
        "vgg11-nopt", 224, 3, "adam", 1e-3, STEPS, 600, 20 * 10, 1e-6, "imagenet", sigma=8, quantile=0.97, place=VGG
    ),
    "mvtec": MVTEC,
    "mvtec-semi": MVTEC,
    "pascal-voc": Printed(
        "vgg11-nopt", 224, 3, "adam", 1e-3, STEPS, 600, 200, 1e-6, "imagenet", sigma=8, quantile=0.99, place=VGG
    ),
}


@pytest.mark.parametrize("name", PRINTED)
def test_hyper_parameters_are_the_papers(name):
    recipe, printed = Recipe.load(name), PRINTED[name]
    training = recipe.training
    assert (recipe.network, recipe.size, recipe.reading.channels) == (printed.network, printed.size, printed.channels)
    assert (training.optimiser, training.epochs, training.batch) == (printed.optimiser, printed.epochs, printed.batch)
    assert training.weight_decay == printed.weight_decay
    assert recipe.supervision.outliers == printed.outliers
    assert (recipe.sigma, recipe.quantile, recipe.seeds) == (printed.sigma, printed.quantile, 5)
    for epoch, factor in printed.schedule.items():
        assert math.isclose(training.rate(epoch), printed.learning_rate * factor, rel_tol=1e-9), epoch


PIPELINES = {
    # padding, flip, jitter, noise, normalisation, raw size, whether square
    "fashion-mnist": (Augmentation(padding=2, flip=True), "lcn", None, True),
    "cifar10": (Augmentation(padding=4, flip=True, jitter=((0.01,) * 4,), noise=0.001), "standard", None, True),
    "imagenet30": (Augmentation(flip=True, jitter=((0.01,) * 4,), noise=0.001), "imagenet", 256, False),
    "mvtec": (
        Augmentation(
            crop_or_resize=True, jitter=((0.04,) * 4, (0.005, 0.0005, 0.0005, 0.0005)), relative_noise=0.1
        ),
        "lcn",
        240,
        True,
    ),
    "pascal-voc": (Augmentation(jitter=((0.01,) * 4,), noise=0.001), "standard", 224, True),
}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_images_go_through_the_papers_pipeline(name):
    recipe = Recipe.load(name)
    augmentation, normalisation, raw, square = PIPELINES[name.removesuffix("-semi")]
    assert recipe.augmentation == augmentation
    assert recipe.normalisation == normalisation
    assert recipe.reading.size == raw
    assert recipe.reading.square is square


@pytest.mark.parametrize(
    ("name", "supervision", "passes", "pixel_wise", "swapped"),
    [
        ("fashion-mnist", Supervision("outliers", "cifar100"), 1, False, False),
        ("cifar10", Supervision("outliers", "cifar100"), 1, False, False),
        ("imagenet30", Supervision("outliers", "imagenet"), 1, False, False),
        ("mvtec", Supervision("confetti"), 10, True, False),
        ("mvtec-semi", Supervision("masks", limit=1), 10, True, False),
        ("pascal-voc", Supervision("outliers", "imagenet"), 1, False, True),
    ],
)
def test_anomalies_and_objective_are_the_papers(name, supervision, passes, pixel_wise, swapped):
    recipe = Recipe.load(name)
    assert recipe.supervision == supervision
    assert (recipe.training.passes, recipe.pixel_wise, recipe.swap_roles) == (passes, pixel_wise, swapped)


@pytest.mark.parametrize("name", PRINTED)
def test_receptive_fields_are_the_papers(name, monkeypatch):
    monkeypatch.setattr(paper, "pretrained_trunk", lambda _: random_trunk())  # weights do not matter here
    recipe = Recipe.load(name)
    field = paper.field(paper.build(recipe.network), (recipe.size, recipe.size))
    axis = field.vertical
    assert (axis.cells, axis.stride, axis.extent, axis.centre) == PRINTED[name].place
    assert field.horizontal == axis


@pytest.mark.parametrize(
    ("name", "size", "extents"),
    [
        ("cifar10-receptive-field", 32, [18, 20, 22, 24, 26, 28, 30, 32]),
        ("mvtec-receptive-field", 224, [53, 91, 129, 167, 205, 243]),
    ],
)
def test_receptive_fields_that_are_varied_are_as_long_as_the_axis_says(name, size, extents):
    recipe = Recipe.load(name)
    fields = [paper.field(paper.build(variant.network), (size, size)) for _, variant in recipe.variants()]
    assert [field.vertical.extent for field in fields] == [place.x for place in recipe.vary.settings()] == extents


def test_the_ablations_are_the_papers():
    assert [recipe.supervision.limit for _, recipe in Recipe.load("cifar10-outliers").variants()][:3] == [8, 128, 2048]
    assert [recipe.sigma for _, recipe in Recipe.load("mvtec-sigma").variants()] == [4, 6, 8, 10, 12, 14, 16]


@pytest.mark.parametrize(
    ("name", "values", "labels"),
    [
        ("mvtec-sigma", ["4", "12.0"], ["sigma-4.0", "sigma-12.0"]),
        ("mvtec-sigma", ["16", "4.0", "4"], ["sigma-4.0", "sigma-16.0"]),
        ("cifar10-outliers", ["50000"], ["limit-50000"]),
        ("mvtec-receptive-field", ["vark224-3", "vark224-13"], ["network-vark224-3", "network-vark224-13"]),
    ],
)
def test_values_of_an_ablation_are_chosen_by_name(name, values, labels):
    assert [label for label, _ in Recipe.load(name).variants(values)] == labels


def test_an_ablation_is_its_base_but_for_what_it_varies():
    base, ablation = Recipe.load("mvtec"), Recipe.load("mvtec-sigma")
    own = {"name": "mvtec", "title": base.title, "published": base.published, "vary": None}
    assert replace(ablation, **own) == base
    assert ablation.published == "mvtec-sigma"
    labels = [label for label, _ in ablation.variants()]
    assert len(set(labels)) == len(labels) == 7
    assert all(replace(recipe, **own, sigma=base.sigma) == base for _, recipe in ablation.variants())


def test_a_recipe_that_varies_nothing_is_its_only_variant():
    recipe = Recipe.load("cifar10")
    assert recipe.variants() == [("", recipe)]


@pytest.mark.parametrize("name", names())
def test_every_recipe_is_whole(name):
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert recipe.title
    assert {variant.network for _, variant in recipe.variants()} <= set(paper.NETWORKS)


def test_the_kinds_of_noise_are_those_there_are():
    known = {"none", "outliers", "masks", *NOISES, *SYNTHETIC}
    assert all(Supervision(kind).kind == kind for kind in known)
    with pytest.raises(BlemishError, match="kind is 'salt'; it must be one of") as caught:
        Supervision("salt")
    assert known == set(str(caught.value).partition("one of ")[2].split(", "))


# Changes


def test_settings_are_changed_by_their_path():
    recipe = Recipe.load("cifar10")
    changed = recipe.with_setting("training.batch", 8).with_setting("sigma", 3.0)
    assert (changed.training.batch, changed.sigma) == (8, 3.0)
    assert changed.with_setting("training.batch", 200).with_setting("sigma", 1.2) == recipe


@pytest.mark.parametrize(
    "path", ["sigmas", "training.batches", "optimiser.batch", "name.batch", "training.batch.size", ""]
)
def test_a_setting_that_is_not_there_is_refused(path):
    with pytest.raises(BlemishError, match=r"there is no setting .* in the recipe cifar10"):
        Recipe.load("cifar10").with_setting(path, 1)


def test_an_unknown_experiment_is_refused_with_the_names_there_are():
    with pytest.raises(BlemishError, match=r"there is no experiment 'cifar11'; there are cifar10, .*pascal-voc"):
        Recipe.load("cifar11")


# Files

MINIMAL = """
title = "t"
source = "class-folders"
network = "cnn28"
size = 28
normalisation = "lcn"
sigma = 1.2
quantile = 0.9
[training]
optimiser = "sgd"
learning_rate = 1e-2
weight_decay = 0.0
batch = 4
epochs = 2
"""


def test_what_a_file_does_not_say_is_switched_off():
    recipe = Recipe.from_toml(MINIMAL, name="mine")
    assert recipe.augmentation == Augmentation()
    assert (recipe.training.decay, recipe.training.drops, recipe.training.passes) == (1, (), 1)
    assert (recipe.pixel_wise, recipe.swap_roles, recipe.classes, recipe.vary) == (False, False, (), None)
    assert recipe.training.rate(0) == recipe.training.rate(10_000) == 1e-2


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("sigma = 1.2", "sigma = 1.2\nsigna = 1", "unknown settings signa"),
        ("batch = 4", "batch = 4\nbacth = 4\nlr = 1", "unknown settings bacth, lr"),
        ("sigma = 1.2\nquantile = 0.9", "", "missing settings quantile, sigma"),
        ("epochs = 2", "", "missing settings epochs"),
        ("sigma = 1.2", "sigma = ", "Invalid value"),
        ('normalisation = "lcn"', 'normalisation = "LCN"', "normalisation is 'LCN'; it must be one of lcn, standard"),
        ('optimiser = "sgd"', 'optimiser = "lion"', "optimiser is 'lion'; it must be one of sgd, adam"),
        ("epochs = 2", 'epochs = 2\n[supervision]\nkind = "noise"', "kind is 'noise'; it must be one of"),
        ("sigma = 1.2", "sigma = 1.2\nreading = 240", "reading is 240; it must be a table"),
        ("sigma = 1.2", 'sigma = 1.2\nbase = "cifar"', "No such file"),
        ("epochs = 2", 'epochs = 2\n[vary]\nsetting = "sigmas"\ntitle = "s"\nvalues = [1]', "no setting 'sigmas'"),
        ("epochs = 2", 'epochs = 2\n[vary]\nsetting = "network"\ntitle = "n"\nvalues = ["cnn28"]', "could not convert"),
        (
            "epochs = 2",
            'epochs = 2\n[vary]\nsetting = "sigma"\ntitle = "s"\nvalues = [1, 2]\nplaces = [1]',
            "zip",
        ),
    ],
    ids=[
        *("unknown", "unknown in table", "missing", "missing in table", "no toml", "normalisation", "optimiser"),
        *("kind", "no table", "base", "varied setting", "place of a word", "places"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(before, after, fault):
    assert before in MINIMAL
    with pytest.raises(BlemishError, match="the recipe mine cannot be read") as caught:
        Recipe.from_toml(MINIMAL.replace(before, after), name="mine")
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)
