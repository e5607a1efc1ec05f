"""A run that was killed goes on where it stopped, and leaves what one run would have left."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.model.detector import Detector
from blemish.prediction import Prediction, predict
from blemish.prediction.engine import ThreadEngine
from blemish.prediction.journal import FILE
from helpers.images import noise, save_image, stained
from helpers.killing import KilledError, contents, dying_after
from helpers.scripts import load_script

CHUNK = 8
IMAGES = 3 * CHUNK + 5


@pytest.fixture
def photos(tmp_path) -> Path:
    for i in range(IMAGES):
        save_image(tmp_path / f"photos/{i}{'.jpg' * (i == 3)}.png", stained(i) if i % 7 == 0 else noise(i))
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def small_steps(monkeypatch) -> None:
    monkeypatch.setattr("blemish.prediction.journal.COMMIT_SECONDS", 0)
    monkeypatch.setattr("blemish.prediction.run.CHUNK", CHUNK)


def kill_after(chunks: int, detector: Detector, paths: list[Path], out: Path, **options: object) -> None:
    with pytest.raises(KilledError):
        predict(detector, paths, out, engine=dying_after(chunks, detector), **options)
    assert (out / FILE).exists() == (chunks > 0)
    assert not (out / "scores.csv").exists()


def resume(detector: Detector, paths: list[Path], out: Path, **options: object) -> tuple[Prediction, list[str]]:
    messages: list[str] = []
    return predict(detector, paths, out, notify=messages.append, **options), messages


def test_a_killed_run_goes_on_and_leaves_what_one_run_leaves(detector, photos, tmp_path):
    predict(detector, [photos], tmp_path / "whole", save_maps="npy")
    kill_after(2, detector, [photos], tmp_path / "out", save_maps="npy")
    # Stop, go on, stop again, go on.
    with pytest.raises(KilledError):
        predict(detector, [photos], tmp_path / "out", save_maps="npy", engine=dying_after(1, detector))
    prediction, messages = resume(detector, [photos], tmp_path / "out", save_maps="npy", workers=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert messages == [f"{tmp_path / 'out'}: going on with an unfinished run, {3 * CHUNK} images done"]
    assert (prediction.images, prediction.resumed) == (IMAGES, 3 * CHUNK)


def test_only_what_is_missing_is_scored_again(detector, photos, tmp_path, monkeypatch):
    kill_after(2, detector, [photos], tmp_path / "out", heatmaps=False)
    seen: list[str] = []
    stream = Detector.predict_iter

    def watched(self, images, **options):
        seen.extend(images)
        return stream(self, images, **options)

    monkeypatch.setattr(Detector, "predict_iter", watched)
    resume(detector, [photos], tmp_path / "out", heatmaps=False)
    assert seen == [str(photos / f"{i}.png") for i in range(2 * CHUNK, IMAGES)]


def test_nothing_done_leaves_nothing(detector, photos, tmp_path):
    kill_after(0, detector, [photos], tmp_path / "out", heatmaps=False)
    assert contents(tmp_path / "out") == {}


def test_a_finished_run_is_done_again(detector, photos, tmp_path):
    for _ in range(2):
        prediction, messages = resume(detector, [photos], tmp_path / "out", heatmaps=False)
        assert (prediction.resumed, messages) == (0, [])


@pytest.mark.parametrize(
    "difference", ["another rate", "other pictures", "another model", "another runtime", "restart"]
)
def test_another_run_starts_over(detector, tiny_model, photos, tmp_path, difference, monkeypatch):
    kill_after(2, detector, [photos], tmp_path / "out")
    options: dict[str, object] = {"save_maps": "npy"} if difference == "other pictures" else {}
    if difference == "another rate":
        detector = Detector.load(tiny_model, false_alarm_rate=0.5, threads=1)
    elif difference == "another model":
        detector = Detector.load(tiny_model, threads=1)
        detector.fingerprint = "another"
    elif difference == "another runtime":
        monkeypatch.setattr("onnxruntime.__version__", "99.0")
    elif difference == "restart":
        options["restart"] = True
    prediction, messages = resume(detector, [photos], tmp_path / "out", **options)
    predict(detector, [photos], tmp_path / "whole", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert prediction.resumed == 0
    assert messages == [
        f"{tmp_path / 'out'}: starting over; "
        + (
            "the unfinished run in it is dropped"
            if difference == "restart"
            else "the unfinished run in it had another model or other options"
        )
    ]


def add_and_remove(photos: Path) -> str:
    save_image(photos / "0a.png", noise(1000))
    (photos / "4.png").unlink()
    return "1 image new, 1 image no longer given"


def change(photos: Path) -> str:
    save_image(photos / "4.png", stained(1001))
    os.utime(photos / "4.png", (0, 0))
    return "1 image changed"


def take_a_pictures_name(photos: Path) -> str:
    """The picture of 3.jpg.png was called so: now it is that of 3.jpg."""
    save_image(photos / "3.jpg", noise(1002))
    return "1 image new"


CHANGES: dict[str, Callable[[Path], str]] = {
    "added and removed": add_and_remove,
    "changed": change,
    "a picture's name is taken": take_a_pictures_name,
}


@pytest.mark.parametrize("alter", CHANGES.values(), ids=CHANGES)
def test_images_that_change_between_runs_are_said_and_seen_to(detector, photos, tmp_path, alter):
    kill_after(2, detector, [photos], tmp_path / "out")
    expected = alter(photos)
    _, messages = resume(detector, [photos], tmp_path / "out")
    predict(detector, [photos], tmp_path / "whole")
    assert len(messages) == 1
    assert messages[0].endswith(f"(since then: {expected})")
    scores, whole = (json.dumps(sorted(contents(tmp_path / out))) for out in ("out", "whole"))
    assert scores == whole
    assert rows_without_rounding(tmp_path / "out") == rows_without_rounding(tmp_path / "whole")


def rows_without_rounding(out: Path) -> list[str]:
    """The table; an image among other images may differ in the last bits."""
    lines = (out / "scores.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    return [f"{path} {float(score):.4g} {p_value} {verdict}" for path, score, p_value, verdict in cells]


@pytest.mark.parametrize("heatmaps", [False, True], ids=["scores only", "with pictures"])
def test_a_new_common_folder_moves_the_pictures(detector, photos, tmp_path, heatmaps):
    """Rows are kept where there are no pictures, whose names have changed."""
    kill_after(2, detector, [photos], tmp_path / "out", heatmaps=heatmaps)
    beside = save_image(tmp_path / "beside/x.png", noise(0))
    prediction, _ = resume(detector, [photos, beside], tmp_path / "out", heatmaps=heatmaps)
    predict(detector, [photos, beside], tmp_path / "whole", heatmaps=heatmaps)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert prediction.resumed == (0 if heatmaps else 2 * CHUNK)


def test_an_image_that_could_not_be_read_is_tried_again(detector, photos, tmp_path):
    (photos / "4.png").write_bytes(b"")
    kill_after(1, detector, [photos], tmp_path / "out")
    save_image(photos / "4.png", noise(3))
    prediction, messages = resume(detector, [photos], tmp_path / "out")
    assert (prediction.failed, prediction.resumed, len(messages)) == (0, CHUNK - 1, 1)


def test_half_written_files_of_a_killed_run_are_removed(detector, photos, tmp_path):
    kill_after(1, detector, [photos], tmp_path / "out")
    for name in ("heatmaps/.99.png.0a0b0c0d.partial", ".scores.csv.0a0b0c0d.partial"):
        (tmp_path / "out" / name).write_bytes(b"half")
    resume(detector, [photos], tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".*"))


def test_two_runs_do_not_write_into_one_folder(detector, photos, tmp_path):
    def second_run(waiting) -> Iterator:
        with pytest.raises(BlemishError, match="another run is writing into this folder"):
            predict(detector, [photos], tmp_path / "out")
        yield from ThreadEngine(detector, workers=1)(waiting)

    assert predict(detector, [photos], tmp_path / "out", engine=second_run, heatmaps=False).images == IMAGES


def test_a_damaged_journal_is_one_sentence(detector, photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(BlemishError, match="damaged; remove it, and the run starts over"):
        predict(detector, [photos], tmp_path / "out")


def test_an_interrupted_run_says_how_far_it_came(detector, photos, tmp_path):
    messages: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        predict(
            detector,
            [photos],
            tmp_path / "out",
            engine=dying_after(2, detector, KeyboardInterrupt),
            notify=messages.append,
        )
    assert messages == [f"{2 * CHUNK} of {IMAGES} images done: the same command goes on from here"]


@pytest.mark.slow
def test_killed_three_times_at_random_and_resumed_gives_the_same_rows(tiny_model, tmp_path):
    """The process gets SIGKILL, wherever it is: listing, scoring, writing pictures, joining the table."""
    for i in range(3000):
        if i < 100:
            save_image(tmp_path / f"photos/{i}.png", stained(i) if i % 9 == 0 else noise(i))
        else:
            os.symlink(f"{i % 100}.png", tmp_path / f"photos/{i}.png")
    command = [
        sys.executable,
        "-m",
        "blemish",
        "predict",
        str(tiny_model),
        str(tmp_path / "photos"),
        "--save-maps",
        "npy",
    ]
    started = time.monotonic()
    subprocess.run([*command, "-o", str(tmp_path / "whole")], check=True, capture_output=True)
    seconds = time.monotonic() - started
    chance = random.Random(0)
    carried_on = 0
    for _ in range(3):
        process = subprocess.Popen([*command, "-o", str(tmp_path / "out")], stderr=subprocess.PIPE)
        while not (tmp_path / "out" / FILE).exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.05, 0.25) * seconds)
        process.send_signal(signal.SIGKILL)
        carried_on += b"going on" in process.communicate()[1]
        assert process.returncode == -signal.SIGKILL
    done = subprocess.run([*command, "-o", str(tmp_path / "out")], check=True, capture_output=True, text=True)
    assert carried_on + ("going on" in done.stderr) >= 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_memory_does_not_grow_with_the_number_of_images(tiny_model, tmp_path):
    """100,000 images take at most 1.2 times the memory of 1,000."""
    picture = save_image(tmp_path / "one.png", noise(1))
    measure = load_script("memory").peak_megabytes
    few, many = (measure(tiny_model, picture, number, "--no-heatmaps") for number in (1_000, 100_000))
    assert many <= 1.2 * few
