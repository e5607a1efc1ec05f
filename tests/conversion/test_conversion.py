"""Exports: calibrated on the images that the model was calibrated on, refused where they decide otherwise."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import blemish.conversion.run
from blemish.conformal.split import Calibration
from blemish.conversion.agreement import agreement
from blemish.conversion.calibration_images import find_calibration_images
from blemish.conversion.onnx_edit import backbone_convolutions, quantise
from blemish.conversion.run import export
from blemish.datasets.layouts import read_data_set
from blemish.datasets.splits import split_nominal
from blemish.errors import BlemishError
from blemish.io.files import fingerprint
from blemish.model.detector import Detector
from blemish.model.metadata import FINGERPRINT_DIGITS, ModelMetadata
from blemish.training.onnx_export import LARGE_TENSOR, export_onnx, with_halves
from helpers.images import SIDE, noise, save_image, stained
from helpers.light import run_without_training
from helpers.small_networks import fitted_network

GOOD = 60
RATE = 0.05


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "parts"
    for number in range(GOOD):
        save_image(root / f"train/good/{number}.png", noise(number))
    for number in range(4):
        save_image(root / f"test/good/{number}.png", noise(700 + number))
        save_image(root / f"test/stain/{number}.png", stained(800 + number))
    return root


@pytest.fixture(scope="session")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of the training images in `data`, as training would write it but with a random backbone."""
    split = split_nominal(GOOD, false_alarm_rate=RATE, seed=3, validate=False)
    images = np.stack([noise(number) for number in range(GOOD)])
    torch.manual_seed(0)
    network = fitted_network(images[list(split.fit)])
    path = tmp_path_factory.mktemp("model") / "parts.onnx"
    digests = [fingerprint(image)[:FINGERPRINT_DIGITS] for image in (data / "train/good").iterdir()]
    metadata = ModelMetadata(
        size=(SIDE, SIDE),
        supervision="good images only",
        settings={"seed": 3, "false_alarm_rate": RATE, "outliers": None},
        data={"name": "parts", "nominal_class": None},
        used_images=tuple(sorted(digests)),
        calibration=Calibration((1.0,) * len(split.calibration), RATE),
        heatmap_low=0.0,
        heatmap_high=1.0,
    )
    export_onnx(network, metadata, path)
    scores = tuple(Detector.load(path).forward(images[list(split.calibration)])[1].tolist())
    export_onnx(network, replace(metadata, calibration=Calibration(scores, RATE)), path)
    return path


def test_the_calibration_images_are_found_again(model: Path, data: Path) -> None:
    metadata = Detector.load(model).metadata
    found = find_calibration_images(metadata, read_data_set(data))
    again = Detector.load(model).score(found).scores
    assert again.tolist() == pytest.approx(metadata.calibration.scores, rel=1e-6)


def test_a_new_image_in_the_folder_changes_nothing(model: Path, data: Path) -> None:
    newcomer = save_image(data / "train/good/0_new.png", noise(999))
    found = find_calibration_images(Detector.load(model).metadata, read_data_set(data))
    newcomer.unlink()
    assert found == find_calibration_images(Detector.load(model).metadata, read_data_set(data))


def with_roles(model: Path, data: Path) -> ModelMetadata:
    """The model's metadata as training writes them by now, with what became of each image."""
    metadata = Detector.load(model).metadata
    calibration = [
        fingerprint(path)[:FINGERPRINT_DIGITS] for path in find_calibration_images(metadata, read_data_set(data))
    ]
    fit = sorted(set(metadata.used_images) - set(calibration))
    return replace(metadata, roles={"fit": tuple(fit), "calibration": tuple(calibration)})


def test_the_calibration_images_are_found_by_their_content(model: Path, data: Path, tmp_path: Path) -> None:
    """Other names, another order, other settings, images that came and images that went: it is the same pixels."""
    metadata = replace(with_roles(model, data), settings={})
    expected = [path.read_bytes() for path in find_calibration_images(metadata, read_data_set(data))]
    assert expected == [
        path.read_bytes() for path in find_calibration_images(Detector.load(model).metadata, read_data_set(data))
    ]
    new_names = np.random.default_rng(0).permutation(GOOD)
    for number, name in enumerate(new_names):
        content = (data / f"train/good/{number}.png").read_bytes()
        if content in expected or number % 2:  # half of those fitted to are gone
            (tmp_path / "train/good").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"train/good/{name}.png").write_bytes(content)
    save_image(tmp_path / "train/good/new.png", noise(999))
    found = find_calibration_images(metadata, read_data_set(tmp_path))
    assert [path.read_bytes() for path in found] == expected


def test_roles_in_the_file_make_every_random_generator_irrelevant(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NumPy release may change its streams; only files of early releases draw the split again."""
    plain, metadata, data_set = Detector.load(model).metadata, with_roles(model, data), read_data_set(data)
    expected = find_calibration_images(plain, data_set)
    generator = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed=None: generator(None if seed is None else [seed, 1]))
    assert find_calibration_images(plain, data_set) != expected
    assert find_calibration_images(metadata, data_set) == expected


def test_copies_of_one_image_are_as_many_files(model: Path, data: Path, tmp_path: Path) -> None:
    metadata = with_roles(model, data)
    first = metadata.roles["calibration"][0]
    twice = replace(metadata, roles={"calibration": (first, first)})
    (original,) = [one for one in (data / "train/good").iterdir() if fingerprint(one).startswith(first)]
    for name in ("a.png", "b.png"):
        (tmp_path / "train/good").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train/good" / name).write_bytes(original.read_bytes())
    assert [path.name for path in find_calibration_images(twice, read_data_set(tmp_path))] == ["a.png", "b.png"]
    (tmp_path / "train/good/b.png").unlink()
    with pytest.raises(BlemishError, match="1 of 2 images that calibrated it are not in it"):
        find_calibration_images(twice, read_data_set(tmp_path))


def test_a_file_without_what_the_split_needs_says_so(model: Path, data: Path) -> None:
    metadata = replace(Detector.load(model).metadata, settings={"seed": 3})
    with pytest.raises(BlemishError, match="does not say with which false_alarm_rate it was trained"):
        find_calibration_images(metadata, read_data_set(data))


@pytest.mark.parametrize("target", ["openvino", "openvino-bf16", "onnx-int8"])
def test_an_export_is_calibrated_by_its_own_scores(
    model: Path, data: Path, tmp_path: Path, target: Any, request: pytest.FixtureRequest
) -> None:
    if target != "onnx-int8":
        pytest.importorskip("openvino")
    if target == "openvino-bf16" and not request.getfixturevalue("bfloat16"):
        pytest.skip("this processor has no bfloat16 arithmetic")
    # A random backbone bears little rounding; whether it does is not the question here.
    made = export(model, data, tmp_path / "export.onnx", target=target, tolerance=1)
    exported = Detector.load(made.file)
    images = find_calibration_images(exported.metadata, read_data_set(data))
    again = exported.score(images)
    assert again.scores.tolist() == pytest.approx(exported.calibration.scores, rel=1e-5)
    at_least_as_high = (again.scores[None] >= again.scores[:, None]).sum(1)
    np.testing.assert_allclose(again.p_values, (1 + at_least_as_high) / (1 + len(images)))
    assert exported.metadata.used_images == Detector.load(model).metadata.used_images


def test_the_command_line_tells_what_was_measured(run: Callable[..., Any], model: Path, data: Path, tmp_path: Path):
    pytest.importorskip("openvino")
    output = tmp_path / "parts.openvino.onnx"
    outcome = run("export", model, "--format", "openvino", "--data", data, "-o", output, "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["file"] == str(output)
    assert outcome.json["verdicts_moved"] == 0
    assert outcome.json["image_auroc"] == outcome.json["image_auroc_before"] == 1.0
    assert outcome.json["ms_per_image"] > 0
    reference = Detector.load(model).score([stained(5)])
    assert Detector.load(output).score([stained(5)]).scores == pytest.approx(reference.scores, rel=1e-4)


def other_images(data: Path) -> None:
    save_image(data / "train/good/7.png", noise(1234))


def other_names(data: Path) -> None:
    (data / "train/good/0.png").rename(data / "train/good/100.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(other_images, "is not what the model was trained on: 1 of 60", id="another image"),
        pytest.param(other_names, "do not score as they did in training", id="another order"),
    ],
)
def test_other_data_are_refused(model: Path, tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    data = tmp_path / "parts"
    for number in range(GOOD):
        save_image(data / f"train/good/{number}.png", noise(number))
    change(data)
    with pytest.raises(BlemishError, match=words):
        export(model, data, tmp_path / "export.onnx", target="onnx-int8")
    assert not (tmp_path / "export.onnx").exists()


def test_an_export_that_decides_otherwise_is_refused_with_the_figure(
    run: Callable[..., Any], model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ranges taken from black images cut off everything else.
    black = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    monkeypatch.setattr(blemish.conversion.run, "INT8_SHARES", (1,))
    monkeypatch.setattr(blemish.conversion.run, "quantise", lambda model, names, pixels: quantise(model, names, black))
    output = tmp_path / "export.onnx"
    outcome = run("export", model, "--format", "onnx-int8", "--data", data, "-o", output)
    assert outcome.status == 2
    assert "onnx-int8 decides differently" in outcome.err
    assert re.search(r"of 12 verdicts on calibration images move.* p-values by 0\.[1-9]", outcome.err)
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_an_export_is_refused(model: Path, data: Path, tmp_path: Path) -> None:
    export(model, data, tmp_path / "int8.onnx", target="onnx-int8", tolerance=1)
    with pytest.raises(BlemishError, match="is an export itself"):
        export(tmp_path / "int8.onnx", data, tmp_path / "again.onnx", target="openvino")


def test_int8_stays_in_the_convolutions_named(model: Path, tmp_path: Path) -> None:
    names = backbone_convolutions(model.read_bytes())
    chosen = names[len(names) // 2 :]
    graph = onnx.load_model_from_string(quantise(model.read_bytes(), chosen, np.stack([noise(1), stained(1)]))).graph
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    quantised = set()
    for node in graph.node:
        sources = [made_by[name].op_type for name in node.input[:2] if name in made_by]  # of activations and weights
        if node.op_type == "Conv" and sources == ["DequantizeLinear"] * 2:
            quantised.add(node.name)
            weights = constants[made_by[node.input[1]].input[0]]
            assert weights.dtype == np.int8
            assert np.abs(weights).max() <= 64  # 7 bits, so that no processor's sum of two products overflows
    assert quantised == set(chosen)
    assert not [node.name for node in graph.node if "Quantize" in node.op_type and "/head/" in node.name]


SCORES = tuple(float(one) for one in range(1, 65))


# Rate 1/65: P(Binomial(64, 1/65) >= 3) > 5 % >= P(>= 4), so of 64 images the highest 3 are unsure and none anomalous.
@pytest.mark.parametrize(
    ("after", "moved", "beyond", "largest", "total"),
    [
        pytest.param(SCORES, 0, 0, 0, 0, id="the same"),
        pytest.param([3 * one + 50 for one in SCORES], 0, 0, 0, 0, id="another scale"),
        pytest.param([*SCORES[:60], 62.0, 61.0, *SCORES[62:]], 2, 0, 1, 2, id="third and fourth change places"),
        pytest.param([*SCORES[:61], 64.0, 63.0, 62.0], 0, 0, 2, 4, id="the highest three turn round"),
        pytest.param([64.5, *SCORES[1:]], 2, 1, 63, 126, id="the calmest is the loudest"),
        pytest.param(SCORES[::-1], 6, 6, 63, 64 * 32, id="backwards"),
    ],
)
def test_agreement_counts_verdicts_and_how_far_p_values_move(after, moved, beyond, largest, total) -> None:
    found = agreement(SCORES, after, false_alarm_rate=0.01, tolerance=0.1)
    assert (found.verdicts_moved, found.moved_beyond_tolerance) == (moved, beyond)
    assert found.largest_p_value_change == pytest.approx(largest / 65)
    assert found.mean_p_value_change == pytest.approx(total / 65 / 64)
    assert found.holds == (beyond == 0)


def test_agreement_does_not_rest_on_verdicts_alone() -> None:
    found = agreement(SCORES, [*SCORES[59::-1], *SCORES[60:]], false_alarm_rate=0.01, tolerance=0.1)
    assert found.verdicts_moved == 0
    assert not found.holds


def test_openvino_missing_says_what_to_install(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(BlemishError, match=r'pip install "blemish\[openvino\]"'):
        export(model, data, tmp_path / "export.onnx", target="openvino")


def test_a_processor_without_bfloat16_is_told_of(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    old_processor = SimpleNamespace(get_property=lambda device, name: ["FP32", "INT8"])
    monkeypatch.setattr(openvino, "Core", lambda: old_processor)
    with pytest.raises(BlemishError, match="this processor has no bfloat16 arithmetic"):
        export(model, data, tmp_path / "export.onnx", target="openvino-bf16")


def test_openvino_answers_many_threads_at_once(model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    export(model, data, tmp_path / "export.onnx", target="openvino")
    detector = Detector.load(tmp_path / "export.onnx", threads=1)
    images = [noise(seed)[None] for seed in range(24)]
    alone = [detector.forward(image)[0] for image in images]
    with ThreadPoolExecutor(8) as pool:
        for one, together in zip(alone, pool.map(lambda image: detector.forward(image)[0], images), strict=True):
            np.testing.assert_array_equal(one, together)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2}, {"arena": False}], ids=str)
def test_how_a_model_is_run_does_not_change_what_it_says(model: Path, options: dict[str, Any]) -> None:
    images = [noise(1), stained(2)]
    usual, other = Detector.load(model).score(images), Detector.load(model, **options).score(images)
    np.testing.assert_allclose(other.scores, usual.scores, rtol=1e-5)


def test_no_threads_are_refused(model: Path) -> None:
    with pytest.raises(BlemishError, match="threads must be from 1 to 1024, not 0"):
        Detector.load(model, threads=0)


def test_help_and_a_missing_package_need_nothing_of_training(model: Path, data: Path, tmp_path: Path) -> None:
    assert run_without_training("export", "--help").returncode == 0
    done = run_without_training("export", model, "--format", "openvino", "--data", data, "-o", tmp_path / "out.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "blemish[export]"' in done.stderr.splitlines()[-1]


# Tensors in half precision


def adding(*tensors: np.ndarray) -> onnx.ModelProto:
    """A graph whose output is its input plus the mean of each tensor."""
    nodes, last = [], "x"
    for number in range(len(tensors)):
        nodes.append(onnx.helper.make_node("ReduceMean", [f"t{number}"], [f"m{number}"], keepdims=0))
        nodes.append(onnx.helper.make_node("Add", [last, f"m{number}"], [f"s{number}"]))
        last = f"s{number}"
    x, out = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in ("x", last))
    stored = [onnx.numpy_helper.from_array(tensor, f"t{number}") for number, tensor in enumerate(tensors)]
    graph = onnx.helper.make_graph(nodes, "adding", [x], [out], stored)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_large_tensors_of_halves_are_stored_as_such_and_all_others_as_they_are() -> None:
    rng = np.random.default_rng(0)
    halves = rng.normal(size=(LARGE_TENSOR // 64, 64)).astype(np.float16).astype(np.float32)
    odd, far, whole = halves.copy(), halves.copy(), np.zeros(LARGE_TENSOR, np.int64)
    odd[3, 3] += 2**-20
    far[3, 3] = 1e6  # beyond half precision
    tensors = (halves, halves[:-1], odd, far)
    before = adding(*tensors)
    before.graph.initializer.append(onnx.numpy_helper.from_array(whole, "whole"))
    run = onnxruntime.InferenceSession(before.SerializeToString()).run
    x = np.arange(4, dtype=np.float32)
    expected = run(None, {"x": x})[0]
    after = with_halves(before)
    onnx.checker.check_model(after, full_check=True)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "t0_half": np.float16,
        "t1": np.float32,
        "t2": np.float32,
        "t3": np.float32,
        "whole": np.int64,
    }
    np.testing.assert_array_equal(stored["t0_half"].astype(np.float32), halves)
    assert [node.op_type for node in after.graph.node].count("Cast") == 1
    found = onnxruntime.InferenceSession(after.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(found, expected)


def test_whitenings_are_stored_in_half_precision(model: Path) -> None:
    graph = onnx.load_model_from_string(model.read_bytes()).graph
    assert sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer) == 3  # one a level
