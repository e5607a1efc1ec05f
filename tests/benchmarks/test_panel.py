"""The panel's own logic: peers against independent references, protocols, resuming, tables."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

import blemish
from blemish.datasets.layouts import read_data_set
from blemish.evaluation.run import evaluate
from blemish.networks.build import build_normal_model
from blemish.networks.extractor import STRIDES
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.timm_cnn import TimmCNN
from blemish.training.config import TrainConfig
from blemish.training.feature_extraction import MapsInMemory
from helpers.images import noise, save_image, stained
from helpers.scripts import load_script

book, features, jobs, measures, methods, peers, protocols, runs, tables = (
    load_script(f"panel.{name}")
    for name in ["book", "features", "jobs", "measures", "methods", "peers", "protocols", "runs", "tables"]
)

N, C, ROWS, COLUMNS = 23, 5, 4, 6


def cells(seed: int, *, images: int = N) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, C, ROWS, COLUMNS, generator=generator) * torch.arange(1, COLUMNS + 1) + 7


def vectors(x: torch.Tensor) -> np.ndarray:
    """Every cell of every image, row by row: (N * h * w, C)."""
    return np.array([image[:, r, c] for image in x.double().numpy() for r in range(ROWS) for c in range(COLUMNS)])


@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("chunk", [7, 10_000])
def test_a_bank_gives_the_nearest_of_its_vectors(monkeypatch, chunk: int, whitened: bool):
    monkeypatch.setattr(peers, "CHUNK", chunk)
    nominal, new = cells(0), cells(1, images=3)
    model = peers.MemoryBank(share=1, seed=0, whitened=whitened)
    model.fit(nominal)
    known, asked = vectors(nominal), vectors(new)
    if whitened:
        fitted = EmpiricalCovariance().fit(known).covariance_ + peers.RIDGE * np.eye(C)
        known, asked = (some @ np.linalg.cholesky(np.linalg.inv(fitted)) for some in (known, asked))
    expected = NearestNeighbors(n_neighbors=1).fit(known).kneighbors(asked)[0]
    np.testing.assert_allclose(model.score(new).numpy(), expected.reshape(3, ROWS, COLUMNS), rtol=1e-3, atol=1e-3)


def test_a_bank_keeps_its_share():
    model = peers.MemoryBank(share=0.1, seed=0)
    model.fit(cells(0))
    assert model.bank.shape == (round(0.1 * N * ROWS * COLUMNS), C)


def test_gaussians_give_mahalanobis_distances_cell_by_cell():
    nominal, new = cells(0), cells(1, images=3)
    model = peers.PositionGaussians(ridge=0.1)
    model.fit(nominal)
    expected = np.zeros((3, ROWS, COLUMNS))
    for r in range(ROWS):
        for c in range(COLUMNS):
            fitted = EmpiricalCovariance().fit(nominal[:, :, r, c].double().numpy())
            precision = np.linalg.inv(fitted.covariance_ + 0.1 * np.eye(C))
            for i, image in enumerate(new.double().numpy()):
                expected[i, r, c] = mahalanobis(image[:, r, c], fitted.location_, precision)
    np.testing.assert_allclose(model.score(new).numpy(), expected, rtol=1e-3)
    assert model.stored == 4 * ROWS * COLUMNS * (C + C * C)


def test_enlarged_maps_keep_constants_and_places():
    constant = features.enlarged(np.full((2, 4, 8), 3, np.float32), size=64)
    np.testing.assert_allclose(constant, 3, rtol=1e-5)
    one = np.zeros((4, 8), np.float32)
    one[1, 5] = 1
    row, column = np.unravel_index(features.enlarged(one, size=64).argmax(), (64, 64))
    assert 16 <= row < 32
    assert 40 <= column < 48


class Remembers:
    """A peer that keeps what it is fitted to and scores by the first channel."""

    stored = 0

    def fit(self, given: torch.Tensor) -> None:
        self.given = given

    def score(self, given: torch.Tensor) -> torch.Tensor:
        return given[:, 0]


def test_peers_learn_from_good_images_once_each(parts: Path, monkeypatch):
    save_image(parts / "train/good/copy.png", noise(200))
    save_image(parts / "train/stain/0.png", stained(700))
    monkeypatch.setattr(methods, "SIZE", 64)
    peer = Remembers()
    fitted = methods.fit_peer(peer, read_data_set(parts))
    assert peer.given.shape == (4, 176, 8, 8)
    anomaly_map, score = fitted.score(stained(400)[None])
    assert score == anomaly_map.max()


def test_figures_are_those_of_evaluate(parts: Path, tiny_model: Path, monkeypatch):
    # Not square and stained in a corner: maps must come back to the image's own size, the right way up.
    corner = noise(800, size=(48, 96))
    corner[:16, :24] = 0
    save_image(parts / "test/stain/corner.png", corner)
    save_image(parts / "ground_truth/stain/corner_mask.png", ((corner == 0).all(axis=2) * 255).astype(np.uint8))
    save_image(parts / "test/good/odd.png", stained(500))  # without it every figure would be near 1
    monkeypatch.setattr(methods, "SIZE", 64)
    monkeypatch.setattr(measures, "SIZE", 64)
    monkeypatch.setattr(methods.blemish, "train", lambda data, output, **options: shutil.copy(tiny_model, output))
    data = read_data_set(parts)
    fitted = methods.fit("blemish", data, seed=0)
    found = measures.figures(list(measures.see(fitted.score, data.test).values()), fitted.calibration)
    expected = evaluate(blemish.Detector.load(tiny_model), data).metrics
    for ours, theirs in {"detection": "detection_rate", "alarms_05": "false_alarm_rate"}.items():
        assert found[ours] == expected[theirs]  # the tiny model promises 0.05
    for name in ("image_auroc", "pixel_auroc", "aupro", "images"):
        assert found[name] == pytest.approx(expected[name])


def test_without_masks_there_are_no_figures_of_pixels(parts: Path):
    shutil.rmtree(parts / "ground_truth")
    seen = [
        measures.Seen(sample, np.zeros((8, 8), np.float32), float(sample.anomalous), (64, 64), 1.0)
        for sample in read_data_set(parts).test
    ]
    found = measures.figures(seen, None)
    assert (found["image_auroc"], found["pixel_auroc"], found["aupro"], found["promised"]) == (1, None, None, None)


@pytest.fixture
def several(parts: Path):
    """A source of two types of defect."""
    for kind in ("dent", "stain"):
        for i in range(10, 16):
            save_image(parts / f"test/{kind}/{i}.png", stained(i))
            mask = (stained(i) == 0).all(axis=2)
            save_image(parts / f"ground_truth/{kind}/{i}_mask.png", mask.astype(np.uint8) * 255)
    return read_data_set(parts)


def test_trials_without_labels_are_tested_on_the_same_images(several):
    for protocol, labelled in {"masks-1": 2, "masks-5": 10, "labels-5": 10}.items():
        with_them, without = protocols.trials(protocol, several, seed=0)
        assert (with_them.name, without.name) == (protocol, f"{protocol}-without")
        assert with_them.data.test == without.data.test
        assert without.data.train == several.train
        assert len(with_them.data.test) == len(several.test) - labelled


def test_an_unseen_type_is_tested_alone(several):
    found = {trial.name: trial.data for trial in protocols.trials("unseen-5", several, seed=0)}
    assert list(found) == ["unseen-5-dent", "unseen-5-dent-without", "unseen-5-stain", "unseen-5-stain-without"]
    assert {sample.defect for sample in found["unseen-5-dent"].test} == {None, "dent"}
    assert {sample.defect for sample in found["unseen-5-dent"].train} == {None, "stain"}
    assert found["unseen-5-dent"].test == found["unseen-5-dent-without"].test


def test_one_training_serves_all_tests_without_labels(several):
    found = [
        (protocol, trial)
        for protocol in ("good", "masks-1", "masks-5")
        for trial in protocols.trials(protocol, several, seed=0)
    ]
    made = jobs.jobs_of(found, data=several.root.parent, name="parts", method="blemish", seed=0)
    assert [job.trials for job in made] == [("good", "masks-1-without", "masks-5-without"), ("masks-1",), ("masks-5",)]


def test_only_wanted_runs_are_made_and_impossible_ones_are_said(several):
    said = []

    def wanted(name: str, method: str, trial: str, seed: int) -> bool:
        return jobs.makes_sense(method, trial, seed) and (method, trial, seed) != ("blemish", "good", 1)

    made = jobs.pending(
        {"parts": several},
        ["padim", "blemish"],
        ["good", "masks-1", "good-20"],
        [0, 1],
        data=several.root.parent,
        wanted=wanted,
        say=said.append,
    )
    assert [(job.method, job.seed, job.trials) for job in made] == [
        ("padim", 0, ("good",)),
        ("blemish", 0, ("good", "masks-1-without")),
        ("blemish", 0, ("masks-1",)),
        ("blemish", 1, ("masks-1",)),
        ("blemish", 1, ("masks-1-without",)),
    ]
    assert all("good-20" in sentence for sentence in said)


def test_a_job_measures_every_trial(several, monkeypatch):
    monkeypatch.setattr(methods, "SIZE", 64)
    monkeypatch.setattr(measures, "SIZE", 64)
    job = jobs.Job(str(several.root.parent), "parts", "padim", 0, ("good", "contaminated-20"), ("good",))
    (one,) = runs.measure(job)
    assert (one.set, one.method, one.protocol, one.images) == ("parts", "padim", "good", len(several.test))
    assert one.image_auroc > 0.9
    assert json.loads(json.dumps(one.__dict__)) == one.__dict__


def run(name: str, method: str, figures: tuple[float | None, ...], *, seed: int = 0, protocol: str = "good", **more):
    image, pixel, aupro = figures
    return book.Run("abc", seed, name, method, protocol, 10, image, pixel, aupro, **more)


def test_rows_come_back_and_the_last_of_a_key_counts(tmp_path: Path):
    file = tmp_path / "panel.csv"
    first, other = run("screw", "padim", (0.5, 0.25, None)), run("screw", "padim", (0.5, 0.25, None), seed=1)
    again = run("screw", "padim", (0.75, 0.25, None))
    assert book.read_runs(file) == {}
    book.add_runs(file, [first, other])
    book.add_runs(file, [again])
    assert book.read_runs(file) == {again.key: again, other.key: other}
    assert len(file.read_text().splitlines()) == 4


def test_tables_compare_with_the_best_peer_of_each_figure(tmp_path: Path):
    file, document = tmp_path / "panel.csv", tmp_path / "results.md"
    rows = [
        run("a", "padim", (0.9, 0.8, 0.5)),
        run("a", "patchcore-1", (0.8, 0.9, 0.6)),
        run("a", "blemish", (0.9, 0.9, 0.7), alarms_05=0.1),
        run("a", "blemish", (1.0, 0.9, 0.7), seed=1, alarms_05=0.2),
        run("b", "padim", (0.7, None, None)),
        run("b", "patchcore-1", (0.6, None, None)),
        run("b", "blemish", (0.65, None, None), alarms_05=0.0),
    ]
    book.add_runs(file, rows)
    document.write_text(
        "Before\n<!-- panel:good -->\nyesterday\n<!-- /panel:good -->\n\n<!-- panel:alarms --><!-- /panel:alarms -->"
    )
    tables.write(file, document)
    text = document.read_text()
    assert (
        "| a | 0.900 / 0.800 / 0.500 | 0.800 / 0.900 / 0.600 | 0.950 / 0.900 / 0.700 | +0.050 / +0.000 / +0.100 |"
        in text
    )
    assert "| b | 0.700 | 0.600 | 0.650 | -0.050 |" in text
    assert (
        "| **mean** | 0.800 / 0.800 / 0.500 | 0.700 / 0.900 / 0.600 | 0.800 / 0.900 / 0.700 | +0.000 ± 0.050 / " in text
    )
    assert "-0.050 (b) / +0.000 (a) / +0.100 (a) |" in text
    assert "1 of 2 / 0 of 1 / 1 of 1 |" in text
    assert "| a | – | 0.150 | – | – | – |" in text
    assert "yesterday" not in text
    tables.write(file, document)
    assert document.read_text() == text


def test_tables_show_what_labels_add(tmp_path: Path):
    rows = [
        run("a", "blemish", (0.9, 0.8, 0.5), protocol="masks-1-without"),
        run("a", "blemish", (0.95, 0.9, 0.6), protocol="masks-1"),
        run("a", "blemish", (0.9, 0.8, 0.5), protocol="unseen-5-thread-side-without"),
        run("a", "blemish", (0.89, 0.8, 0.5), protocol="unseen-5-thread-side"),
    ]
    results = tables.Results(rows)
    shown = "0.900 / 0.800 / 0.500 | 0.950 / 0.900 / 0.600 | +0.050 / +0.100 / +0.100"
    assert f"| a | blemish | 1 mask a type | {shown} |" in list(tables.labels(results))
    assert any(line.startswith("| a | thread-side | 0.900") for line in tables.unseen(results))
    assert list(tables.few(results)) == list(tables.contamination(results)) == []


def test_an_interrupted_panel_goes_on_where_it_was(several, tmp_path: Path, monkeypatch):
    panel, file, asked = load_script("panel.__main__"), tmp_path / "panel.csv", []

    def run_all(made, file, *, processes, say):
        asked.extend((job.method, job.seed) for job in made)
        book.add_runs(file, [run("parts", job.method, (0.5, 0.5, 0.5), seed=job.seed) for job in made])
        return True

    def call(*arguments: str) -> list[tuple[str, int]]:
        asked.clear()
        root = ["--data", str(several.root.parent), "--sets", "parts", "--csv", str(file)]
        monkeypatch.setattr("sys.argv", ["panel", *root, "--methods", "padim", "blemish", *arguments])
        panel.main()
        return asked.copy()

    monkeypatch.setattr(panel, "run_all", run_all)
    monkeypatch.setattr(panel, "commit", lambda: "def")
    assert call("--seeds", "0") == [("padim", 0), ("blemish", 0)]
    assert call("--seeds", "0", "1") == [("blemish", 1)]
    assert call("--seeds", "0", "1") == []
    assert call("--seeds", "0", "--again") == [("blemish", 0)]  # its row is of commit abc
    monkeypatch.setattr(panel, "commit", lambda: "abc")
    assert call("--seeds", "0", "--again") == []


@pytest.fixture
def small(monkeypatch) -> None:
    """The panel at 64 x 64 pixels."""
    rules = load_script("panel.rules")
    for module in (load_script("panel.cache"), methods, measures):
        monkeypatch.setattr(module, "SIZE", 64)
    monkeypatch.setattr(rules, "GRID", 8)
    enlarged = features.enlarged
    monkeypatch.setattr(methods, "enlarged", lambda maps: enlarged(maps, size=64))
    monkeypatch.setattr(rules, "enlarged", lambda maps, sigma: enlarged(maps, size=64, sigma=sigma))


def test_a_variant_on_cached_features_is_the_peer_of_its_name(parts: Path, tmp_path: Path, small):
    variants = load_script("panel.variants")
    save_image(parts / "test/good/odd.png", stained(500))
    data = read_data_set(parts)
    file, name = tmp_path / "ablation.csv", "one Gaussian of strides 4, 8, 16 (PaDiM)"
    for _ in range(2):  # the second time there is nothing to do
        variants.run([name], ["parts"], [0], data=parts.parent, cache=tmp_path / "cache", file=file, say=print)
    (one,) = book.read_runs(file).values()
    seen = list(measures.see(methods.fit("padim", data, seed=0).score, data.test).values())
    expected = measures.figures(seen, None)
    assert one.images == expected["images"] == len(data.test)
    for name in ("image_auroc", "pixel_auroc", "aupro"):
        assert getattr(one, name) == pytest.approx(expected[name], abs=1e-3)


@torch.inference_mode()
def test_the_default_variant_is_the_detector(parts: Path, tmp_path: Path, small):
    found = load_script("panel.cache").cached(parts, tmp_path / "cache")
    pyramid = FeaturePyramid(TimmCNN(), size=(64, 64)).eval()
    model = build_normal_model("gaussian", pyramid, TrainConfig())
    train, test = ([side(stride) for stride in STRIDES] for side in (found.train, found.test))
    model.fit(MapsInMemory([train]))
    _, maps = load_script("panel.rules").Rule()._joined(found, tuple(range(len(train[0]))))
    torch.testing.assert_close(maps, model(test), rtol=0.02, atol=0.02)


def test_the_ablation_compares_with_its_first_variant():
    rows = [
        run("a", "plain", (0.9, 0.8, 0.5)),
        run("b", "plain", (0.7, None, None)),
        run("a", "less", (0.8, 0.8, 0.6)),
        run("b", "less", (0.7, None, None)),
    ]
    head, _, plain, less = tables.ablation(tables.Results(rows))
    assert head == "| variant | a | b | mean | mean - plain | worst set |"
    assert plain.startswith("| plain | 0.900 / 0.800 / 0.500 | 0.700 | 0.800 / 0.800 / 0.500 | +0.000 ± 0.000 / ")
    assert less.startswith("| less | 0.800 / 0.800 / 0.600 | 0.700 | 0.750 / 0.800 / 0.600 | -0.050 ± 0.050 / ")
    assert "| -0.100 (a) / +0.000 (a) / +0.100 (a) |" in less


def test_the_set_left_out_has_no_say_in_what_is_chosen():
    rows = [run(name, "first", (0.5, None, None)) for name in "abc"]
    rows += [run(name, "other", (figure, None, None)) for name, figure in zip("abc", (0.4, 0.4, 0.9), strict=True)]
    _, _, a, b, c = tables.choice(tables.Results(rows))
    assert a == "| a | other | 0.400 | 0.500 | 2 of 2 (-0.150) |"
    assert b.startswith("| b | other | 0.400 ")
    assert c == "| c | first | 0.500 | 0.500 | 1 of 2 (+0.000) |"
