"""The examples run as they stand, and the notebook's cells too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "inspection.ipynb"
MAX_PICTURES = 300_000  # bytes


def output_of(code: list[str], folder: Path) -> str:
    """What Python prints, in a folder of its own and on one thread."""
    done = subprocess.run(
        [sys.executable, *code],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_a_method_of_a_script_trains_and_finds_the_anomalies(tmp_path: Path) -> None:
    assert output_of([str(EXAMPLES / "own_method.py")], tmp_path).strip() == str(["anomalous"] * 4)


@pytest.mark.slow
def test_arrays_are_trained_on_with_and_without_labels(tmp_path: Path) -> None:
    lines = output_of([str(EXAMPLES / "fit_arrays.py")], tmp_path).splitlines()
    assert all(line.count("anomalous") >= 3 for line in lines[:2])


@pytest.mark.slow
def test_the_demos_folder_is_trained_on_and_predicted(tmp_path: Path) -> None:
    printed = output_of([str(EXAMPLES / "train_and_predict.py"), "out"], tmp_path)
    assert float(printed.split("image AUROC ")[1][:5]) > 0.8
    assert (tmp_path / "out/bricks.onnx").is_file()


@pytest.mark.slow
def test_the_notebooks_cells_run(tmp_path: Path) -> None:
    code = "\n".join("".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code")
    assert "image_auroc" in output_of(["-c", code], tmp_path)


def test_the_notebook_was_executed_and_is_small() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures
    assert sum(map(len, pictures)) < MAX_PICTURES
