"""A small inspection set made from one real photograph, for `blemish demo` and for trying things offline.

The photograph is the brick wall that ships inside the scikit-image wheel (from CC0Textures, licence CC0).
Good images are crops of it; defects are painted into further crops, and their masks are what the painting
changed. All crops are drawn alike, as a camera would see one wall again and again: a false-alarm rate can only
be promised for good images that come from where the calibration images came from. Training and test see the
same bricks therefore. It shows the whole path at work; with one photograph behind it, it is no benchmark.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter, label
from scipy.spatial import cKDTree

from blemish.errors import BlemishError
from blemish.imaging.regions import EIGHT_CONNECTED
from blemish.imaging.types import Mask
from blemish.process.progress import Progress, no_progress

TRAIN_GOOD = 200
TEST_GOOD = 40
PER_DEFECT = 14

PHOTOGRAPH_SIDE = 512
# About four courses of brick: enough repetition to learn from, bricks large enough to carry a defect.
CROP_SIDE = 160
IMAGE_SIDE = 256
# A smaller change, or a smaller spot of it, is invisible to a person; it is undone and not in the mask.
VISIBLE_GREY_LEVELS = 4
VISIBLE_PIXELS = 20

UNFINISHED = "Blemish demo set, unfinished: build it again.\n"

Grey = NDArray[np.uint8]  # (H, W) grey levels
Field = NDArray[np.float64]  # (H, W), often a change in grey levels


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Where one image comes from: `box` is (left, top, right, bottom) in the photograph, half open."""

    box: tuple[int, int, int, int]
    mirrored: bool
    flipped: bool
    brightness: float


@dataclass(frozen=True, kw_only=True)
class PlannedImage:
    """One image to draw: its path in the set, its crop, its defect if any, severity 0 (subtle) to 1."""

    path: Path
    crop: Crop
    defect: str | None = None
    severity: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Defective:
    """A crop before and after a defect was painted; outside `mask` the two are equal."""

    clean: Grey
    image: Grey
    mask: Mask


def build_demo_set(root: Path, *, seed: int = 0, progress: Progress = no_progress) -> Path:
    """Write the set to `root` in MVTec AD's layout and return `root`; a finished set of that seed is kept.

    `progress` is called with "bricks", the images written and all of them. The same seed writes the same pixels. An
    interrupted build is recognised and built again.

    Raises:
        BlemishError: `root` holds something else, or scikit-image, which carries the photograph, is missing.
    """
    readme, finished = root / "README.txt", _finished_note(seed)
    found = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else None
    if found == finished:
        return root
    if root.exists() and found != UNFINISHED and not _is_empty_folder(root):
        raise BlemishError(
            f"{root} exists and is not the demo set of seed {seed}: name another folder, or remove that one"
        )
    wall = load_photograph()
    root.mkdir(parents=True, exist_ok=True)
    readme.write_text(UNFINISHED, encoding="utf-8")
    planned = plan_images(seed)
    for index, image in enumerate(planned):
        _write_image(root, wall, image, rng=np.random.default_rng([seed, index]))
        progress("bricks", index + 1, len(planned))
    readme.write_text(finished, encoding="utf-8")
    return root


def load_photograph() -> Grey:
    """The brick wall with its courses lying level, uint8 (512, 512).

    Raises:
        BlemishError: scikit-image is not installed, or its wheel lost the photograph.
    """
    # Read from the wheel itself: skimage.data would try to download what it misses.
    package = importlib.util.find_spec("skimage")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], "data", "brick.png") if folders else None
    if path is None or not path.is_file():
        raise BlemishError(
            "the demo photograph comes with scikit-image, which is not installed here (or is incomplete): "
            'pip install "blemish[train]"'
        )
    with Image.open(path) as photograph:
        return np.asarray(photograph.convert("L").transpose(Image.Transpose.ROTATE_90))


def plan_images(seed: int) -> list[PlannedImage]:
    """Every image of the set, before a pixel is drawn."""
    rng = np.random.default_rng(seed)
    plan = [
        PlannedImage(path=Path(split, "good", f"{index:03}.png"), crop=_choose_crop(rng))
        for split, count in (("train", TRAIN_GOOD), ("test", TEST_GOOD))
        for index in range(count)
    ]
    plan += [
        PlannedImage(
            path=Path("test", defect, f"{index:03}.png"),
            crop=_choose_crop(rng),
            defect=defect,
            severity=index / (PER_DEFECT - 1),
        )
        for defect in PAINTERS
        for index in range(PER_DEFECT)
    ]
    return plan


def _choose_crop(rng: np.random.Generator) -> Crop:
    left, top = (int(start) for start in rng.integers(0, PHOTOGRAPH_SIDE - CROP_SIDE + 1, size=2))
    return Crop(
        box=(left, top, left + CROP_SIDE, top + CROP_SIDE),
        mirrored=bool(rng.integers(2)),
        flipped=bool(rng.integers(2)),
        brightness=float(rng.uniform(0.95, 1.05)),
    )


def render(wall: Grey, crop: Crop) -> Grey:
    """The crop as a camera would deliver it, uint8 (256, 256)."""
    left, top, right, bottom = crop.box
    # Cut first, then enlarge: the filter never sees a pixel outside the box.
    part = Image.fromarray(wall[top:bottom, left:right])
    pixels = np.asarray(part.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC))
    pixels = pixels[::-1] if crop.flipped else pixels
    pixels = pixels[:, ::-1] if crop.mirrored else pixels
    return _to_grey_levels(pixels * crop.brightness)


def paint_defect(clean: Grey, kind: str, *, severity: float, rng: np.random.Generator) -> Defective:
    """Paint a "scratch", "hole" or "stain" of severity 0 (subtle) to 1 (obvious) into a clean image."""
    change = PAINTERS[kind](clean.astype(np.float64), severity, rng)  # (H, W) grey levels
    painted = _to_grey_levels(clean + change)
    mask = _solid(np.abs(painted.astype(int) - clean) >= VISIBLE_GREY_LEVELS)
    return Defective(clean=clean, image=np.where(mask, painted, clean), mask=mask)


def _solid(changed: Mask) -> Mask:
    """The region a person would outline: no stray specks, no pinholes where the change crosses zero."""
    mask = changed | binary_fill_holes(binary_closing(changed, EIGHT_CONNECTED))
    regions, _ = label(mask, EIGHT_CONNECTED)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # the background
    solid: Mask = (sizes >= VISIBLE_PIXELS)[regions]
    return solid


def _scratch(clean: Field, severity: float, rng: np.random.Generator) -> Field:
    """A bent groove: a dark core with one lit lip, tapering, of uneven depth."""
    length, core = _between(60, 150, severity), _between(0.9, 1.4, severity)
    t = np.linspace(0, 1, 600)
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.2, 0.2) * length
    along, across = (t - 0.5) * length, bend * 4 * t * (1 - t) + 0.8 * _cloud(rng, t.shape, smooth=30)
    x = _centre(rng) + along * np.cos(angle) - across * np.sin(angle)
    y = _centre(rng) + along * np.sin(angle) + across * np.cos(angle)

    ys, xs = np.indices(clean.shape)
    _, nearest = cKDTree(np.stack([x, y], axis=1)).query(np.stack([xs, ys], axis=-1))  # (H, W)
    off_x, off_y = xs - x[nearest], ys - y[nearest]
    side = np.sign(np.gradient(x)[nearest] * off_y - np.gradient(y)[nearest] * off_x)
    offset = side * np.hypot(off_x, off_y)  # signed distance to the stroke in pixels

    taper = np.sin(np.pi * t) ** 0.4
    depth = taper * np.clip(1 + 0.3 * _cloud(rng, t.shape, smooth=8), 0.3, 1.4)
    groove = np.exp(-((offset / core) ** 2))
    lip = np.exp(-(((offset - 1.9 * core) / (0.7 * core)) ** 2))
    relief = _between(38, 62, severity) * lip - _between(38, 60, severity) * groove
    change: Field = depth[nearest] * relief
    return change


def _hole(clean: Field, severity: float, rng: np.random.Generator) -> Field:
    """A chipped-out pit: a rough floor in shadow, its far side lit, a bright broken edge below it."""
    radius = _between(7, 24, severity)
    inside, shadowed = _blob(clean.shape, radius, rng, roughness=0.13)
    inside = inside + 0.05 * radius * _cloud(rng, clean.shape, smooth=2.5)
    cover = np.clip(0.5 + inside / 1.8, 0, 1)
    slope = np.exp(-np.clip(inside, 0, None) / (0.6 * radius))  # 1 at the edge, towards 0 in the middle
    floor = _between(58, 42, severity) - 30 * slope * shadowed + 5 * _cloud(rng, clean.shape, smooth=2)
    lit = np.clip(-shadowed, 0, 1) * (1 + 0.4 * _cloud(rng, clean.shape, smooth=2))
    edge = lit * np.exp(-(((inside + 1) / 1.2) ** 2))
    return cover * (floor - clean) + (1 - cover) * 38 * edge


def _stain(clean: Field, severity: float, rng: np.random.Generator) -> Field:
    """A dried-in liquid: translucent, denser toward its ragged edge, darkening (oil) or paling (lime)."""
    radius = _between(20, 42, severity)
    inside, _ = _blob(clean.shape, radius, rng, roughness=0.16)
    inside = inside + 0.08 * radius * _cloud(rng, clean.shape, smooth=5)
    cover = 1 / (1 + np.exp(-inside / 1.2))
    tide = 1 + 0.5 * np.exp(-np.clip(inside, 0, None) / 5)
    density = cover * tide * np.clip(1 + 0.15 * _cloud(rng, clean.shape, smooth=8), 0.6, None)
    if rng.random() < 0.6:
        return -_between(0.22, 0.45, severity) * density * clean
    return _between(0.12, 0.26, severity) * density * (255 - clean)


PAINTERS: dict[str, Callable[[Field, float, np.random.Generator], Field]] = {
    "hole": _hole,
    "scratch": _scratch,
    "stain": _stain,
}


def _blob(shape: tuple[int, ...], radius: float, rng: np.random.Generator, *, roughness: float) -> tuple[Field, Field]:
    """How deep in an irregular disc each pixel lies, and its side: 1 upper left (the light) to -1."""
    ys, xs = np.indices(shape)
    dx, dy = xs - _centre(rng), ys - _centre(rng)
    angle = np.arctan2(dy, dx)
    outline = np.full(shape, radius)
    for waves in range(2, 9):
        height = radius * roughness * rng.normal() / waves**0.7
        outline += height * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return outline - np.hypot(dx, dy), -np.cos(angle - np.pi / 4)


def _cloud(rng: np.random.Generator, shape: tuple[int, ...], *, smooth: float) -> Field:
    """Smooth noise of unit deviation."""
    noise = gaussian_filter(rng.normal(size=shape), smooth)
    cloud: Field = noise / noise.std()
    return cloud


def _centre(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.28, 0.72)) * IMAGE_SIDE


def _between(subtle: float, obvious: float, severity: float) -> float:
    return subtle + (obvious - subtle) * severity


def _to_grey_levels(values: Field) -> Grey:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _write_image(root: Path, wall: Grey, planned: PlannedImage, *, rng: np.random.Generator) -> None:
    clean = render(wall, planned.crop)
    if planned.defect is None:
        _save(root / planned.path, clean)
        return
    defective = paint_defect(clean, planned.defect, severity=planned.severity, rng=rng)
    _save(root / planned.path, defective.image)
    truth = root / "ground_truth" / planned.defect / f"{planned.path.stem}_mask.png"
    _save(truth, defective.mask.astype(np.uint8) * 255)


def _save(path: Path, pixels: Grey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The default level would cost a third of the build's time, for a sixth less size.
    Image.fromarray(pixels).save(path, compress_level=2)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _finished_note(seed: int) -> str:
    return (
        f"Blemish demo set, seed {seed}.\n\n"
        "Crops of one photograph of a brick wall: brick.png of scikit-image, from CC0Textures, licence CC0.\n"
        "Training crops and test crops are drawn alike, from the whole wall. The defects\n"
        "are painted, from subtle (000) to obvious; outside its mask an image is the untouched photograph.\n"
        "It shows the tool at work. It is no benchmark.\n"
    )
