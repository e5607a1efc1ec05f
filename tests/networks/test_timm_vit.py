"""Vision transformers: maps against timm's own tokens, any size in patches, weights files, and one graph."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from blemish.conversion.run import export
from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.evaluation.run import evaluate
from blemish.model.backends import open_graph
from blemish.networks.build import build_detector
from blemish.networks.detector import CalibratedNetwork
from blemish.networks.extractor import load_extractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.timm_cnn import TimmCNN
from blemish.networks.timm_vit import TimmViT
from blemish.training.config import DefectBranchConfig
from blemish.training.onnx_export import to_onnx
from blemish.training.run import train
from helpers.images import noise, stained
from helpers.parts import write_parts
from helpers.small_networks import fit, new_model, random_branch

NAMES = {  # patch, tokens before the patches'
    "vit_tiny_patch16_224": (16, 1),
    "deit_tiny_patch16_224": (16, 1),
    "vit_small_patch14_reg4_dinov2": (14, 5),
    "vit_small_patch16_dinov3": (16, 5),  # rotary embeddings
}


def extractor_of(name: str) -> TimmViT:
    torch.manual_seed(0)
    made = load_extractor(name, pretrained=False).eval()
    assert isinstance(made, TimmViT)
    return made


def size_of(name: str) -> tuple[int, int]:
    patch, _ = NAMES[name]
    return 4 * patch, 6 * patch


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, TimmViT) for name in NAMES] + [("resnet18", TimmCNN), ("timm-cnn:resnet18", TimmCNN)],
)
def test_a_name_finds_its_extractor(name: str, kind: type) -> None:
    assert isinstance(load_extractor(name, pretrained=False), kind)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_maps_are_the_patch_tokens_of_three_blocks(name: str) -> None:
    extractor, (patch, prefix), (height, width) = extractor_of(name), NAMES[name], size_of(name)
    rows, columns = height // patch, width // patch
    pixels = 255 * torch.rand(2, 3, height, width)
    maps = extractor(pixels)
    backbone = timm.create_model(name, num_classes=0, img_size=(height, width)).eval()
    # The weights of the native size, but for position embeddings, which are resampled.
    state = extractor.prepared((height, width)).backbone.transformer.state_dict()
    backbone.load_state_dict(state)
    config = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    inputs = (pixels / 255 - mean) / std
    tokens = backbone.forward_features(inputs)  # normalised
    expected = tokens[:, prefix:].reshape(2, rows, columns, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(maps[-1], expected, rtol=1e-3, atol=1e-4)
    assert [one.shape for one in maps] == [expected.shape] * 3
    assert not torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[1], maps[2])
    assert [field.grid for field in extractor.fields((height, width))] == [(rows, columns)] * 3
    assert extractor.multiple == patch


def test_sizes_are_multiples_of_the_patch() -> None:
    with pytest.raises(BlemishError, match=r"vit_small_patch14_reg4_dinov2 takes sizes .* of 14 .* such as 252x252"):
        FeaturePyramid(extractor_of("vit_small_patch14_reg4_dinov2"), size=(256, 256))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@torch.inference_mode()
def test_a_weights_file_of_another_position_embedding_is_resampled(suffix: str, tmp_path: Path) -> None:
    name, path = "vit_tiny_patch16_224", tmp_path / f"w{suffix}"
    torch.manual_seed(1)
    state = timm.create_model(name, img_size=160, num_classes=7).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_extractor(name, weights=path).eval()
    for key, tensor in loaded.backbone.transformer.state_dict().items():
        if key != "pos_embed":
            assert torch.equal(tensor, state[key])
    expected = resample_abs_pos_embed(state["pos_embed"], new_size=[14, 14], num_prefix_tokens=1)
    torch.testing.assert_close(loaded.backbone.transformer.pos_embed, expected)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"conv1.weight": torch.zeros(3, 3, 7, 7)}, "does not fit the backbone vit_tiny_patch16_224"),
        (timm.create_model("vit_small_patch16_224").state_dict(), r"\(.* is \(.*384.*\), not \(.*192.*\)\)"),
    ],
)
def test_other_weights_are_refused(state: dict[str, torch.Tensor], words: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(BlemishError, match=words):
        load_extractor("vit_tiny_patch16_224", weights=tmp_path / "w.pth")


def test_weights_that_nobody_has_are_asked_for() -> None:
    with pytest.raises(BlemishError, match=r"--weights FILE.*--download"):
        load_extractor("vit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("vit_tiny_patch16_224", "gaussian"),
        ("vit_small_patch16_dinov3", "gaussian"),
        *(pytest.param(name, "gaussian", marks=pytest.mark.slow) for name in list(NAMES)[1:3]),
        *(pytest.param("vit_tiny_patch16_224", name, marks=pytest.mark.slow) for name in ("padim", "patchcore")),
    ],
)
def test_a_detector_with_labels_is_one_graph(name: str, method: str) -> None:
    size = size_of(name)
    pyramid = FeaturePyramid(extractor_of(name), size=size).eval()
    model = new_model(pyramid, method, memory=100)
    fit(pyramid, model, [noise(seed, size=size) for seed in range(8)])
    pixels = np.stack([noise(100, size=size), stained(101, size=size), noise(102, size=size)])
    with torch.inference_mode():
        branch = random_branch(pyramid, pyramid(torch.from_numpy(pixels)), unit=0.5)
        network = build_detector(pyramid, model, defect_branch=branch)
        expected = network(torch.from_numpy(pixels)).numpy()
    session = open_graph(to_onnx(CalibratedNetwork(network, [1.0, 2.0]), size), "onnxruntime", "f32")
    maps, _, _ = session.run(pixels)
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-3 * expected.max())


def test_it_trains_from_a_weights_file_with_labels(tmp_path: Path) -> None:
    few = DefectBranchConfig(nominal_copies=8, labelled_images=8)
    torch.manual_seed(0)
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "w.pth")
    parts = write_parts(tmp_path / "parts", labelled=2)
    detector = train(
        parts,
        tmp_path / "m.onnx",
        backbone="vit_tiny_patch16_224",
        weights=tmp_path / "w.pth",
        size=(64, 96),
        epochs=1,
        defect_branch=few,
    )
    assert evaluate(detector, read_data_set(parts)).metrics["image_auroc"] > 0.9
    # A random network gives smooth maps: no precision is too coarse for them.
    made = export(tmp_path / "m.onnx", parts, tmp_path / "int8.onnx", target="onnx-int8")
    assert made.int8_convolutions == 1
