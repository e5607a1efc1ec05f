"""The paper's networks against its tables, a literal forward pass, torchvision's VGG11 and gradients."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import VGG11_BN_Weights, vgg11_bn

from blemish.errors import BlemishError
from blemish.experiments.networks.baselines import build_autoencoder, build_hsc
from blemish.experiments.networks.fcdd import NETWORKS, build, field
from blemish.experiments.networks.frozen import Frozen
from blemish.experiments.networks.lite0 import Lite0Features
from blemish.networks.receptive_field import receptive_fields
from blemish.networks.timm_cnn import TimmCNN
from blemish.networks.upsampling import gaussian_upsampling, linear_resampling

State = dict[str, Tensor]


def parameters(network: nn.Module, *, trained: bool = False) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trained)


# Sizes

COUNTS = {
    "cnn28": 3_457,
    "cnn28-w": 413_441,
    "cnn32-lw3k": 1_185_537 - 2 * 128,  # less a batch normalisation that the authors define and never use
    "cnn224": 247_569,
    "vgg11-nopt": 4_504_833,
}


@pytest.mark.parametrize(("name", "expected"), COUNTS.items(), ids=COUNTS.keys())
def test_parameters_as_in_the_authors_networks(name: str, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(build(name), trained=True) == expected


def test_the_vector_of_vgg11_is_all_but_its_last_layer() -> None:
    with torch.device("meta"):
        network = build_hsc("vgg11-nopt")
        assert parameters(network) == 132_868_840 - 1000 * (4096 + 1)  # torchvision's count, less the class scores
        assert network(torch.empty(2, 3, 224, 224)).shape == (2, 4096)


# Receptive fields: n, j, r, s

FIELDS = {
    "cnn28": (28, (7, 4, 16, 1.5)),
    "cnn28-w": (28, (7, 4, 16, 1.5)),
    "cnn32-lw3k": (32, (8, 4, 22, 1.5)),
    "cnn224": (224, (28, 8, 59, 0)),
    "cnn224-w": (224, (28, 8, 59, 0)),
    "vgg11-nopt": (224, (28, 8, 62, 3.5)),
    "lite0-f": (224, (28, 8, 62, 3.5)),
    **{f"vark32-{k}": (32, (8, 4, r, 1.5)) for k, r in zip(range(3, 18, 2), range(18, 33, 2), strict=True)},
    **{
        f"vark224-{k}": (224, (28, 8, r, 0)) for k, r in zip(range(3, 14, 2), (53, 91, 129, 167, 205, 243), strict=True)
    },
}


def build_without_memory(name: str) -> nn.Module:
    if name == "lite0-f":
        return build(name)
    with torch.device("meta"):
        return build(name)


@pytest.mark.parametrize(("name", "side", "expected"), [(k, *v) for k, v in FIELDS.items()], ids=FIELDS.keys())
def test_receptive_fields_as_in_the_paper(name: str, side: int, expected: tuple[int, int, int, float]) -> None:
    axis = field(build_without_memory(name), (side, side)).vertical
    assert (axis.cells, axis.stride, axis.extent, axis.centre) == expected


@pytest.mark.parametrize("name", ["cnn28-w", "cnn32-lw3k", "cnn224", "vgg11-nopt", "lite0-f"])
def test_the_field_has_the_grid_of_phi_on_a_rectangle(name: str) -> None:
    network = build(name).eval()
    channels = 1 if name == "cnn28-w" else 3
    with torch.no_grad():
        phi = network(torch.rand(1, channels, 60, 92))
    assert phi.shape == (1, 1, *field(network, (60, 92)).grid)


@pytest.mark.parametrize(
    ("name", "side", "sigma", "gain"),
    [("cnn28-w", 28, 1.2, 0.251), ("vgg11-nopt", 224, 8, 1.731), ("lite0-f", 224, 12, 3.693)],
)
def test_gain_of_the_papers_kernel(name: str, side: int, sigma: float, gain: float) -> None:
    upsample = gaussian_upsampling(field(build(name), (side, side)), size=(side, side), sigma=sigma, normalised=False)
    impulse = torch.zeros(field(build(name), (side, side)).grid)
    impulse[impulse.shape[0] // 2, impulse.shape[1] // 2] = 1
    stride = side // len(impulse)
    assert upsample(impulse).sum().item() / stride**2 == pytest.approx(gain, rel=2e-3)


# Forward passes, spelled out layer by layer from the paper's appendix and the authors' description

LITERAL = {
    "cnn28": (build, "c5 n l p c5 p c1"),
    "cnn28-w": (build, "c5 n l p c5 p c1"),
    "cnn32-lw3k": (build, "c3 n l p c3 n l c3 n l p c3 c1"),
    "cnn32": (build, "c5 n l p c5 n l p c5 c1"),
    "cnn32-s": (build, "c3 n l p c3 n l p c3 c1"),
    "cnn224": (build, "c5 n l o c5 n l o c3 n l c3 n l o c3 c1"),
    "vark32-9": (build, "c9 n l p c3 n l p c3 c1"),
    "hsc28-w": (build_hsc, "c5 n l p c5 n l p f"),
    "hsc32-lw3k": (build_hsc, "c3 n l p c3 n l c3 n l p c3 n l p f n l f"),
    "hsc32": (build_hsc, "c5 n l p c5 n l p c5 n l p f n l f"),
    "hsc224": (build_hsc, "c5 n l o c5 n l o c3 n l c3 n l o c3 n l o c3 n l o f n l f"),
    "ae28-w": (build_autoencoder, "c5 n l p c5 n l p f v4 l u d5 n l u t5 n l u d5 s"),
    "ae32-lw3k": (
        build_autoencoder,
        "c3 n l p c3 n l c3 n l p c3 n l p f n l f n v4 l d3 n l u d3 n l d3 n l u d3 n l u d3",
    ),
    "ae32": (build_autoencoder, "c5 n l p c5 n l p c5 n l p f n l f n v4 l d5 n l u d5 n l u d5 n l u d5"),
    "ae224": (
        build_autoencoder,
        "c5 n l o c5 n l o c3 n l c3 n l o c3 n l o c3 n l o f n l f "
        "n v7 l d3 n l u d3 n l u d3 n l u d3 n l d3 n l u d5 n l u d5 s",
    ),
}


def literal(x: Tensor, steps: str, tensors: Iterator[Tensor]) -> Tensor:
    """Runs the steps with the network's tensors, taken in order."""
    for step in steps.split():
        kind, number = step[0], int(step[1:] or 0)
        if kind in "cdt":  # convolution, transposed convolution, the same with one more cell of padding
            weight, bias = next(tensors), next(tensors)
            assert weight.shape[-2:] == (number, number)
            padding = number // 2 + (kind == "t")
            x = (F.conv2d if kind == "c" else F.conv_transpose2d)(x, weight, bias, padding=padding)
        elif kind == "n":  # batch normalisation by running statistics
            shape = (-1, *[1] * (x.ndim - 2))
            scale, shift, mean, variance = (next(tensors).view(shape) for _ in range(4))
            next(tensors)  # the batch counter
            x = (x - mean) / (variance + 1e-4).sqrt() * scale + shift
        elif kind == "l":
            x = torch.where(x > 0, x, 0.01 * x)
        elif kind == "p":
            x = F.max_pool2d(x, 2)
        elif kind == "o":
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        elif kind == "f":
            x = x.flatten(1) @ next(tensors).T + next(tensors)
        elif kind == "v":
            x = x.view(len(x), -1, number, number)
        elif kind == "u":
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        elif kind == "s":
            x = 1 / (1 + torch.exp(-x))
    return x


def shake(network: nn.Module) -> None:
    """Gives batch normalisation statistics and weights that show whether they are used."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape))


@pytest.mark.parametrize(("label", "case"), LITERAL.items(), ids=LITERAL.keys())
def test_forward_pass_is_the_one_spelled_out(label: str, case) -> None:
    make, steps = case
    name = label.replace("hsc", "cnn").replace("ae", "cnn")
    torch.manual_seed(0)
    network = make(name).eval()
    shake(network)
    side = 28 if "28" in name else 32 if "32" in name else 224
    x = torch.rand(2, 1 if side == 28 else 3, side, side)
    tensors = iter(network.state_dict().values())
    with torch.no_grad():
        got, expected = network(x), literal(x, steps, tensors)
    assert next(tensors, None) is None
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn28", "cnn28-w", "cnn32", "cnn32-lw3k", "cnn224", "vgg11-nopt"])
def test_an_autoencoder_has_the_hsc_network_as_encoder_and_gives_back_the_images_shape(name: str) -> None:
    with torch.device("meta"):
        # Those of cnn28-w are of two widths, as in the authors' code.
        autoencoder, hsc = build_autoencoder(name), build_hsc(name.removesuffix("-w"))
        side = 28 if "28" in name else 32 if "32" in name else 224
        images = torch.empty(2, 1 if side == 28 else 3, side, side)
        assert autoencoder(images).shape == images.shape
    encoder, _ = autoencoder
    assert {k: v.shape for k, v in encoder.state_dict().items()} == {k: v.shape for k, v in hsc.state_dict().items()}


def test_the_vgg11_decoder_is_its_encoder_turned_round() -> None:
    with torch.device("meta"):
        encoder, decoder = build_autoencoder("vgg11-nopt")
    there = [m.weight.shape for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    back = [m.weight.shape for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert back == there[::-1]  # (out, in, k, k) of one is (in, out, k, k) of the other


@pytest.mark.parametrize("make", [build, build_hsc, build_autoencoder])
def test_an_unknown_name_is_answered_with_the_known_ones(make) -> None:
    with pytest.raises(BlemishError, match=r"'cnn29'.*cnn28, cnn28-w, .*vgg11-f, .*lite0-f"):
        make("cnn29")


@pytest.mark.parametrize("name", [n for n in NETWORKS if not n.startswith(("vgg11", "vark224"))])
def test_gradients_reach_every_trained_weight(name: str) -> None:
    torch.manual_seed(0)
    network = build(name)
    network(torch.rand(2, 1 if "28" in name else 3, 32, 32)).square().sum().backward()
    for parameter in network.parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad


# VGG11


@pytest.fixture(scope="module")
def torchvision_layers() -> nn.Sequential:
    """Torchvision's convolutional layers, with random numbers in every tensor; the classifier never takes memory."""
    with torch.device("meta"):
        layers = vgg11_bn(init_weights=False).features
    layers = layers.to_empty(device="cpu")
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    shake(layers)
    return layers.eval()


@pytest.fixture(scope="module")
def vgg11_state(torchvision_layers: nn.Sequential) -> State:
    """As in torchvision's file, which has no batch counters; each classifier matrix is one column, repeated."""
    features = {f"features.{name}": tensor for name, tensor in torchvision_layers.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    classifier = {}
    for layer, (outputs, inputs) in {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}.items():
        column = torch.randn(outputs, 1, generator=generator) / inputs
        classifier[f"classifier.{layer}.weight"] = column.expand(outputs, inputs)
        classifier[f"classifier.{layer}.bias"] = torch.randn(outputs, generator=generator)
    return {name: t for name, t in (features | classifier).items() if not name.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def vgg11_file(vgg11_state: State, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg11_bn.pth"
    torch.save(vgg11_state, path)
    return path


@pytest.fixture(params=["pth", "pth of old torch", "safetensors", "download"])
def vgg11_source(request, vgg11_state: State, vgg11_file: Path, tmp_path: Path, monkeypatch) -> dict[str, object]:
    """Every way in which the weights come."""
    features = {name: tensor for name, tensor in vgg11_state.items() if name.startswith("features.")}
    if request.param == "download":
        options = {"check_hash": True, "weights_only": True}
        monkeypatch.setattr(VGG11_BN_Weights, "get_state_dict", lambda self, **got: got == options and features)
        return {"download": True}
    if request.param == "safetensors":
        path = tmp_path / "vgg11.safetensors"
        save_file(features, path)
    elif request.param == "pth of old torch":
        path = tmp_path / "vgg11.pth"
        torch.save(features, path, _use_new_zipfile_serialization=False)
    else:
        path = vgg11_file
    return {"weights": path}


@pytest.mark.parametrize("name", ["vgg11", "vgg11-f"])
def test_vgg11_computes_what_torchvisions_does_up_to_the_fourth_pool(
    name: str, vgg11_source, torchvision_layers: nn.Sequential
) -> None:
    network = build(name, **vgg11_source).eval()
    images = torch.rand(2, 3, 48, 64)
    last = network[-1]
    with torch.no_grad():
        features = torchvision_layers[:21](images)
        expected = torch.einsum("nchw,c->nhw", features, last.weight[0, :, 0, 0])[:, None] + last.bias
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


def test_vgg11_is_frozen_up_to_the_third_pool(vgg11_file: Path) -> None:
    network = build("vgg11-f", weights=vgg11_file)
    assert parameters(network) == 4_504_833
    assert parameters(network, trained=True) == 3_542_529
    assert field(network, (224, 224)) == field(build_without_memory("vgg11-nopt"), (224, 224))


@pytest.mark.slow
def test_the_vector_of_the_frozen_vgg11_is_torchvisions(
    vgg11_file: Path, vgg11_state: State, torchvision_layers: nn.Sequential
) -> None:
    network = build_hsc("vgg11-f", weights=vgg11_file).eval()
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        expected = F.adaptive_avg_pool2d(torchvision_layers(images), 7).flatten(1)
        expected = F.linear(expected, *(vgg11_state[f"classifier.0.{part}"] for part in ("weight", "bias"))).relu()
        expected = F.linear(expected, *(vgg11_state[f"classifier.3.{part}"] for part in ("weight", "bias")))
        torch.testing.assert_close(network(images), expected, rtol=1e-3, atol=1e-4)
    frozen = parameters(torchvision_layers[:15])
    assert parameters(network) - parameters(network, trained=True) == frozen


def refuse(self, **options) -> State:
    raise OSError("no route to host")


def test_nothing_is_downloaded_unasked(monkeypatch) -> None:
    monkeypatch.setattr(VGG11_BN_Weights, "get_state_dict", refuse)
    with pytest.raises(BlemishError, match=r"--weights FILE.*--download.*lite0-f"):
        build("vgg11-f")


def test_a_download_that_fails(monkeypatch) -> None:
    monkeypatch.setattr(VGG11_BN_Weights, "get_state_dict", refuse)
    with pytest.raises(BlemishError, match=r"no route to host.*--weights FILE"):
        build("vgg11-f", download=True)


def test_a_weights_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match=r"no weights file .*gone\.pth"):
        build("vgg11", weights=tmp_path / "gone.pth")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("text.pth", b"hello"),
        ("pickle.pth", b"\x80\x02N."),
        ("image.pth", b"\x89PNG\r\n\x1a\n" + bytes(64)),
        ("cut.pth", None),
        ("text.safetensors", b"hello"),
    ],
)
def test_a_file_that_holds_no_weights(name: str, content: bytes | None, tmp_path: Path, vgg11_file: Path) -> None:
    path = tmp_path / name
    path.write_bytes(vgg11_file.read_bytes()[:100_000] if content is None else content)
    with pytest.raises(BlemishError, match=rf"{name} (cannot be read as|holds no)"):
        build("vgg11", weights=path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {k: v for k, v in state.items() if k != "features.0.weight"}, "features.0.weight is missing"),
        (
            lambda state: state | {"features.0.weight": torch.zeros(64, 3, 5, 5)},
            r"features.0.weight is \(64, 3, 5, 5\), not \(64, 3, 3, 3\)",
        ),
        (lambda state: {"model": state, "epoch": 3}, r"no state dict at its top \('model', 'epoch'\)"),
        (lambda state: state | {"features.0.weight": "here"}, "features.0.weight is missing"),
    ],
    ids=["missing", "shape", "nested", "not a tensor"],
)
def test_weights_of_something_else(change, message: str, tmp_path: Path, vgg11_state: State) -> None:
    path = tmp_path / "other.pth"
    torch.save(change(vgg11_state), path)
    with pytest.raises(BlemishError, match=message):
        build("vgg11-f", weights=path)


# Frozen layers


def a_frozen(name: str, vgg11_file: Path, *, moves: bool) -> nn.Module:
    return build(name, weights=vgg11_file if name == "vgg11-f" else None, update_bn_stats=moves)


def statistics(network: nn.Module) -> list[Tensor]:
    return [
        layer.running_mean.clone()
        for frozen in network.modules()
        if isinstance(frozen, Frozen)
        for layer in frozen.modules()
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None
    ]


@pytest.mark.parametrize("moves", [False, True], ids=["stays", "moves"])
@pytest.mark.parametrize("name", ["vgg11-f", "lite0-f"])
def test_a_training_step_leaves_frozen_layers_alone(name: str, moves: bool, vgg11_file: Path) -> None:
    torch.manual_seed(0)
    network = a_frozen(name, vgg11_file, moves=moves).train()
    (frozen,) = (module for module in network.modules() if isinstance(module, Frozen))
    before = statistics(network)
    recorded: list[bool] = []
    frozen.register_forward_hook(
        lambda module, inputs, output: recorded.append(
            (output[-1] if isinstance(output, list) else output).requires_grad
        )
    )
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert recorded == [False]  # no graph below the trained layers
    for parameter in network.parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad
    moved = [not torch.equal(old, new) for old, new in zip(before, statistics(network), strict=True)]
    assert moved
    assert all(moved) if moves else not any(moved)


@pytest.mark.parametrize("name", ["vgg11-f", "lite0-f"])
def test_frozen_layers_mean_the_same_in_training_and_testing(name: str, vgg11_file: Path) -> None:
    (frozen,) = (m for m in a_frozen(name, vgg11_file, moves=False).modules() if isinstance(m, Frozen))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        trained, tested = frozen.train()(images), frozen.eval()(images)
    torch.testing.assert_close(trained, tested)


def test_gradients_of_a_score_pass_through_frozen_layers_to_the_image() -> None:
    network = build_hsc("lite0-f").eval()
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.any()


# Lite0


def test_lite0_features_lie_on_the_stride_8_grid_at_the_middles_of_their_tiles() -> None:
    size = (64, 96)
    features = Lite0Features().eval()
    backbone = TimmCNN(strides=(4, 8, 16)).eval()
    tiles = [axis.tiles() for axis in receptive_fields(backbone.backbone, size)]
    images = torch.rand(1, 3, *size)
    with torch.no_grad():
        maps = backbone(255 * images)
        expected = torch.cat([linear_resampling(t, tiles[1])(m) for t, m in zip(tiles, maps, strict=True)], dim=1)
        torch.testing.assert_close(features(images), expected, rtol=1e-4, atol=1e-4)
