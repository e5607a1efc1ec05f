"""`blemish compare`: its JSON, its table, and bad input in one sentence."""

import pytest

from helpers.comparing import pretend_to_train
from helpers.light import run_without_training


def test_json_has_the_table_the_runs_and_the_page(run, parts, tmp_path, tiny_model, monkeypatch):
    pretend_to_train(monkeypatch, tiny_model)
    out = tmp_path / "out"
    outcome = run("compare", parts, "-o", out, "--methods", "padim, gaussian", "--seeds", 2, "--size", 64, "--json")
    assert outcome.status == 0
    found = outcome.json
    assert [row["method"] for row in found["table"]] == ["padim", "gaussian"]
    assert {run["seed"] for run in found["runs"]} == {0, 1}
    figure = found["table"][0]["figures"]["image_auroc"]
    assert figure["seeds"] == 2
    assert figure["interval"][0] <= figure["mean"] <= figure["interval"][1]
    assert found["report"] == str(out / "compare.html")
    assert (out / "compare.html").stat().st_size > 10_000
    assert not found["synthetic"]


def test_the_text_has_a_row_a_method_and_says_where_the_page_is(run, parts, tmp_path, tiny_model, monkeypatch):
    pretend_to_train(monkeypatch, tiny_model)
    outcome = run("compare", parts, "-o", tmp_path / "out", "--methods", "padim,gaussian")
    assert [line.split()[0] for line in outcome.out.splitlines()[1:4:2]] == ["padim", "gaussian"]
    assert f"open {tmp_path / 'out/compare.html'} in a browser" in outcome.out
    assert "padim, seed 0: image AUROC" in outcome.err
    again = run("compare", parts, "-o", tmp_path / "out", "--methods", "padim,gaussian")
    assert "padim, seed 0: finished before" in again.err


def test_options_of_training_reach_every_training(run, parts, tmp_path, tiny_model, monkeypatch):
    (tmp_path / "options.toml").write_text("[gaussian]\nridge = 0.5\n")
    pretend_to_train(monkeypatch, tiny_model)
    given = ["--config", tmp_path / "options.toml", "--synthetic", "confetti", "--no-align", "--size", "96x64"]
    assert run("compare", parts, "-o", tmp_path / "out", "--methods", "gaussian", *given).status == 0
    refused = run("compare", parts, "-o", tmp_path / "out", "--methods", "gaussian")
    assert "other options (align, gaussian, size, synthetic)" in refused.err


BAD = {
    "no folder": (["-o", "out"], "Missing argument 'DATA'"),
    "no output": (["parts"], "Missing option '-o'"),
    "no such folder": (["nowhere", "-o", "out"], "no such folder"),
    "no such method": (["parts", "-o", "out", "--methods", "gaussian,nope"], "the method must be one of"),
    "no method": (["parts", "-o", "out", "--methods", ","], "there is no method to compare"),
    "no seed": (["parts", "-o", "out", "--seeds", "0"], "is not in the range"),
    "a file for a folder": (["parts", "-o", "out.html"], "ends in .html"),
    "no such configuration": (["parts", "-o", "out", "--config", "no.toml"], "no such file"),
    "inside the data": (["parts", "-o", "parts/out"], "lies in the data"),
}


@pytest.mark.parametrize(("given", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence(run, parts, tmp_path, monkeypatch, given, sentence):
    monkeypatch.chdir(tmp_path)
    outcome = run("compare", *given)
    assert (outcome.status, outcome.out) == (2, "")
    assert len(outcome.err.splitlines()) == 1
    assert sentence in outcome.err
    assert {path.name for path in tmp_path.iterdir()} == {"parts"}


def test_without_the_packages_for_training_it_says_what_to_install(parts, tmp_path):
    done = run_without_training("compare", parts, "-o", tmp_path / "out", "--methods", "gaussian")
    assert done.returncode == 2
    assert 'pip install "blemish[train]"' in done.stderr.splitlines()[-1]
