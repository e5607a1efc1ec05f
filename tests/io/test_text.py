"""Names of files: every image has a name of its own in all that is written, and its file is found by it."""

import csv
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blemish
from blemish.io.files import atomic_write
from blemish.io.text import as_text, capitalized, counted, figure, one_line, path_of, percent, printable
from blemish.prediction import predict, read_list
from blemish.prediction.outputs import LONGEST_FILE_NAME
from blemish.prediction.tables import key
from helpers.images import noise, save_image
from helpers.results import names, picture_names, rows

pytestmark = pytest.mark.skipif(os.name != "posix", reason="names that only POSIX allows")

ODD: dict[bytes, str] = {
    b"a.png": "a.png",
    "grün ü.png".encode(): "grün ü.png",
    unicodedata.normalize("NFD", "grün.png").encode(): unicodedata.normalize("NFD", "grün.png"),
    b"la\xfct.png": r"la\udcfct.png",
    b"la\\udcfct.png": r"la\\udcfct.png",
    b"a\nb.png": r"a\nb.png",
    rb"a\nb.png": r"a\\nb.png",
    rb"a\\nb.png": r"a\\\\nb.png",
    b"tab\t;comma,quote\"'.png": "tab\\t;comma,quote\"'.png",
    b"cr\r.png": r"cr\r.png",
    b"\t=tab.png": r"\t=tab.png",
    b"=1+1.png": "./=1+1.png",
    b"+1.png": "./+1.png",
    b"-1.png": "./-1.png",
    b"@SUM(1).png": "./@SUM(1).png",
    b" =1.png": "./ =1.png",
    "\uff1d1.png".encode(): "./\uff1d1.png",
    b"semi;=1.png": "semi;=1.png",
    b"esc\x1b[31m.png": r"esc\x1b[31m.png",
    "rtl\u202egnp.png".encode(): r"rtl\u202egnp.png",
    "nbsp\u00a0.png".encode(): r"nbsp\xa0.png",
    "\U0001f529.png".encode(): "\U0001f529.png",
}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    for number, name in enumerate(ODD):
        save_image(tmp_path / "odd" / os.fsdecode(name), noise(number))
    return tmp_path / "odd"


def test_every_odd_name_is_its_own_row_key_and_picture(run, tiny_model, odd, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(odd)
    (tmp_path / "list").write_bytes(b"".join(name + b"\0" for name in ODD))
    assert run("predict", tiny_model, "--from-file", tmp_path / "list", "-o", tmp_path / "out").status == 0
    table = [row["path"] for row in rows(tmp_path / "out")]
    assert table == list(ODD.values())
    assert list(json.loads((tmp_path / "out/regions.json").read_text(encoding="utf-8"))) == table
    assert names(tmp_path / "out/heatmaps") == sorted(map(os.fsdecode, ODD))
    for text, name in zip(table, ODD, strict=True):
        assert os.path.samefile(path_of(text), os.fsdecode(name))
    # The way back that docs/batch.md gives, in Python alone.
    back = [os.fsencode(text.encode("ascii", "backslashreplace").decode("unicode_escape")) for text in table]
    assert [name.removeprefix(b"./") for name in back] == list(ODD)


def test_parquet_has_the_same_names(run, tiny_model, odd, tmp_path, monkeypatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(odd)
    run("predict", tiny_model, *map(os.fsdecode, list(ODD)[:5]), "-o", tmp_path / "out", "--format", "parquet")
    paths = parquet.read_table(tmp_path / "out/scores.parquet").column("path").to_pylist()
    assert paths == list(ODD.values())[:5]


def cells_of_a_spreadsheet(text: str, separator: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines(), delimiter=separator))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_no_cell_is_a_formula_whatever_parts_the_cells(
    run, tiny_model, odd, tmp_path, monkeypatch, separator: str
) -> None:
    monkeypatch.chdir(odd)
    run("predict", tiny_model, *(f"./{os.fsdecode(name)}" for name in ODD), "-o", tmp_path / "dotted")
    (tmp_path / "list").write_bytes(b"\0".join(ODD))
    run("predict", tiny_model, "--from-file", tmp_path / "list", "-o", tmp_path / "out")
    for out in ("out", "dotted"):
        text = (tmp_path / out / "scores.csv").read_text(encoding="utf-8")
        lines = cells_of_a_spreadsheet(text, separator)
        assert len(lines) == len(ODD) + 1
        cells = [cell.lstrip() for line in lines for cell in line]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))]


def test_doctor_lists_each_name_once(run, tmp_path) -> None:
    for number, name in enumerate((b"a\nb.png", rb"a\nb.png", b"c\xff.png", rb"c\udcff.png")):
        save_image(tmp_path / "set/train/good" / os.fsdecode(name), noise(number % 2))
    doctor = run("doctor", tmp_path / "set", "--json")
    paths = [path for one in doctor.json["problems"] for path in one["paths"]]
    root = f"{tmp_path}/set/train/good/"
    assert {path.removeprefix(root) for path in paths} == {
        r"a\nb.png",
        r"a\\nb.png",
        r"c\udcff.png",
        r"c\\udcff.png",
    }
    doctor.out.encode("ascii")
    text = run("doctor", tmp_path / "set").out
    assert r"a\\nb.png" in text
    assert r"a\\\\nb.png" not in text


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
    ids=["C", "POSIX", "ASCII", "ASCII output"],
)
def test_names_are_the_same_in_every_locale(tiny_model, tmp_path, locale: dict[str, str]) -> None:
    for number, name in enumerate(("grün.png".encode(), b"la\xfct.png")):
        save_image(tmp_path / "fotos ü" / os.fsdecode(name), noise(number))
    (tmp_path / "fotos ü/leer\udcfc.png").write_bytes(b"")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    environment["PYTHONPATH"] = str(Path(blemish.__file__).parents[1])
    command = [sys.executable, "-m", "blemish", "predict", str(tiny_model), "fotos ü", "-o", "aus ü"]
    done = subprocess.run(command, cwd=tmp_path, env=environment | locale, capture_output=True, check=True)
    done.stdout.decode("utf-8")
    assert r"leer\udcfc.png: empty (0 bytes)" in done.stderr.decode("utf-8")
    assert {row["path"] for row in rows(tmp_path / "aus ü")} == {
        "fotos ü/grün.png",
        r"fotos ü/la\udcfct.png",
        r"fotos ü/leer\udcfc.png",
    }
    regions = json.loads((tmp_path / "aus ü/regions.json").read_bytes().decode("utf-8"))
    assert set(regions) == {"fotos ü/grün.png", r"fotos ü/la\udcfct.png"}


@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name))
def test_a_name_has_one_text_and_the_text_one_name(name: bytes) -> None:
    text = printable(name)
    assert text.isprintable()
    text.encode("utf-8")
    assert os.fsencode(path_of(text)) == name
    back = path_of(key(os.fsdecode(name)))
    assert os.fsencode(back) in (name, b"./" + name)
    assert one_line(text) == text


@given(
    st.recursive(st.text() | st.none() | st.floats(allow_nan=False), lambda inner: st.lists(inner) | st.tuples(inner))
)
def test_json_values_are_text_and_keep_what_is_text(value: object) -> None:
    json.dumps(as_text(value), ensure_ascii=False).encode("utf-8")
    assert as_text({"\udcff": "\udc80", "a": ("b", 1.5)}) == {r"\udcff": r"\udc80", "a": ["b", 1.5]}


def test_a_sentence_keeps_its_names_and_loses_its_line_breaks() -> None:
    assert one_line("a\\nb: no\nfile \udcff ü") == r"a\nb: no\nfile \udcff ü"


def test_text_that_is_no_text_is_escaped_in_a_file(tmp_path) -> None:
    with atomic_write(tmp_path / "page.html", mode="w") as file:
        file.write("grün \udcff")
    assert (tmp_path / "page.html").read_bytes() == "grün \\udcff".encode()


@pytest.mark.parametrize("letter", ["n", "ü"])
def test_the_longest_names_have_pictures(run, tiny_model, tmp_path, letter: str) -> None:
    longest = letter * ((255 - 4) // len(letter.encode()))
    images = [f"{longest}{suffix}" for suffix in (".png", ".jpg", ".bmp")]
    other = f"{longest[:-1]}o.jpg" if letter == "n" else f"{longest[:-1]}öx.jpg"[-250:]
    for number, name in enumerate([*images, other]):
        save_image(tmp_path / "photos" / longest / name, noise(number))
    outcome = run("predict", tiny_model, tmp_path / "photos", "-o", tmp_path / "out", "--save-maps", "tiff", "--json")
    assert (outcome.status, outcome.json["images"]) == (0, 4)
    for folder in ("heatmaps", "maps"):
        pictures = names(tmp_path / "out" / folder)
        assert len(pictures) == 4
        assert all(len(os.fsencode(PurePosixPath(one).name)) <= LONGEST_FILE_NAME for one in pictures)
    again = run("predict", tiny_model, tmp_path / "photos", "-o", tmp_path / "out", "--save-maps", "tiff", "--json")
    assert again.json["images"] == 4
    assert names(tmp_path / "out/heatmaps") == names(tmp_path / "out/heatmaps")


def test_a_long_path_has_a_short_picture() -> None:
    deep = "/x/" + "/".join(["d" * 200] * 18)
    found = picture_names([f"{deep}/a.png", f"{deep}/b.png", "/x/c.png"], ".png")
    assert len(set(found)) == 3
    assert all(len(os.fsencode(one)) < 100 for one in found)


def test_a_list_may_be_parted_by_null_characters(tmp_path) -> None:
    (tmp_path / "list").write_bytes(b"a\nb.png\0c d.png\0\0")
    assert list(read_list(tmp_path / "list")) == ["a\nb.png", "c d.png"]


def test_duplicates_in_a_list_have_one_row(run, tiny_model, tmp_path, monkeypatch) -> None:
    save_image(tmp_path / "=a.png", noise(1))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_text("=a.png\n./=a.png\n\n./././=a.png\n=a.png\n")
    run("predict", tiny_model, "--from-file", "list", "-o", "out")
    assert [row["path"] for row in rows(tmp_path / "out")] == ["./=a.png"]


def test_names_with_other_bytes_go_through_every_verb(run, tiny_model, parts, tmp_path) -> None:
    """A data set, a model and a defect whose names are no UTF-8."""
    data = parts.rename(tmp_path / os.fsdecode(b"set\xff"))
    (data / "test/stain").rename(data / "test" / os.fsdecode(b"sta\xffin\n"))
    model = tmp_path / os.fsdecode(b"m\xff.onnx")
    model.write_bytes(tiny_model.read_bytes())
    for number in range(7):
        save_image(data / f"train/good/more{number}.png", noise(number))
    page = tmp_path / os.fsdecode(b"page\xff.html")
    for arguments in (
        ["doctor", data],
        ["evaluate", model, data, "--save"],
        ["report", model, data, "-o", page],
        ["audit", model, data, "-o", page, "--save"],
        ["info", model, "-o", page],
    ):
        for options in ([], ["--json"]):
            outcome = run(*arguments, *options)
            assert outcome.status == 0, outcome.err
            outcome.out.encode("utf-8")
            if options:
                json.dumps(outcome.json, ensure_ascii=False).encode("utf-8")
    page.read_bytes().decode("utf-8")


def test_rows_of_a_run_through_the_api_have_these_names(tiny_model, odd, tmp_path) -> None:
    from blemish.model.detector import Detector

    predict(Detector.load(tiny_model, threads=1), [odd], tmp_path / "out", heatmaps=False)
    assert {row["path"] for row in rows(tmp_path / "out")} == {printable(odd / os.fsdecode(name)) for name in ODD}


@pytest.mark.parametrize(
    ("rate", "digits", "text"),
    [(0.9412, 3, "94.1 %"), (1.0, 3, "100 %"), (0.0, 3, "0 %"), (0.0123, 2, "1.2 %"), (None, 3, "–")],
)
def test_rates_as_percent(rate, digits, text):
    assert percent(rate, digits=digits) == text


def test_figures_have_three_decimals_or_a_dash():
    assert [figure(value) for value in (0.98765, 1, None)] == ["0.988", "1.000", "–"]


def test_only_the_first_letter_becomes_a_capital():
    assert [capitalized(text) for text in ("one AUROC", "", "é")] == ["One AUROC", "", "É"]


@pytest.mark.parametrize(("number", "text"), [(0, "no images"), (1, "1 image"), (1204, "1,204 images")])
def test_numbers_with_their_noun(number, text):
    assert counted(number, "image") == text
