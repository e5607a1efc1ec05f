"""How parts may lie, told from pictures of which it is known, by features that see brightness and the way of edges."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blemish.freedom import learn_freedom
from blemish.synthetic.turned import ANY, Freedom, Pose

SIDE, CELL, C = 64, 4, 3


def extract(images: np.ndarray) -> torch.Tensor:
    """Features (N, 3, 16, 16) of cells: brightness, how much it changes downwards, how much to the right."""
    grey = torch.from_numpy(np.array(images)).float().mean(-1)[:, None] / 8
    down, right = grey.diff(dim=2, append=grey[:, :, -1:]).abs(), grey.diff(dim=3, append=grey[..., -1:]).abs()
    return F.avg_pool2d(torch.cat([grey, down, right], dim=1), CELL)


def in_colour(pictures: list[np.ndarray]) -> np.ndarray:
    return np.repeat(np.stack(pictures).clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def noise(count: int) -> np.ndarray:
    return in_colour([np.random.default_rng(seed).normal(120, 30, (SIDE, SIDE)) for seed in range(count)])


def grain(count: int) -> np.ndarray:
    """Vertical stripes, another set in each."""
    return in_colour(
        [
            120 + rng.normal(0, 3, (SIDE, SIDE)) + rng.normal(0, 40, SIDE)[None, :]
            for rng in map(np.random.default_rng, range(count))
        ]
    )


def part(count: int, *, spots: list[tuple[int, int]]) -> np.ndarray:
    """Bright spots on a dark ground, always at the same places."""
    pictures = []
    for rng in map(np.random.default_rng, range(count)):
        picture = rng.normal(40, 5, (SIDE, SIDE))
        for row, column in spots:
            picture[row - 6 : row + 6, column - 6 : column + 6] += 120 + rng.normal(0, 5)
        pictures.append(picture)
    return in_colour(pictures)


@pytest.mark.parametrize("count", [8, 24, 80])
@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (noise, ANY),
        (grain, Freedom(sideways=True, upside_down=True, turned=False)),
        (lambda n: part(n, spots=[(20, 44)]), Freedom(sideways=False, upside_down=False, turned=False)),
        (lambda n: part(n, spots=[(20, 20), (20, 44)]), Freedom(sideways=True, upside_down=False, turned=False)),
        (lambda n: part(n, spots=[(20, 44), (44, 44)]), Freedom(sideways=False, upside_down=True, turned=False)),
    ],
    ids=["noise", "grain", "one spot", "two above", "two to the right"],
)
def test_what_leaves_good_images_good_is_free(images, expected: Freedom, count: int) -> None:
    made = images(count + 3)
    found = learn_freedom(made, list(range(3, count + 3)), extract=extract, channels=C)
    assert found == expected


def test_parts_in_any_pose_may_be_turned() -> None:
    rng = np.random.default_rng(0)
    poses = [Pose.mirror(1, 1), *(Freedom(True, True, True).draw(rng, (SIDE, SIDE)) for _ in range(60))]
    made = np.stack([pose.apply(one) for pose, one in zip(poses, part(61, spots=[(20, 44)]), strict=True)])
    assert learn_freedom(made, list(range(61)), extract=extract, channels=C).turned


@pytest.mark.parametrize("count", [1, 3])
def test_of_very_few_images_nothing_can_be_told(count: int) -> None:
    assert learn_freedom(part(count, spots=[(20, 44)]), list(range(count)), extract=extract, channels=C) == ANY
