"""The examples of docs/deploying.md, run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from blemish.model.detector import Detector
from helpers.images import noise, stained

PAGE = (Path(__file__).parents[2] / "docs/deploying.md").read_text(encoding="utf-8")

WITHOUT_BLEMISH = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("blemish", "torch", "onnx", "cv2", "scipy"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
"""

SIZES = [(64, 64), (37, 90), (200, 31), (20, 400), (65, 129)]


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("anomalous", [False, True], ids=["good", "stained"])
def test_the_python_example_says_what_blemish_says(anomalous: bool, tiny_model: Path, tmp_path: Path) -> None:
    (program,) = examples("python")
    shutil.copy(tiny_model, tmp_path / "screws.onnx")
    image = (stained if anomalous else noise)(3, size=(120, 85))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(image).save(tmp_path / "part.png", exif=exif)
    command = [sys.executable, "-c", WITHOUT_BLEMISH + program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    verdict, score, p_value = done.stdout.split()
    expected = Detector.load(tiny_model).score([tmp_path / "part.png"])
    assert verdict == expected.verdicts[0]
    assert float(score) == pytest.approx(expected.scores[0], rel=1e-5)
    assert float(p_value) == pytest.approx(expected.p_values[0], rel=1e-6)


def compiled(source: str, folder: Path, *options: str) -> Path:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    (folder / "program.cpp").write_text(source)
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Werror", "program.cpp", "-o", "program", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "program"


def test_the_resize_in_cpp_is_pillows(tmp_path: Path) -> None:
    (tmp_path / "resize.hpp").write_text(examples("cpp")[0])
    main = """
#include <cstdio>
#include <cstdlib>
#include "resize.hpp"
int main(int, char** a) {
    const size_t h = atoi(a[1]), w = atoi(a[2]), H = atoi(a[3]), W = atoi(a[4]);
    std::vector<uint8_t> in(h * w * 3);
    if (fread(in.data(), 1, in.size(), stdin) != in.size()) return 1;
    const auto out = resize(in, h, w, H, W);
    fwrite(out.data(), 1, out.size(), stdout);
}
"""
    program = compiled(main, tmp_path)
    for height, width in SIZES:
        for to in ((64, 64), (32, 96), (1, 1)):
            image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
            sides = [str(side) for side in (height, width, *to)]
            done = subprocess.run([program, *sides], input=image.tobytes(), capture_output=True, timeout=60, check=True)
            found = np.frombuffer(done.stdout, np.uint8).reshape(*to, 3).astype(int)
            expected = np.asarray(Image.fromarray(image).resize((to[1], to[0]), Image.Resampling.BILINEAR))
            assert np.abs(found - expected).max() <= 1


@pytest.mark.slow
def test_the_cpp_example_says_what_blemish_says(tiny_model: Path, tmp_path: Path) -> None:
    include = os.environ.get("ONNXRUNTIME_INCLUDE")
    places = [Path(include)] if include else [Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime")]
    headers = next((place for place in places if (place / "onnxruntime_cxx_api.h").is_file()), None)
    (library, *_) = [*Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"), None]
    if headers is None or library is None:
        pytest.skip("no headers of ONNX Runtime here: name their folder in ONNXRUNTIME_INCLUDE")
    resize, main = examples("cpp")
    (tmp_path / "resize.hpp").write_text(resize)
    program = compiled(main, tmp_path, f"-I{headers}", str(library), f"-Wl,-rpath,{library.parent}")
    Image.fromarray(stained(3, size=(120, 85))).save(tmp_path / "part.ppm")
    command = [program, tiny_model, tmp_path / "part.ppm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    verdict, score = done.stdout.split()
    expected = Detector.load(tiny_model).score([tmp_path / "part.ppm"])
    assert verdict == expected.verdicts[0]
    assert float(score) == pytest.approx(expected.scores[0], rel=0.02)


def test_what_the_page_says_of_a_file_is_what_the_file_says(tiny_model: Path) -> None:
    session = onnxruntime.InferenceSession(tiny_model, providers=["CPUExecutionProvider"])
    entry = session.get_modelmeta().custom_metadata_map["blemish.description"]
    for name in ("threshold", "unsure_threshold"):  # as the program in C++ looks for them, and in this order
        assert f'"{name}": ' in entry
    assert len(examples("csharp")) == 1
