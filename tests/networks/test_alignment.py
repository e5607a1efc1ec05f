"""Parts turned upright: told from pictures whose poses are known, and held against scipy's interpolation."""

import io

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from blemish.datasets.layouts import Sample
from blemish.datasets.pixels import Pixels
from blemish.networks.alignment import Alignment, Frame, Silhouettes
from blemish.training.steps.alignment import FittedAlignment, align_images, decide_alignment
from helpers.hammers import GROUND, PART, SIDE, picture, pictures


def disc(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.hypot(down, right) < 28


@pytest.fixture(scope="module")
def fitted() -> FittedAlignment:
    images, _, _ = pictures(24)
    found = decide_alignment(images, range(24)).fitted
    assert found is not None
    return found


def poses_of(fitted: FittedAlignment, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return fitted.alignment.poses(torch.from_numpy(images)).numpy()


# Finding parts


@pytest.mark.parametrize("count", [3, 24])
def test_new_parts_are_found_as_they_lie(count: int) -> None:
    images, _, _ = pictures(count)
    found = decide_alignment(images, range(count)).fitted
    assert found is not None
    new, angles, centres = pictures(40, seed=1)
    poses = poses_of(found, new)
    # Direction and centre are those of the template's picture, so all differ from the truth by the same.
    off = (poses[:, 2] + 1j * poses[:, 3]) / np.exp(1j * np.deg2rad(angles))
    assert np.rad2deg(abs(np.angle(off / off.mean()))).max() < 2
    turned = [
        [[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] @ (pose[:2] - centre)
        for a, pose, centre in zip(-np.deg2rad(angles), poses, centres, strict=True)
    ]
    assert np.std(turned, axis=0).max() < 0.6  # pixels


def test_what_is_upright_is_alike(fitted: FittedAlignment) -> None:
    images, _, _ = pictures(30, seed=2)
    poses = torch.from_numpy(poses_of(fitted, images))
    turned = fitted.alignment.to_canonical(torch.from_numpy(images), poses).numpy()
    assert turned.std(0).mean() < 0.3 * images.std(0).mean()
    part = turned.mean(0)[..., 0] < (GROUND + PART) / 2
    assert (fitted.foreground & part).sum() == part.sum()  # all of it, and not much else
    assert fitted.foreground.sum() < 2 * part.sum()


def test_a_part_fills_its_picture_and_stays_within(fitted: FittedAlignment) -> None:
    rows, columns = fitted.foreground.nonzero()
    for places in (rows, columns):
        assert places.min() > 0
        assert places.max() < SIDE - 1
    assert max(np.ptp(rows), np.ptp(columns)) > 0.7 * SIDE


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def plain(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(120, 1, (count, SIDE, SIDE, 3)).astype(np.uint8)


def at_the_border(count: int) -> np.ndarray:
    images, _, _ = pictures(count)
    return np.roll(images, SIDE // 2, axis=1)


def several_shapes(count: int) -> np.ndarray:
    """Each part is another arrangement of discs."""
    made = []
    for rng in map(np.random.default_rng, range(count)):
        places = rng.uniform(-30, 30, (4, 2))
        shape = lambda down, right, places=places: np.any(  # noqa: E731
            [np.hypot(down - row, right - column) < 9 for row, column in places], axis=0
        )
        made.append(picture(shape, 0, (SIDE / 2, SIDE / 2), rng))
    return np.stack(made)


@pytest.mark.parametrize(
    "images",
    [
        pictures(24, still=True)[0],
        pictures(24, disc)[0],
        noise(24),
        plain(24),
        at_the_border(24),
        several_shapes(24),
        pictures(1)[0],
    ],
    ids=["all lie alike", "round", "texture", "no contrast", "at the border", "all differ", "a single image"],
)
def test_nothing_is_turned_where_that_is_no_use(images: np.ndarray) -> None:
    assert decide_alignment(images, range(len(images))).fitted is None


def test_only_the_images_to_fit_to_are_looked_at() -> None:
    images, _, _ = pictures(16)
    images[::2] = noise(8)
    alone, among = decide_alignment(images[1::2], range(8)).fitted, decide_alignment(images, range(1, 16, 2)).fitted
    assert alone is not None
    assert among is not None
    np.testing.assert_array_equal(alone.foreground, among.foreground)
    torch.testing.assert_close(alone.alignment.bank, among.alignment.bank, rtol=0, atol=0)


def test_an_image_without_a_part_is_taken_from_its_middle(fitted: FittedAlignment) -> None:
    empty = np.full((1, SIDE, SIDE, 3), 190, np.uint8)
    np.testing.assert_allclose(poses_of(fitted, empty)[0, :2], (SIDE - 1) / 2, atol=0.1)


# Pictures and maps


def pose_of(angle: float, row: float, column: float) -> torch.Tensor:
    return torch.tensor([[row, column, np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]], dtype=torch.float32)


poses = st.builds(pose_of, st.floats(0, 360), st.floats(40, 90), st.floats(40, 90))
frames = st.builds(Frame, st.floats(-20, 20), st.floats(-20, 20), st.floats(0.5, 1.25))


def alignment(frame: Frame, size: tuple[int, int] = (SIDE, SIDE)) -> Alignment:
    template = torch.rand(120, 24, generator=torch.Generator().manual_seed(0))
    return Alignment(Silhouettes(size, 30.0), template, radius=50.0, size=size, frame=frame)


def literal_places(frame: Frame, pose: torch.Tensor) -> np.ndarray:
    """Row and column (2, H, W) in the image of the picture's pixels: turned about the centre, offset and zoomed."""
    row, column, cos, sin = pose[0].double().numpy()
    offsets = np.indices((SIDE, SIDE)).reshape(2, -1) - (SIDE - 1) / 2
    offsets = frame.zoom * offsets + np.array([[frame.rows], [frame.columns]])
    return (np.array([[cos, sin], [-sin, cos]]) @ offsets + np.array([[row], [column]])).reshape(2, SIDE, SIDE)


@settings(max_examples=30, deadline=None)
@given(pose=poses, frame=frames, seed=st.integers(0, 1000))
def test_the_upright_picture_is_the_image_turned(pose: torch.Tensor, frame: Frame, seed: int) -> None:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(0, 900, (SIDE, SIDE)), 6) + 128
    image = np.repeat(smooth.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    found = alignment(frame).to_canonical(torch.from_numpy(image)[None], pose)[0, ..., 0].numpy()
    expected = map_coordinates(image[..., 0].astype(float), literal_places(frame, pose), order=1, mode="nearest")
    steepest = max(abs(np.diff(image[..., 0].astype(float), axis=axis)).max() for axis in (0, 1))
    assert abs(found - expected).max() <= 2 * 0.26 * steepest + 1  # a quarter of a pixel along both axes, and rounding


@settings(max_examples=30, deadline=None)
@given(pose=poses, frame=frames, row=st.integers(20, 107), column=st.integers(20, 107))
@example(pose=pose_of(1.192092896e-07, 40.0, 40.0), frame=Frame(0.0, 0.0, 0.5), row=20, column=20)
@example(pose=pose_of(8.0, 40.0, 40.0), frame=Frame(0.0, 0.0, 0.5), row=20, column=20)
def test_a_map_goes_back_to_where_it_came_from(pose: torch.Tensor, frame: Frame, row: int, column: int) -> None:
    """A hill at a place of the picture becomes one at that place of the image, and there is nothing beyond."""
    half = np.arange(2 * SIDE) / 2 - 0.25
    hill = np.exp(-((half[:, None] - row) ** 2 + (half[None] - column) ** 2) / (2 * 4.0**2))
    found = alignment(frame).from_canonical(torch.from_numpy(hill).float()[None], pose)[0].numpy()
    places = literal_places(frame, pose)
    there = np.rint(places[:, row, column]).astype(int)
    if (there >= 3).all() and (there < SIDE - 3).all():
        peak = np.array(np.unravel_index(found.argmax(), found.shape))
        assert abs(peak - places[:, row, column]).max() < 1.1
        # Half a pixel of the image is a whole one of the picture at zoom .5, read to a quarter: exp(-1.25^2 / 4^2).
        assert found.max() > 0.906
    inside = np.zeros((SIDE, SIDE), dtype=bool)
    for rounding in (-1e-3, 1e-3):  # decides what lies on the border itself
        covered = np.rint(_inverse(frame, pose) + rounding)
        inside |= map_coordinates(np.ones((SIDE, SIDE)), covered, order=0, mode="constant", cval=0) > 0
    assert not found[~inside].any()


def _inverse(frame: Frame, pose: torch.Tensor) -> np.ndarray:
    row, column, cos, sin = pose[0].double().numpy()
    offsets = np.indices((SIDE, SIDE)).reshape(2, -1) - np.array([[row], [column]])
    turned = np.linalg.inv(np.array([[cos, sin], [-sin, cos]])) @ offsets - np.array([[frame.rows], [frame.columns]])
    return (turned / frame.zoom + (SIDE - 1) / 2).reshape(2, SIDE, SIDE)


def test_maps_of_more_values_than_float32_can_count_are_read_where_they_should_be() -> None:
    side = 2080  # 4 * 2080^2 > 2^24
    maps = torch.rand(1, 2 * side, 2 * side, generator=torch.Generator().manual_seed(0))
    an_eighth_off = pose_of(0, (side - 1) / 2 - 0.125, (side - 1) / 2 - 0.125)
    found = alignment(Frame(), (side, side)).from_canonical(maps, an_eighth_off)
    torch.testing.assert_close(found, maps[:, 1::2, 1::2], rtol=0, atol=0)


def test_masks_are_turned_with_their_images(fitted: FittedAlignment) -> None:
    images, _, _ = pictures(6, seed=4)
    marks = []
    for image in images:  # the mark is where the image is dark, so that it can be told in both
        mark = np.zeros((SIDE, SIDE), bool)
        mark[image[..., 0] < 100] = True
        marks.append(mark)
    pixels = Pixels(tuple(Sample(f"{n}.png") for n in range(6)), images, ("",) * 6)  # type: ignore[arg-type]
    turned = align_images(pixels, fitted, progress=lambda done, total: None)
    assert turned.moved is not None
    for index, mark in enumerate(marks):
        dark = turned.images[index][..., 0] < 100
        moved = turned.moved(index, mark)
        assert (moved & dark).sum() / (moved | dark).sum() > 0.9
    assert pixels.moved is None


# In the graph


class Whole(torch.nn.Module):
    """All of it, as in a detector."""

    def __init__(self, alignment: Alignment) -> None:
        super().__init__()
        self.alignment = alignment

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        poses = self.alignment.poses(pixels)
        upright = self.alignment.to_canonical(pixels, poses)
        return upright, self.alignment.from_canonical(
            upright.mean(3).repeat_interleave(2, 1).repeat_interleave(2, 2), poses
        )


# The tracer warns of the sizes that it keeps fixed: only the batch is free.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_onnx_runtime_turns_as_torch_does(fitted: FittedAlignment, batch: int) -> None:
    images, _, _ = pictures(batch, seed=5)
    whole, buffer = Whole(fitted.alignment).eval(), io.BytesIO()
    torch.onnx.export(
        whole,
        (torch.from_numpy(pictures(2)[0]),),
        buffer,  # type: ignore[arg-type]
        input_names=["pixels"],
        dynamic_axes={"pixels": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"pixels": images})
    with torch.inference_mode():
        expected = whole(torch.from_numpy(images))
    for one, other in zip(found, expected, strict=True):
        differ = abs(one - other.numpy()) > 1e-3
        assert differ.mean() < 1e-4  # where a place lies between two halves of a pixel to the last digit


@pytest.mark.parametrize("size", [(32, 32), (96, 96), (128, 64), (352, 352)])
def test_any_network_size_will_do(size: tuple[int, int]) -> None:
    one = alignment(Frame(), size)
    pixels = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    poses = one.poses(pixels)
    assert one.to_canonical(pixels, poses).shape == (2, *size, 3)
    assert one.from_canonical(torch.rand(2, 2 * size[0], 2 * size[1]), poses).shape == (2, *size)
