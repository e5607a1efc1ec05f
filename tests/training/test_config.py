"""The training configuration: checked as a whole, lossless as a dictionary, read from TOML, free of torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blemish
from blemish.errors import BlemishError
from blemish.training.config import SECTIONS, GaussianConfig, TrainConfig, TrainOptions

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"size": True}, "the size must be one number or"),
    ({"size": (1, 2, 3)}, "the size must be one number or"),
    ({"size": "large"}, "the size must be one number or"),
    ({"seed": -1}, "the seed must be from 0 to 4294967295, not -1"),
    ({"false_alarm_rate": 1}, "the false-alarm rate must lie between 0 and 1"),
    ({"method": "padin"}, "the method must be one of gaussian"),
    ({"backbone": ""}, "the backbone must be a name"),
    ({"synthetic": "scars"}, "the synthetic anomaly must be one of none, confetti, perlin, not 'scars'"),
    ({"weights": ["a", "b"]}, "weights must be one path, not list"),
    ({"outlier_exposure": 3}, "outlier_exposure must be one path, not int"),
    ({"ignore_mask": ""}, "ignore_mask must be one path, not an empty text"),
    ({"tensorboard": 3}, "tensorboard must be one path, not int"),
    ({"mlflow": ""}, "mlflow must be a name, not ''"),
    ({"bits": 7}, "7"),
    ({"cross_conformal": 1}, "cross_conformal must be 2 or more, not 1"),
    ({"groups": ""}, "groups must be a pattern or a CSV file"),
    ({"align": "no"}, "align must be one of True, False"),
    ({"epochs": 0.5}, "epochs must be a whole number"),
    ({"memory": 0}, "memory must be 1 or more"),
    ({"device": "tpu"}, "the device must be one of auto, cpu, cuda, mps"),
    ({"devices": 0}, "devices must be 1 or more"),
    ({"colour": 1}, "there is no option colour; there are size, seed"),
    ({"gaussian": 3}, "gaussian must be a table of options, not 3"),
    ({"gaussian": {"rigde": 1}}, "there is no option gaussian.rigde; there are gaussian.components"),
    ({"gaussian": {"ridge": -1}}, "gaussian.ridge cannot be -1: expected float > 0.0"),
    ({"gaussian": {"ridge": float("nan")}}, "gaussian.ridge cannot be nan"),
    ({"gaussian": {"ridge": float("inf")}}, "gaussian.ridge cannot be inf: expected a finite number"),
    ({"gaussian": {"ridge": "much"}}, "gaussian.ridge cannot be 'much': expected float, got str"),
    ({"gaussian": {"folds": 1}}, "gaussian.folds cannot be 1: expected int >= 2"),
    ({"gaussian": {"components": True}}, "gaussian.components cannot be True"),
    ({"alignment": {"zoom": [1]}}, "alignment.zoom cannot be [1]: expected array of length 2"),
    ({"defect_branch": {"warm_up": 1.5}}, "defect_branch.warm_up cannot be 1.5"),
]


@pytest.mark.parametrize(("values", "fault"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_no_training_can_have_is_refused_in_a_sentence(values, fault):
    with pytest.raises(BlemishError) as refused:
        TrainConfig.from_dict(values)
    assert fault in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_section_and_an_option_are_checked_however_they_are_given():
    with pytest.raises(BlemishError, match=r"gaussian\.ridge"):
        GaussianConfig(ridge=0)
    with pytest.raises(BlemishError, match="gaussian must be a GaussianConfig"):
        TrainConfig(gaussian={"ridge": 1})  # type: ignore[arg-type]
    with pytest.raises(BlemishError, match="there is no option colour"):
        TrainConfig().with_options(colour=1)
    with pytest.raises(BlemishError, match="epochs must be 1 or more"):
        TrainConfig().with_options(epochs=0)


def test_values_are_kept_in_one_form():
    config = TrainConfig(size=256, weights="a/w.pt", bits=12)  # type: ignore[arg-type]
    assert config.size == (256, 256)
    assert config.weights == Path("a/w.pt")
    assert TrainConfig.from_dict({"size": [64, 96]}).size == (64, 96)
    assert TrainConfig.from_dict({"alignment": {"zoom": [1, 2]}}).alignment.zoom == (1.0, 2.0)


@given(
    size=st.one_of(st.just("auto"), st.integers(1, 4096), st.tuples(st.integers(1, 4096), st.integers(1, 4096))),
    seed=st.integers(0, 2**32 - 1),
    rate=st.floats(0, 1, exclude_min=True, exclude_max=True),
    ridge=st.floats(1e-6, 1e6),
    groups=st.one_of(st.none(), st.text(min_size=1)),
    strides=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_a_dictionary_holds_all_of_it(size, seed, rate, ridge, groups, strides):
    config = TrainConfig.from_dict(
        {
            "size": size,
            "seed": seed,
            "false_alarm_rate": rate,
            "groups": groups,
            "gaussian": {"ridge": ridge},
            "features": {"strides": strides},
        }
    )
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_a_toml_file_says_what_differs_from_the_defaults(tmp_path):
    file = tmp_path / "train.toml"
    file.write_text(
        'size = [64, 96]\nmethod = "gaussian"\nweights = "w.pt"\ngroups = "(a)b"\n[gaussian]\nridge = 1\n', "utf-8"
    )
    config = TrainConfig.from_toml(file)
    assert config == TrainConfig(
        size=(64, 96), weights=tmp_path / "w.pt", groups="(a)b", gaussian=GaussianConfig(ridge=1.0)
    )
    file.write_text('groups = "parts.CSV"\n', "utf-8")
    assert TrainConfig.from_toml(str(file)).groups == tmp_path / "parts.CSV"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("size = ", "train.toml is no TOML file"),
        ("[gaussian]\nrigde = 1", "train.toml: there is no option gaussian.rigde"),
        ("epochs = 0", "train.toml: epochs must be 1 or more"),
        (None, "train.toml: "),
    ],
)
def test_a_toml_file_that_is_none_is_refused(tmp_path, text, fault):
    file = tmp_path / "train.toml"
    if text is not None:
        file.write_text(text, "utf-8")
    with pytest.raises(BlemishError, match=fault):
        TrainConfig.from_toml(file)


def test_a_model_file_knows_files_by_their_names_alone():
    config = TrainConfig(weights=Path("/home/someone/w.pt"), outlier_exposure=Path("/data/photographs"))
    record = config.as_record()
    assert record["weights"] == "w.pt"
    assert record["outlier_exposure"] == "photographs"
    assert TrainConfig.from_dict(record).gaussian == config.gaussian


def test_a_model_file_knows_of_no_log():
    record = TrainConfig(tensorboard=Path("/home/someone/log"), mlflow="https://user:password@host/").as_record()
    assert not {"tensorboard", "mlflow"} & set(record)
    assert TrainConfig.from_dict(record) == TrainConfig()


@pytest.mark.parametrize("place", ["databricks", "https://host/", "sqlite:///runs.db"])
def test_folders_of_logs_count_from_the_toml_file(tmp_path, place):
    file = tmp_path / "train.toml"
    file.write_text('tensorboard = "log"\nmlflow = "runs"\n', "utf-8")
    config = TrainConfig.from_toml(file)
    assert (config.tensorboard, config.mlflow) == (tmp_path / "log", str(tmp_path / "runs"))
    file.write_text(f'mlflow = "{place}"\n', "utf-8")
    assert TrainConfig.from_toml(file).mlflow == place


def test_every_field_is_an_option_of_train():
    assert list(TrainOptions.__annotations__) == list(TrainConfig.__dataclass_fields__)


def test_the_configuration_needs_no_torch():
    code = "import sys, blemish.training.config; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_constant_is_used(section):
    """A constant that nothing reads would be a promise that changing it changes something."""
    package = Path(blemish.__file__).parent
    files = [path for path in package.rglob("*.py") if path.name != "config.py"]
    text = "\n".join(path.read_text("utf-8") for path in files)
    unused = [name for name in SECTIONS[section].__dataclass_fields__ if f".{name}" not in text]
    assert unused == []
