"""Small data sets to train on."""

from pathlib import Path

import numpy as np
from PIL import Image


def texture(rng: np.random.Generator) -> np.ndarray:
    return (120 + 20 * np.sin(np.arange(96) / 3) + rng.normal(0, 6, (64, 96))).clip(0, 255).astype(np.uint8)


def write_parts(root: Path, *, good: int = 12, labelled: int = 0, masks: bool = True) -> Path:
    rng = np.random.default_rng(0)
    for split, defect, number in (
        ("train", "good", good),
        ("test", "good", 4),
        ("train", "spot", labelled),
        ("test", "spot", 4),
    ):
        for index in range(number):
            pixels = texture(rng)
            mask = np.zeros_like(pixels)
            if defect == "spot":
                row, column = rng.integers(8, 40), rng.integers(8, 70)
                mask[row : row + 14, column : column + 14] = 255
                pixels[mask > 0] = 20
                if masks or split == "test":
                    save(root / "ground_truth" / defect / f"{split}{index}_mask.png", mask)
            save(root / split / defect / f"{split}{index}.png", pixels)
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
