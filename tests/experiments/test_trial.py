"""One training run and its test: losses, schedule, resuming and figures against literal formulas and scikit-learn."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from blemish.errors import BlemishError
from blemish.experiments import methods, trial
from blemish.experiments.augmentation import Normalisation
from blemish.experiments.data.tasks import ArrayImages, Task
from blemish.experiments.methods import build_method
from blemish.experiments.recipe import Augmentation, Recipe
from blemish.experiments.supervision import Outliers
from blemish.experiments.trial import Settings, Trial, checkpoint_in

CPU = torch.device("cpu")
RECIPE = Recipe.load("fashion-mnist").with_setting("network", "cnn28").with_setting("training.batch", 16)


def striped(count: int, *, period: int, seed: int) -> torch.Tensor:
    """Noisy stripes, uint8 (N, 1, 28, 28)."""
    rng = np.random.default_rng(seed)
    waves = 128 + 80 * np.sin(2 * np.pi * (np.arange(28) + rng.uniform(0, period, (count, 1, 1, 1))) / period)
    return torch.from_numpy((waves + rng.normal(0, 15, (count, 1, 28, 28))).clip(0, 255).astype(np.uint8))


TASK = Task(
    nominal=ArrayImages(striped(40, period=4, seed=0)),
    test=ArrayImages(torch.cat([striped(12, period=4, seed=1), striped(12, period=14, seed=2)])),
    anomalous=torch.arange(24) >= 12,
    kinds=("fine",) * 12 + ("coarse",) * 12,
)
OUTLIERS = Outliers(ArrayImages(striped(30, period=14, seed=3)))


class KilledError(Exception):
    """In the place of a power cut."""


@dataclass
class Machine:
    """Something that runs trials in a folder of its own."""

    folder: Path
    kill_after: int | None = None
    epochs: list[int] = field(default_factory=list)

    def trial(self, *, recipe=RECIPE, method="fcdd", seed=0, task=TASK, key="key", **options) -> Trial:
        how = Settings(**{"epochs": 4, "device": "cpu"} | options)
        place = checkpoint_in(self.folder, key=key)
        return Trial(recipe, method, "fine", seed, how, task, OUTLIERS, place, self.progress)

    def progress(self, done: int, total: int) -> None:
        self.epochs.append(done)
        if done == self.kill_after:
            raise KilledError


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


# Losses, scores and maps


def batch(count: int = 4, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs (N, 1, 28, 28), masks (N, 28, 28) of which one is empty, labels (N,)."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 1, 28, 28, generator=generator)
    masks = torch.rand(count, 28, 28, generator=generator) < 0.3
    masks[0] = False
    return inputs, masks, masks.flatten(1).any(1)


def literal_huber(squared: float) -> float:
    return math.sqrt(squared + 1) - 1


def literal_loss(distance: float, anomalous: bool) -> float:
    return -math.log(1 - math.exp(-distance)) if anomalous else distance


def built(name: str, recipe: Recipe = RECIPE, *, mode: str = "paper") -> methods.Method:
    torch.manual_seed(0)
    method = build_method(name, recipe, mode=mode)
    method.network.eval()
    return method


def test_fcdd_is_equation_2_and_scores_by_the_mean_of_the_map():
    method, (inputs, masks, anomalous) = built("fcdd"), batch()
    phi = method.network(inputs)
    assert phi.shape == (4, 1, 7, 7)
    distances = [sum(literal_huber(x * x) for x in image.flatten().tolist()) / 49 for image in phi]
    expected = sum(map(literal_loss, distances, anomalous.tolist())) / 4
    assert method.loss(method.network, inputs, masks, anomalous).item() == pytest.approx(expected, rel=1e-5)
    assert method.scores(inputs).tolist() == pytest.approx(distances, rel=1e-5)


def test_fcdd_with_masks_is_equation_3_on_the_upsampled_map():
    method, (inputs, masks, anomalous) = built("fcdd", RECIPE.with_setting("pixel_wise", True)), batch()
    phi = method.network(inputs)[:, 0].detach().numpy().astype(np.float64)
    maps = by_transposed_convolution(np.sqrt(phi**2 + 1) - 1)
    np.testing.assert_allclose(method.maps(inputs).detach(), maps, rtol=1e-4, atol=1e-7)
    y = masks.numpy()
    terms = [(maps[k][~y[k]].sum() / 784, maps[k][y[k]].sum() / 784) for k in range(4)]
    expected = sum(nominal + (literal_loss(bad, True) if bad else 0) for nominal, bad in terms) / 4
    assert method.loss(method.network, inputs, masks, anomalous).item() == pytest.approx(expected, rel=1e-4)


def by_transposed_convolution(cells: np.ndarray) -> np.ndarray:
    """The paper's upsampling of 7 x 7 cells to 28 x 28 pixels: sigma 1.2, a field of 16 pixels from -6 on, stride 4."""
    middle = np.exp(-0.5 * (np.arange(-7, 8) / 1.2) ** 2)  # 15 samples, then the middle one twice, each halved
    line = 0.5 * np.insert(middle, 7, middle[7])
    canvas = np.zeros((len(cells), 60, 60))
    for row, column in np.ndindex(7, 7):
        top, left = 16 + 4 * row - 6, 16 + 4 * column - 6
        canvas[:, top : top + 16, left : left + 16] += cells[:, row, column, None, None] * np.outer(line, line)
    return canvas[:, 16:44, 16:44]


@pytest.mark.parametrize(("mode", "gain"), [("paper", 0.251), ("corrected", 1.0)])
def test_the_papers_upsampling_has_a_gain_and_the_corrected_one_has_none(mode, gain):
    upsampled = built("fcdd", mode=mode).upsample(torch.ones(1, 7, 7))[0]
    assert float(upsampled[12:16, 12:16].mean()) == pytest.approx(gain, abs=5e-4)


def test_hsc_is_its_formula_on_vectors():
    method, (inputs, masks, anomalous) = built("hsc"), batch()
    vectors = method.network(inputs)
    assert vectors.ndim == 2
    distances = [literal_huber(sum(x * x for x in vector)) for vector in vectors.tolist()]
    expected = sum(map(literal_loss, distances, anomalous.tolist())) / 4
    assert method.loss(method.network, inputs, masks, anomalous).item() == pytest.approx(expected, rel=1e-5)
    assert method.scores(inputs).tolist() == pytest.approx(distances, rel=1e-5)
    assert (method.kernel, method.sigma) == (17, 1.2)  # the least odd size that holds FCDD's field of 16


def test_hscs_heatmap_is_the_blurred_slope_of_the_score():
    method, inputs = built("hsc"), batch(2)[0]
    method.network.double()
    inputs = inputs.double()
    slopes = np.zeros((28, 28))
    for row, column in [(0, 0), (14, 14), (20, 7)]:
        nudged = inputs.clone().repeat(2, 1, 1, 1)[:2]
        nudged[0], nudged[1] = inputs[0], inputs[0]
        nudged[0, 0, row, column] += 1e-5
        nudged[1, 0, row, column] -= 1e-5
        up, down = (literal_huber(sum(x * x for x in vector)) for vector in method.network(nudged).tolist())
        slopes[row, column] = abs(up - down) / 2e-5
    sharp = replace(method, kernel=1)
    found = sharp.maps(inputs)[0]
    for row, column in [(0, 0), (14, 14), (20, 7)]:
        assert float(found[row, column]) == pytest.approx(slopes[row, column], rel=1e-3, abs=1e-7)
    assert float(method.maps(inputs)[0].std()) < float(found.std())


def test_the_autoencoder_is_the_mean_squared_error():
    method, (inputs, masks, anomalous) = built("autoencoder"), batch()
    errors = (method.network(inputs) - inputs).detach().numpy().astype(np.float64) ** 2
    assert method.loss(method.network, inputs, masks, anomalous).item() == pytest.approx(errors.mean(), rel=1e-5)
    assert method.scores(inputs).tolist() == pytest.approx(errors.mean((1, 2, 3)).tolist(), rel=1e-5)
    np.testing.assert_allclose(method.maps(inputs).detach(), errors.mean(1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["fcdd", "hsc", "autoencoder"])
def test_a_score_is_of_its_own_image_alone(method):
    method, inputs = built(method), batch(3)[0]
    alone = torch.cat([method.scores(inputs[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(method.scores(inputs), alone, rtol=1e-4, atol=1e-7)


# TrainingSchedule


def test_the_first_step_is_nesterovs_with_weight_decay(machine):
    """v = g + d w, and the weights move by rate (g + d w + 0.9 v)."""
    recipe = RECIPE.with_setting("augmentation", Augmentation()).with_setting("training.weight_decay", 0.5)
    recipe = recipe.with_setting("training.batch", 40).with_setting("training.epochs", 1)
    result, method, preparation = machine.trial(recipe=recipe, method="autoencoder", epochs=1).run()
    torch.manual_seed(0)
    network = build_method("autoencoder", recipe, mode="paper").network.train()
    inputs = torch.stack([preparation.test(TASK.nominal.read(k)) for k in range(40)])
    loss = ((network(inputs) - inputs) ** 2).mean()
    loss.backward()
    assert result.curve[0].loss == pytest.approx(loss.item(), rel=1e-4)
    with torch.no_grad():
        for before, after in zip(network.parameters(), method.network.parameters(), strict=True):
            slope = before.grad + 0.5 * before
            torch.testing.assert_close(after, before - 1e-2 * (slope + 0.9 * slope), rtol=1e-3, atol=1e-6)


def fading(epoch: int, epochs: int) -> float:
    return 1e-2 * 0.98 ** math.floor(epoch * 400 / epochs)


def in_steps(epoch: int, epochs: int) -> float:
    done = epoch * 600 / epochs
    return 1e-3 if done < 400 else 1e-4 if done < 500 else 1e-5


@pytest.mark.parametrize(
    ("name", "epochs", "rate"),
    [
        ("fashion-mnist", 5, fading), ("fashion-mnist", 7, fading),
        ("cifar10", 6, in_steps), ("cifar10", 12, in_steps), ("cifar10", 1, in_steps),
    ],
)  # fmt: skip
def test_a_short_run_goes_through_the_whole_schedule(machine, monkeypatch, name, epochs, rate):
    optimisers, rates = [], []

    def caught(*arguments):
        optimisers.append(make(*arguments))
        return optimisers[0]

    make = trial._optimiser
    monkeypatch.setattr(trial, "_optimiser", caught)
    recipe = RECIPE.with_setting("training", replace(Recipe.load(name).training, batch=16))
    run = machine.trial(recipe=recipe, epochs=epochs)
    run = replace(run, progress=lambda done, total: rates.append(optimisers[0].param_groups[0]["lr"]))
    run.run()
    assert rates[1:] == pytest.approx([rate(epoch, epochs) for epoch in range(epochs)], rel=1e-9)


def test_optimisers_are_the_papers():
    network = nn.Linear(2, 1)
    network.bias.requires_grad_(False)
    sgd = trial._optimiser(Recipe.load("mvtec").training, network)
    assert isinstance(sgd, torch.optim.SGD)
    assert {name: sgd.defaults[name] for name in ("momentum", "nesterov", "weight_decay", "lr")} == {
        "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "lr": 1e-3,
    }  # fmt: skip
    assert sgd.param_groups[0]["params"] == [network.weight]  # nothing frozen is moved, by decay neither
    adam = trial._optimiser(Recipe.load("cifar10").training, network)
    assert isinstance(adam, torch.optim.Adam)
    assert (adam.defaults["betas"], adam.defaults["weight_decay"]) == ((0.9, 0.999), 1e-6)


def test_the_recipes_epochs_are_run_unless_others_are_asked_for(machine):
    recipe = RECIPE.with_setting("training.epochs", 3)
    assert len(machine.trial(recipe=recipe, epochs=None).run()[0].curve) == 3
    assert machine.epochs == [0, 1, 2, 3]


def test_a_run_learns_and_its_figures_are_those_of_its_scores(machine):
    result, method, _ = machine.trial(epochs=12).run()
    assert result.image_auroc > 0.9
    assert result.image_auroc == pytest.approx(roc_auc_score(TASK.anomalous, result.scores))
    assert result.scores.dtype == np.float32
    assert result.anomalous.tolist() == TASK.anomalous.tolist()
    assert (result.kinds, result.pixel_auroc) == (TASK.kinds, None)
    assert not method.network.training
    assert [point.epoch for point in result.curve] == list(range(1, 13))
    assert result.curve[-1].loss < result.curve[0].loss
    assert result.seconds == pytest.approx(sum(point.seconds for point in result.curve))


def test_the_curve_is_measured_at_about_as_many_points_as_asked(machine):
    curve = machine.trial(epochs=9, points=3).run()[0].curve
    assert [point.epoch for point in curve if point.image_auroc is not None] == [3, 6, 9]


def test_the_last_point_of_the_curve_is_the_runs_figure(machine):
    result = machine.trial().run()[0]
    assert result.curve[-1].image_auroc == result.image_auroc


def test_seeds_decide_everything(tmp_path):
    scores = [Machine(tmp_path / str(k)).trial(seed=seed).run()[0].scores for k, seed in enumerate((0, 0, 1))]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


# Resuming


def dropping(name, **_) -> nn.Module:
    """A network whose training draws random numbers of its own."""
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(784, 8))


@pytest.mark.parametrize(
    ("method", "optimiser", "workers"),
    [
        ("fcdd", "sgd", 0), ("fcdd", "adam", 0), ("fcdd", "adam", 1),
        ("hsc", "adam", 0), ("autoencoder", "sgd", 0), ("dropout", "adam", 0),
    ],
)  # fmt: skip
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch, method, optimiser, workers):
    if method == "dropout":
        method = "hsc"
        monkeypatch.setattr(methods, "build_hsc", dropping)
    options = {"recipe": RECIPE.with_setting("training.optimiser", optimiser), "method": method, "workers": workers}
    whole = Machine(tmp_path / "whole").trial(**options).run()[0]
    with pytest.raises(KilledError):
        Machine(tmp_path / "killed", kill_after=2).trial(**options).run()
    second = Machine(tmp_path / "killed")
    resumed = second.trial(**options).run()[0]
    assert second.epochs == [2, 3, 4]
    assert np.array_equal(resumed.scores, whole.scores)  # to the bit
    figures = [[(point.epoch, point.loss, point.image_auroc) for point in run.curve] for run in (resumed, whole)]
    assert figures[0] == figures[1]


def test_a_run_killed_after_its_last_epoch_is_only_tested(tmp_path):
    with pytest.raises(KilledError):
        Machine(tmp_path, kill_after=4).trial().run()
    again = Machine(tmp_path)
    result = again.trial().run()[0]
    assert again.epochs == [4]
    assert len(result.curve) == 4


def test_a_checkpoint_whose_layers_have_other_names_is_not_resumed_from(tmp_path):
    with pytest.raises(KilledError):
        Machine(tmp_path / "killed", kill_after=2).trial().run()
    saved = checkpoint_in(tmp_path / "killed", key="key")
    tensors, figures = saved.load()
    saved.save({name.replace("network.0.", "network.first."): value for name, value in tensors.items()}, figures)
    again = Machine(tmp_path / "killed")
    again.trial().run()
    assert again.epochs == [0, 1, 2, 3, 4]


def test_a_checkpoint_of_other_settings_is_not_resumed_from(tmp_path):
    with pytest.raises(KilledError):
        Machine(tmp_path, kill_after=2).trial(key="one").run()
    other = Machine(tmp_path)
    other.trial(key="other").run()
    assert other.epochs == [0, 1, 2, 3, 4]


# Batches


class Recorder:
    """A method that writes down what it is given."""

    def __init__(self) -> None:
        self.network = nn.Conv2d(1, 1, 1)
        self.labels: list[list[bool]] = []
        self.darkest: list[list[float]] = []
        self.full: list[list[bool]] = []

    def to(self, device):
        pass

    def loss(self, network, inputs, masks, anomalous):
        assert network.training
        self.labels.append(anomalous.tolist())
        self.darkest.append(inputs.amin((1, 2, 3)).tolist())
        self.full.append(masks.all((1, 2)).tolist())
        return network(inputs).mean()

    def scores(self, inputs):
        assert not self.network.training
        return inputs.mean((1, 2, 3))


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(trial, "build_method", lambda *_, **__: recorder)
    return recorder


BRIGHT = Outliers(ArrayImages(torch.full((3, 1, 28, 28), 255, dtype=torch.uint8)))
PLAIN = RECIPE.with_setting("augmentation", Augmentation()).with_setting("normalisation", "standard")


def first(count: int) -> Task:
    return replace(TASK, nominal=ArrayImages(TASK.nominal.pixels[:count]))


@pytest.mark.parametrize(
    ("count", "sizes"), [(32, [16, 16]), (33, [16, 16]), (34, [16, 16, 2]), (17, [16]), (5, [5]), (1, [1])]
)
def test_a_last_batch_of_one_image_is_left_out(machine, recorder, count, sizes):
    machine.trial(recipe=PLAIN, task=first(count), epochs=1).run()
    assert [len(labels) for labels in recorder.labels] == sizes


@pytest.mark.parametrize("swapped", [False, True])
def test_swapped_roles_make_the_class_of_interest_anomalous(machine, recorder, swapped):
    run = machine.trial(recipe=PLAIN.with_setting("swap_roles", swapped), epochs=1)
    result, _, _ = replace(run, anomalies=BRIGHT).run()
    # Only the foreign images are white all over: their darkest pixel is their brightest.
    foreign = [[value > 0.9 for value in values] for values in recorder.darkest]
    assert recorder.full == foreign
    assert recorder.labels == [[one != swapped for one in some] for some in foreign]
    assert 0 < sum(map(sum, foreign)) < 40
    assert result.anomalous.tolist() == [label != swapped for label in TASK.anomalous.tolist()]
    assert result.image_auroc == pytest.approx(roc_auc_score(result.anomalous, result.scores))


def test_a_method_that_learns_from_nominal_images_only_gets_no_others(machine, recorder):
    run = machine.trial(recipe=PLAIN, epochs=1)
    replace(run, anomalies=BRIGHT, method="autoencoder").run()
    assert not any(map(any, recorder.labels))
    assert sum(map(len, recorder.labels)) == 40


class Torn:
    """Images of which one cannot be read."""

    def __len__(self) -> int:
        return 8

    def read(self, index: int) -> torch.Tensor:
        if index == 5 and torch.utils.data.get_worker_info() is not None:
            raise BlemishError("a/b.png: truncated: 18 KB are missing; copy it again")
        return TASK.nominal.read(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_told_in_one_sentence_also_by_a_worker(machine, workers, monkeypatch):
    torn = Torn()
    monkeypatch.setattr(Normalisation, "fit", lambda *_: Normalisation.none())
    if not workers:
        monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: "this process")
    with pytest.raises(BlemishError) as caught:
        replace(machine.trial(task=replace(TASK, nominal=torn), workers=workers), anomalies=None).run()
    assert str(caught.value) == "a/b.png: truncated: 18 KB are missing; copy it again"


@pytest.mark.parametrize(("label", "name"), [(False, "nominal"), (True, "anomalous")])
def test_a_test_set_of_one_label_is_refused_before_the_training(machine, label, name):
    task = replace(TASK, anomalous=torch.full((24,), label))
    with pytest.raises(BlemishError, match=f"all test images of fine are {name}"):
        machine.trial(task=task).run()
    assert machine.epochs == []


@pytest.mark.slow
def test_gaussians_are_fitted_without_an_epoch(machine):
    task = replace(
        first(12), test=ArrayImages(TASK.test.pixels[6:18]), anomalous=TASK.anomalous[6:18], kinds=("a",) * 12
    )
    result, _, _ = machine.trial(method="gaussian", task=task).run()
    assert result.image_auroc > 0.9
    assert result.curve == ()
    assert result.seconds > 0
