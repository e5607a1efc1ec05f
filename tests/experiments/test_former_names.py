"""Names of the release before: still understood, said to be old once, and no recorded run is lost over them."""

import json
from pathlib import Path

import numpy as np
import pytest

from blemish.experiments.planted import runner as planted_runner
from blemish.experiments.recipe import Recipe
from blemish.experiments.results import Point, Result
from blemish.experiments.runner import Plan, _key
from blemish.experiments.runs import Run, load_result, save_result
from blemish.experiments.trial import Settings


def plan(name: str, method: str, mode: str) -> tuple[Plan, Run]:
    recipe = Recipe.load(name)
    settings = Settings(mode=mode)
    of_one = Plan(recipe, (method,), (), 1, data=Path("data"), outliers=None, output=Path("out"), settings=settings)
    return of_one, Run(recipe, "", method, "horse", 0)


@pytest.mark.parametrize(
    ("name", "method", "mode", "key"),
    [
        # Written down with the release before, which called them closed-form and sound.
        ("pascal-voc", "gaussian", "corrected", "417544da46c1d444"),
        ("mvtec-sigma", "gaussian", "paper", "f3342f2584893f81"),
        ("fashion-mnist", "fcdd", "paper", "554ef652f1b6af6a"),
    ],
)
def test_a_runs_key_is_that_of_the_release_before(name, method, mode, key):
    assert _key(*plan(name, method, mode), ("blemish 0.1.0",)) == key


def test_a_planted_runs_key_is_that_of_the_release_before():
    of_one, _ = plan("planted-cue", "hsc", "corrected")
    assert planted_runner._key(of_one, Run(of_one.recipe, "", "hsc", "dog", 0)) == "fa150549b4860138"


def test_a_run_recorded_under_former_names_is_found_and_read(tmp_path):
    _, run = plan("fashion-mnist", "gaussian", "corrected")
    result = Result(
        recipe="fashion-mnist",
        method="gaussian",
        nominal_class="horse",
        seed=0,
        image_auroc=0.75,
        pixel_auroc=None,
        anomalous=np.array([False, True]),
        scores=np.array([0.5, 1.5], np.float32),
        kinds=("good", "bad"),
        curve=(Point(1, 0.5, 2.0),),
        seconds=3.0,
        notes={"mode": "corrected"},
    )
    former = tmp_path / "runs/closed-form/horse/seed-0"
    former.mkdir(parents=True)
    save_result(former, result, key="k")
    record = json.loads((former / "run.json").read_text("utf-8"))
    record |= {"method": "closed-form", "notes": {"mode": "sound"}}
    (former / "run.json").write_text(json.dumps(record), "utf-8")

    found = load_result(run.folder(tmp_path), key="k")

    assert found is not None
    assert (found.method, found.notes, found.scores.tolist()) == ("gaussian", {"mode": "corrected"}, [0.5, 1.5])


def test_a_new_run_goes_where_its_method_is_named(tmp_path):
    _, run = plan("fashion-mnist", "gaussian", "paper")
    assert run.folder(tmp_path) == tmp_path / "runs/gaussian/horse/seed-0"


def test_former_names_in_python_warn_and_mean_the_present_ones():
    with pytest.warns(DeprecationWarning, match="'closed-form' is now called 'gaussian'"):
        assert plan("mvtec", "closed-form", "paper")[0].methods == ("gaussian",)
    with pytest.warns(DeprecationWarning, match="'sound' is now called 'corrected'"):
        assert Settings(mode="sound") == Settings(mode="corrected")
    recipe = Recipe.load("mvtec")
    with pytest.warns(DeprecationWarning, match="'swapped' is now called 'swap_roles'"):
        assert recipe.with_setting("swapped", True) == recipe.with_setting("swap_roles", True)


def test_a_recipe_with_a_former_setting_is_read():
    text = (Path(planted_runner.__file__).parents[1] / "recipes/pascal-voc.toml").read_text("utf-8")
    assert "swap_roles = true" in text
    with pytest.warns(DeprecationWarning, match="swap_roles"):
        former = Recipe.from_toml(text.replace("swap_roles", "swapped"), name="pascal-voc")
    assert former == Recipe.load("pascal-voc")


@pytest.mark.parametrize(
    ("former", "present"),
    [
        (("--method", "closed-form"), "--method gaussian"),
        (("--mode", "sound"), "--mode corrected"),
        (("--every-outlier",), "--full-outlier-epochs"),
    ],
)
def test_former_options_are_taken_with_one_sentence_and_not_in_the_help(run, tmp_path, former, present):
    outcome = run("experiment", "fashion-mnist", "--data", tmp_path / "no", "--classes", "cat", *former)
    assert outcome.status == 2  # there are no data; nothing is said against the option
    notice, fault = outcome.err.splitlines()
    assert notice == f"warning: {' '.join(former)} is now called {present}; the next release removes the old name"
    assert "--" not in fault
    assert former[-1] not in run("experiment", "--help").out
