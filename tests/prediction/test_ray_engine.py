"""Ray scores the same chunks with the same function: same rows, same pictures, same resume."""

import os
import sys
from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.model.detector import Detector
from blemish.prediction import predict
from blemish.prediction.journal import FILE
from blemish.prediction.ray_engine import RUN_ERROR, Job, RayEngine, ScoreChunk
from helpers.images import noise, save_image, stained
from helpers.killing import KilledError, contents, dying_after

ray = pytest.importorskip("ray")
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A folder named relative to the current one, with an unreadable image and an odd name."""
    for i in range(70):
        save_image(tmp_path / f"photos/{i}.png", stained(i) if i % 9 == 0 else noise(i))
    (tmp_path / "photos/20.png").write_bytes(b"")
    save_image(tmp_path / "photos" / os.fsdecode(b"\xff.png"), noise(1))
    monkeypatch.chdir(tmp_path)
    return Path("photos")


@pytest.mark.slow
def test_ray_gives_the_rows_and_pictures_of_a_run_without(run, tiny_model, photos):
    options = ["--save-maps", "npy", "--false-alarm-rate", "0.2", "--json"]
    here = run("predict", tiny_model, photos, "-o", "here", *options)
    there = run("predict", tiny_model, photos, "-o", "there", *options, "--workers", "2", "--ray")
    assert (here.status, there.status) == (0, 0)
    assert there.err == here.err == "photos/20.png: empty (0 bytes)\n"
    assert contents(Path("there")) == contents(Path("here"))


@pytest.fixture(scope="module")
def cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ray_goes_on_with_a_killed_run(tiny_model, photos, monkeypatch):
    monkeypatch.setattr("blemish.prediction.journal.COMMIT_SECONDS", 0)
    detector = Detector.load(tiny_model, threads=1)
    with pytest.raises(KilledError):
        predict(detector, [photos], "there", engine=dying_after(1, detector))
    predict(detector, [photos], "here")
    prediction = predict(detector, [photos], "there", engine=RayEngine(tiny_model, Path("there"), workers=1))
    assert prediction.resumed > 0
    assert contents(Path("there")) == contents(Path("here"))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_fault_in_an_actor_keeps_its_sentence(tiny_model, photos):
    (photos.parent / "out").mkdir()
    (photos.parent / "out/heatmaps").write_text("in the way")
    with pytest.raises(BlemishError, match="out/heatmaps: a file is in its place"):
        predict(Detector.load(tiny_model), [photos], "out", engine=RayEngine(tiny_model, Path("out"), workers=1))


def test_an_actor_that_does_not_see_the_folder_says_so(tiny_model, photos):
    actor = ScoreChunk(Job("m.onnx", tiny_model.read_bytes(), None, folder="nowhere", out="/not/shared"))
    item = {"position": 1, "name": b"photos/0.png", "overlay": b"/not/shared/heatmaps/0.png", "anomaly_map": None}
    answer = actor(pyarrow.Table.from_pylist([item])).to_pylist()
    assert list(answer[0]) == [RUN_ERROR]
    assert "does not see /not/shared: name a folder that all machines share" in answer[0][RUN_ERROR]
    row = actor(pyarrow.Table.from_pylist([item | {"overlay": None}])).to_pylist()[0]
    assert row["score"] == pytest.approx(Detector.load(tiny_model).score([photos / "0.png"]).scores[0], rel=1e-5)


@pytest.mark.parametrize("address", ["m.onnx", "line3"])
def test_a_path_that_was_taken_for_an_address_is_a_sentence(run, tiny_model, tmp_path, address):
    outcome = run("predict", "--ray", address, tiny_model, tmp_path, "-o", tmp_path / "out")
    assert outcome.status == 2
    assert outcome.err.startswith(f"blemish: {address} is no address of Ray's: give auto, host:6379")


@pytest.mark.parametrize("address", ["localhost:1", "ray://localhost:1", "localhost:port"])
def test_nobody_at_the_address_is_a_sentence_at_once(run, tiny_model, photos, address):
    outcome = run("predict", tiny_model, photos, "-o", "out", "--ray", address)
    assert outcome.status == 2
    assert f"no Ray cluster answers at {address}" in outcome.err.splitlines()[-1]
    assert not Path("out").exists()


def test_without_ray_a_sentence_says_what_to_install(run, tiny_model, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    outcome = run("predict", tiny_model, photos, "-o", "out", "--ray")
    assert outcome.status == 2
    assert 'pip install "blemish[ray]"' in outcome.err
    assert not (Path("out") / FILE).exists()
