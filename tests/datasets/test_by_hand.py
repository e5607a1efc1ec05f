"""Folders named by hand, VisA's list, and unused images: in Python and on the command line."""

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from blemish.datasets.inspection import examine
from blemish.datasets.layouts import DataSet, read_data_set
from blemish.errors import BlemishError
from helpers.images import noise, save_image, stained


def photograph(path: Path) -> Path:
    seed = crc32(path.as_posix().encode())
    return save_image(path, noise(seed))


def defective(path: Path) -> Path:
    seed = crc32(path.as_posix().encode())
    return save_image(path, stained(seed))


def mark(path: Path, *, value: int = 255) -> Path:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[16:48, 16:48] = value
    return save_image(path, pixels)


def found_in(data: DataSet) -> dict[Path, tuple[str | None, object]]:
    return {sample.path: (sample.defect, sample.mask) for sample in (*data.train, *data.test)}


@pytest.fixture
def line(tmp_path) -> Path:
    """A folder that no layout fits: no name says what is good, and there is a year between."""
    root = tmp_path / "line"
    for i in range(6):
        photograph(root / f"Charge7/2025/{i}.png")
    for i in range(3):
        defective(root / f"Kratzer/{i}.png")
        mark(root / f"gemalt/Kratzer/{i}.png")
        defective(root / f"Rost/Bilder/{i}.png")
    photograph(root / "neu/0.png")
    return root


def test_the_folder_has_no_layout(line):
    with pytest.raises(
        BlemishError, match=r"no known layout.*or name folders with --good DIR, --bad DIR and --masks DIR"
    ):
        read_data_set(line)


@pytest.mark.parametrize("relative", [True, False], ids=["below DATA", "as they stand"])
def test_named_folders(line, relative):
    base = Path() if relative else line
    data = read_data_set(line, good=[base / "Charge7"], bad=[base / "Kratzer", base / "Rost"], masks=[base / "gemalt"])
    wanted = {line / f"Charge7/2025/{i}.png": (None, None) for i in range(6)}
    wanted |= {line / f"Kratzer/{i}.png": ("Kratzer", line / f"gemalt/Kratzer/{i}.png") for i in range(3)}
    wanted |= {line / f"Rost/Bilder/{i}.png": ("Rost", None) for i in range(3)}
    assert found_in(data) == wanted
    assert data.layout == "named"
    [warning] = data.warnings
    assert warning.message.startswith("1 image not used: neu/ (1); ")
    assert warning.paths == (line / "neu/0.png",)


def test_the_split_is_the_same_with_and_without_data(line, monkeypatch):
    monkeypatch.chdir(line)
    whole = read_data_set(line, good="Charge7", bad=["Kratzer", "Rost"])
    parts = read_data_set(None, good="Charge7", bad=[line / "Kratzer", "Rost"])
    assert parts.warnings == ()
    for one, two in ((whole.train, parts.train), (whole.test, parts.test)):
        assert [sample.path.resolve() for sample in one] == [sample.path.resolve() for sample in two]
    assert whole.test
    assert parts.root.resolve() == line


def test_one_folder_as_text_is_one_folder(line):
    assert len(read_data_set(line, good="Charge7").train) == 6
    assert len(read_data_set(None, good=str(line / "Charge7")).train) == 6


def test_types_below_a_bad_folder(tmp_path):
    photograph(tmp_path / "a/good/0.png")
    for name in ("nok/cut/0", "nok/dent/0", "nok/1"):
        defective(tmp_path / f"a/{name}.png")
    data = read_data_set(None, good=[tmp_path / "a/good"], bad=[tmp_path / "a/nok"])
    assert sorted(sample.defect for sample in (*data.train, *data.test) if sample.defect) == ["cut", "dent", "nok"]


def test_folders_of_one_name_are_told_apart(tmp_path):
    for line in "ab":
        photograph(tmp_path / line / "good/0.png")
        defective(tmp_path / line / "bad/0.png")
        mark(tmp_path / line / "masks/0.png")
    data = read_data_set(None, **{role: [tmp_path / line / role for line in "ab"] for role in ("good", "bad", "masks")})
    assert len(found_in(data)) == 4
    assert found_in(data)[tmp_path / "a/bad/0.png"] == ("bad", tmp_path / "a/masks/0.png")
    assert found_in(data)[tmp_path / "b/bad/0.png"] == ("bad", tmp_path / "b/masks/0.png")


def test_a_folder_inside_another_is_taken_out_of_it(tmp_path):
    photograph(tmp_path / "0.png")
    defective(tmp_path / "bent/0.png")
    mark(tmp_path / "bent/drawn/0.png")
    data = read_data_set(tmp_path, good=[tmp_path], bad=["bent"], masks=["bent/drawn"])
    assert found_in(data) == {
        tmp_path / "0.png": (None, None),
        tmp_path / "bent/0.png": ("bent", tmp_path / "bent/drawn/0.png"),
    }


def test_a_mask_beside_an_image_in_a_named_folder(tmp_path):
    photograph(tmp_path / "fine/0.png")
    defective(tmp_path / "bent/0.png")
    mark(tmp_path / "bent/0_label.png")
    data = read_data_set(None, good=[tmp_path / "fine"], bad=[tmp_path / "bent"])
    assert found_in(data)[tmp_path / "bent/0.png"] == ("bent", tmp_path / "bent/0_label.png")
    assert len(found_in(data)) == 2


def test_a_folder_called_images_is_named_by_the_one_above(tmp_path):
    photograph(tmp_path / "MT_Free/Imgs/0.jpg")
    for name in ("MT_Break", "MT_Fray"):
        defective(tmp_path / name / "Imgs/0.jpg")
        mark(tmp_path / name / "Imgs/0.png")
    data = read_data_set(tmp_path, good="MT_Free", bad=["MT_Break/Imgs", "MT_Fray/Imgs"])
    assert {sample.defect for sample in (*data.train, *data.test)} == {None, "MT_Break", "MT_Fray"}
    assert data.warnings == ()


FAULTS = {
    "no such folder": ({"good": ["nowhere"]}, r"nowhere: no such folder; name a folder of images"),
    "a file": ({"good": ["Charge7/2025/0.png"]}, r"0\.png: a file, not a folder"),
    "no image": ({"good": ["Charge7"], "bad": ["leer"]}, r"leer: no image in it; name a folder of images with --bad"),
    "two meanings": (
        {"good": ["Rost"], "bad": ["Rost"]},
        r"Rost: named by --good and by --bad; a folder has one meaning",
    ),
    "masks alone": (
        {"masks": ["gemalt"]},
        r"--masks needs the images: name their folders with --good DIR and --bad DIR",
    ),
    "and a class": ({"good": ["Charge7"], "nominal_class": "dog"}, r"--nominal-class goes with a layout"),
}


@pytest.mark.parametrize(("named", "message"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be(line, named, message):
    (line / "leer").mkdir()
    with pytest.raises(BlemishError, match=message):
        read_data_set(line, **named)


def test_no_folder_at_all():
    with pytest.raises(BlemishError, match=r"^no folder given; give a folder with images directly inside it"):
        read_data_set(None)


# VisA's list of images


def visa(root: Path, objects: tuple[str, ...] = ("candle",), *, extra: str = "") -> Path:
    rows = ["object,split,label,image,mask"]
    for name in objects:
        images = f"{name}/Data/Images"
        for i, split in enumerate(("train", "train", "test")):
            photograph(root / images / f"Normal/{i:04}.JPG")
            rows.append(f"{name},{split},normal,{images}/Normal/{i:04}.JPG,")
        defective(root / images / "Anomaly/000.JPG")
        mark(root / f"{name}/Data/Masks/Anomaly/000.png", value=1)
        rows.append(f"{name},test,anomaly,{images}/Anomaly/000.JPG,{name}/Data/Masks/Anomaly/000.png")
    (root / "split_csv").mkdir(parents=True)
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n" + extra)
    return root


@pytest.mark.parametrize("given", ["the object", "all of VisA", "all, and several objects"])
def test_visa(tmp_path, given):
    several = given == "all, and several objects"
    root = visa(tmp_path / "VisA", ("candle", "cashew") if several else ("candle",))
    own = root / "candle/Data"
    data = read_data_set(
        root / "candle" if given == "the object" else root, nominal_class="candle" if several else None
    )
    assert data.layout == "visa"
    assert [sample.path for sample in data.train] == [own / f"Images/Normal/{i:04}.JPG" for i in range(2)]
    assert {sample.path: (sample.defect, sample.mask) for sample in data.test} == {
        own / "Images/Normal/0002.JPG": (None, None),
        own / "Images/Anomaly/000.JPG": ("Anomaly", own / "Masks/Anomaly/000.png"),
    }
    assert data.warnings == ()
    assert data.notes[0] == "splits, labels and masks are those of 1cls.csv"
    assert not any("other file" in note for note in data.notes)


def test_visa_has_several_objects(tmp_path):
    root = visa(tmp_path / "VisA", ("candle", "cashew"))
    with pytest.raises(
        BlemishError, match=r"several objects in it; name one with --nominal-class NAME, of candle, cashew"
    ):
        read_data_set(root)
    with pytest.raises(BlemishError, match=r"no object cow in it"):
        read_data_set(root, nominal_class="cow")


def test_what_the_list_lacks_and_what_the_folder_lacks(tmp_path):
    root = visa(tmp_path / "VisA", extra="candle,test,normal,candle/Data/Images/Normal/0009.JPG,\n")
    photograph(root / "candle/Data/Images/Normal/0005.JPG")
    unused, missing = read_data_set(root / "candle").warnings
    assert unused.message.startswith("1 image not used: Data/Images/Normal/ (1); ")
    assert missing.message == "1 file of 1cls.csv not there: Data/Images/Normal/0009.JPG"


LISTS = {
    "columns": ("object,split,image\n", r"1cls\.csv: no column label, mask; its first line must be object,split,label"),
    "split": (
        "object,split,label,image,mask\ncandle,trian,normal,candle/Data/Images/Normal/0000.JPG,\n",
        r"1cls\.csv, line 2: the split is trian; it must be train or test",
    ),
    "bytes": (b"object,split,label,image,mask\n\xff\xfe\n", r"1cls\.csv: no CSV table in UTF-8"),
}


@pytest.mark.parametrize(("text", "message"), LISTS.values(), ids=LISTS)
def test_damaged_lists(tmp_path, text, message):
    root = visa(tmp_path / "VisA")
    (root / "split_csv/1cls.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BlemishError, match=message):
        read_data_set(root)


# The command line


@pytest.fixture
def named(line) -> list[str]:
    return ["--good", "Charge7", "--bad", "Kratzer", "--bad", "Rost", "--masks", "gemalt"]


def test_doctor(run, line, named):
    done = run("doctor", line, *named, "--json")
    assert done.status == 0
    found = done.json
    assert found["layout"] == "named"
    assert found["train"]["images"] + found["test"]["images"] == 12
    assert {**found["train"]["defects"], **found["test"]["defects"]}.keys() == {"Kratzer", "Rost"}
    assert sum(found["masks"].values()) == 3
    [unused] = [problem for problem in found["problems"] if "not used" in problem["message"]]
    assert (unused["severity"], unused["paths"]) == ("warning", [str(line / "neu/0.png")])
    folders = f"--good {line}/Charge7 --bad {line}/Kratzer --bad {line}/Rost --masks {line}/gemalt"
    assert found["command"] == f"blemish train {folders} -o line.onnx"


def test_evaluate_report_and_audit(run, line, named, tiny_model, tmp_path):
    for verb, output in (("evaluate", []), ("report", ["-o", tmp_path / "r.html"])):
        done = run(verb, tiny_model, line, *named, *output, "--json")
        assert done.status == 0, done.err
        assert done.json["images"] == len(read_data_set(line, good="Charge7", bad=["Kratzer", "Rost"]).test)
        assert "warning: 1 image not used: neu/ (1); " in done.err
    whole = run("evaluate", tiny_model, line, *named, "--json").json
    folders = [
        "--good",
        line / "Charge7",
        "--bad",
        line / "Kratzer",
        "--bad",
        line / "Rost",
        "--masks",
        line / "gemalt",
    ]
    parts = run("evaluate", tiny_model, *folders, "--json")
    assert parts.json["pixel_auroc"] == whole["pixel_auroc"] is not None
    assert "warning" not in parts.err
    for i in range(6, 12):
        photograph(line / f"Charge7/2025/{i}.png")
    done = run("audit", tiny_model, line, *named, "-o", tmp_path / "a.html", "--json")
    assert done.status == 0, done.err
    assert done.json["images"] == 18
    assert "warning: 1 image not used" in done.err


@pytest.mark.slow
def test_train(run, line, named, tmp_path):
    """Trained on named folders, the model knows its images again there."""
    output = tmp_path / "m.onnx"
    done = run("train", line, *named, "-o", output, "--size", 64, "--epochs", 1, "--json")
    assert done.status == 0, done.err
    assert "warning: 1 image not used: neu/ (1); " in done.err
    data = read_data_set(line, good="Charge7", bad=["Kratzer", "Rost"], masks="gemalt")
    assert examine(data).supervision == "masks for 1 of 4 labelled defects"
    assert done.json["supervision"] == "good images + 4 labelled defects (1 mask)"
    assert run("evaluate", output, line, *named, "--json").json["left_out"] == 0


@pytest.mark.parametrize("verb", ["doctor", "train", "evaluate", "report", "audit", "export"])
def test_without_any_folder(run, verb, tiny_model, tmp_path):
    model = [] if verb in ("doctor", "train") else [tiny_model]
    output = [] if verb in ("doctor", "evaluate") else ["-o", tmp_path / "x.onnx"]
    done = run(verb, *model, *output, *(["--format", "openvino"] if verb == "export" else []))
    assert done.status == 2
    assert "give a folder, or name some with --good DIR and --bad DIR; see blemish " in done.err


def test_every_verb_has_the_options(run):
    for verb in ("doctor", "train", "evaluate", "report", "audit", "export"):
        text = run(verb, "--help").out
        assert all(f"--{name} DIR" in text for name in ("good", "bad", "masks"))
