"""What is decided from the images, without a training: no network is built, and no weights are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.datasets.splits import SplitSizes, split_nominal
from blemish.errors import BlemishError
from blemish.io.files import fingerprint
from blemish.training.config import SplitConfig, TrainConfig
from blemish.training.plan import AlignmentPlan, DetectorPlan, NetworkPlan
from blemish.training.prepare import split_sizes
from helpers.hammers import pictures
from helpers.images import noise, save_image, stained
from helpers.plans import prepared

SIZE = (64, 64)


def write_parts(root: Path, *, good: int = 12, labelled: int = 0, size: tuple[int, int] = SIZE) -> Path:
    for index in range(good):
        save_image(root / f"train/good/{index:02}.png", noise(index, size=size))
    for index in range(labelled):
        save_image(root / f"train/stain/{index}.png", stained(50 + index, size=size))
        mask = (stained(50 + index, size=size) == 0).all(2)
        save_image(root / f"ground_truth/stain/{index}_mask.png", mask.astype(np.uint8) * 255)
    return root


def write_hammers(root: Path, *, still: bool) -> Path:
    for number, image in enumerate(pictures(24, still=still)[0]):
        save_image(root / f"train/good/{number:02}.png", image)
    return root


def test_good_images_alone(tmp_path: Path) -> None:
    plan = prepared(write_parts(tmp_path)).plan
    assert (plan.method, plan.backbone, plan.size) == ("gaussian", "tf_efficientnet_lite0", SIZE)
    assert (plan.nominal, plan.copies, plan.defects, plan.masks) == (12, 0, {}, 0)
    assert plan.supervision == "good images only"
    assert plan.defect_branch == ()
    assert plan.groups is None
    assert plan.bits is None
    assert (plan.pixel_aspect, plan.image_ratio) == (1.0, 1.0)
    (network,) = plan.networks
    assert (network.fit, network.validation, network.calibration) == (10, 0, 2)
    assert plan.advice is not None
    assert "--cross-conformal" in plan.advice


@pytest.mark.parametrize(
    ("own", "option", "size", "aspect"),
    [
        ((54, 96), "auto", (192, 352), 1.03125),
        ((54, 96), (64, 64), (64, 64), 0.5625),
        ((96, 54), "auto", (352, 192), 1 / 1.03125),
        ((40, 40), "auto", (256, 256), 1.0),
    ],
)
def test_the_network_size(own: Any, option: Any, size: Any, aspect: float, tmp_path: Path) -> None:
    said: list[str] = []
    made = prepared(write_parts(tmp_path, size=own), said=said, size=option)
    assert made.plan.size == made.images.pixels.images.shape[1:3] == size
    assert made.plan.pixel_aspect == pytest.approx(aspect, rel=1e-6)
    assert made.plan.image_ratio == own[0] / own[1]
    assert any(f"network size {size[0]} x {size[1]} px" in one for one in said) == (option == "auto")
    assert any("squashed" in one for one in said) == (option == (64, 64))


def test_images_of_several_shapes(tmp_path: Path) -> None:
    for index in range(8):
        save_image(tmp_path / f"train/good/{index}.png", noise(index, size=(48, 80) if index % 2 else (80, 48)))
    said: list[str] = []
    made = prepared(tmp_path, said=said, size="auto")
    assert made.plan.image_ratio is None
    assert [one for one in said if "several shapes" in one]
    assert "images of several shapes" in made.plan.as_text()


def test_labels_masks_and_outliers(tmp_path: Path) -> None:
    root = write_parts(tmp_path / "parts", labelled=3)
    (root / "ground_truth/stain/0_mask.png").unlink()
    save_image(tmp_path / "others/a.png", noise(9))
    plan = prepared(root, outlier_exposure=tmp_path / "others", synthetic="confetti").plan
    sources = ("3 labelled defects (2 masks)", "outlier exposure (others)", "synthetic anomalies (confetti)")
    assert plan.defect_branch == sources
    assert plan.supervision == "good images + " + " + ".join(sources)
    assert (plan.defects, plan.masks) == ({"stain": 3}, 2)
    assert plan.networks[0].validation == 2


def test_a_defect_that_is_all_ignored_is_left_out(tmp_path: Path) -> None:
    root = write_parts(tmp_path / "parts", labelled=2)
    save_image(tmp_path / "mask.png", np.full(SIZE, 255, np.uint8) * (np.indices(SIZE)[0] > 8))
    said: list[str] = []
    plan = prepared(root, said=said, ignore_mask=tmp_path / "mask.png").plan
    assert (plan.ignored_defects, plan.defects, plan.defect_branch) == (2, {}, ())
    assert plan.ignore_mask == "one mask for all images"
    assert plan.networks[0].alignment == AlignmentPlan(aligned=False, reason="ignore masks lie still in the image")
    assert "2 labelled defects left out: all of it is ignored" in said


@pytest.mark.parametrize(
    ("still", "align", "aligned", "reason"),
    [
        (False, True, True, "parts lie in any direction on a plain background"),
        (True, True, False, "parts lie nearly alike as they are"),
        (False, False, False, "align is off"),
    ],
)
def test_alignment(still: bool, align: bool, aligned: bool, reason: str, tmp_path: Path) -> None:
    said: list[str] = []
    plan = prepared(write_hammers(tmp_path, still=still), said=said, size=(128, 128), align=align).plan
    alignment = plan.networks[0].alignment
    assert plan.aligned == alignment.aligned == aligned
    assert alignment.reason == reason
    assert any("turned upright" in sentence for sentence in said) == aligned
    names = {"contrast", "area", "border", "correlation", "correlation aligned", "resultant length"}
    assert set(alignment.figures) == (names if align else set())
    if aligned:
        assert alignment.figures["correlation aligned"] > 0.8 > alignment.figures["correlation"]
        assert alignment.figures["resultant length"] < 0.8


def test_no_part_stands_out_from_noise(tmp_path: Path) -> None:
    (network,) = prepared(write_parts(tmp_path)).plan.networks
    assert not network.alignment.aligned
    assert network.alignment.reason
    assert "contrast" in network.alignment.figures


def test_a_limit_of_the_configuration_decides(tmp_path: Path) -> None:
    root = write_hammers(tmp_path, still=False)
    config = TrainConfig.from_dict({"alignment": {"min_correlation": 1.0}})
    plan = prepared(root, size=(128, 128), alignment=config.alignment).plan
    assert plan.networks[0].alignment.reason == "turning does not make the parts alike"


@pytest.mark.parametrize("labelled", [0, 2])
def test_each_fold_has_a_plan(labelled: int, tmp_path: Path) -> None:
    made = prepared(write_parts(tmp_path, good=10, labelled=labelled), cross_conformal=3)
    assert [network.calibration for network in made.plan.networks] == [4, 3, 3]
    assert all(network.fit + network.calibration == 10 for network in made.plan.networks)
    assert all((network.validation > 0) == bool(labelled) for network in made.plan.networks)
    assert made.plan.advice is None
    roles = made.roles()
    assert sorted(roles["calibration"]) == sorted(roles["fit"]) == list(made.images.nominal)
    assert roles["validation"] == ()
    assert "fold 3" in made.plan.as_text()


def test_roles_are_those_of_the_split(tmp_path: Path) -> None:
    made = prepared(write_parts(tmp_path, labelled=1), seed=4)
    split = split_nominal(12, false_alarm_rate=0.01, seed=4, validate=True)
    names = [sample.path.relative_to(tmp_path).as_posix() for sample in made.images.pixels.samples]
    nominal = [name for name in names if "good" in name]
    assert made.files_by_role() == {
        "fit": [nominal[place] for place in split.fit],
        "validation": [nominal[place] for place in split.validation],
        "calibration": [nominal[place] for place in split.calibration],
        "labelled": ["train/stain/0.png"],
    }


def test_groups_and_copies(tmp_path: Path) -> None:
    root = write_parts(tmp_path, good=12)
    save_image(root / "train/good/99.png", noise(3))
    said: list[str] = []
    plan = prepared(root, said=said, groups=r"(\d)\.png").plan
    assert (plan.nominal, plan.copies) == (12, 1)
    assert plan.groups is not None
    assert (plan.groups["by"], plan.groups["number"]) == (r"(\d)\.png", 10)
    assert [one for one in said if one.startswith("12 good images in 10 groups by ")]


def test_sixteen_bits(tmp_path: Path) -> None:
    for index in range(4):
        values = np.random.default_rng(index).integers(0, 4000, SIZE).astype(np.uint16)
        save_image(tmp_path / f"train/good/{index}.png", values)
    assert prepared(tmp_path).plan.bits == 12
    assert prepared(tmp_path, bits=14).plan.bits == 14


def test_the_configuration_says_how_many_calibrate_and_validate(tmp_path: Path) -> None:
    assert split_sizes(TrainConfig()) == SplitSizes()  # so that doctor, which has none, foretells the same
    root = write_parts(tmp_path, labelled=1)
    split = SplitConfig(calibration_share=0.5, validation_share=0.5, max_validation=2)
    (network,) = prepared(root, split=split).plan.networks
    assert (network.fit, network.validation, network.calibration) == (6, 2, 6)
    assert prepared(root, split=SplitConfig(max_calibration=1), false_alarm_rate=0.5).plan.networks[0].calibration == 1


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="at least two"):
        prepared(write_parts(tmp_path, good=1))


# Plans as values

SHARES = st.floats(0, 1)
ALIGNMENTS = st.builds(
    AlignmentPlan,
    aligned=st.booleans(),
    reason=st.text(),
    figures=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
)
NETWORKS = st.builds(
    NetworkPlan, fit=st.integers(0), validation=st.integers(0), calibration=st.integers(0), alignment=ALIGNMENTS
)
PLANS = st.builds(
    DetectorPlan,
    method=st.text(),
    backbone=st.text(),
    size=st.tuples(st.integers(1), st.integers(1)),
    pixel_aspect=st.floats(0.1, 10),
    image_ratio=st.one_of(st.none(), st.floats(0.1, 10)),
    bits=st.one_of(st.none(), st.integers(8, 16)),
    nominal=st.integers(0),
    copies=st.integers(0),
    defects=st.dictionaries(st.text(), st.integers(1)),
    masks=st.integers(0),
    ignored_defects=st.integers(0),
    groups=st.one_of(st.none(), st.just({"by": "x", "number": 3, "fingerprint": "a"})),
    ignore_mask=st.one_of(st.none(), st.text()),
    defect_branch=st.lists(st.text(), max_size=3).map(tuple),
    supervision=st.text(),
    advice=st.one_of(st.none(), st.text()),
    networks=st.lists(NETWORKS, min_size=1, max_size=3).map(tuple),
)


@given(PLANS)
def test_a_dictionary_holds_all_of_a_plan(plan: DetectorPlan) -> None:
    assert DetectorPlan.from_dict(plan.to_dict()) == plan
    assert plan.as_text()


def test_what_is_no_plan_is_refused() -> None:
    with pytest.raises(BlemishError, match="this is no plan of a detector"):
        DetectorPlan.from_dict({"size": "large"})


def test_the_command_line_prints_it_and_writes_nothing(tmp_path: Path, run: Any) -> None:
    root = write_parts(tmp_path / "parts", labelled=1)
    before = {path: fingerprint(path) for path in root.rglob("*.png")}
    printed = run("train", root, "--plan", "--size", 64, "--json")
    assert printed.status == 0, printed.err
    values = printed.json
    roles = values.pop("roles")
    assert DetectorPlan.from_dict(values) == prepared(root).plan
    assert sorted(roles) == ["calibration", "fit", "labelled", "validation"]
    assert run("train", root, "--plan", "--size", 64).out.rstrip("\n") == prepared(root).plan.as_text()
    assert {path: fingerprint(path) for path in tmp_path.rglob("*") if path.is_file()} == before


def test_without_a_plan_an_output_is_needed(tmp_path: Path, run: Any) -> None:
    refused = run("train", write_parts(tmp_path / "parts"))
    assert refused.status == 2
    assert "Missing option '-o' / '--output'" in refused.err


def test_the_command_line_reads_a_configuration_and_its_options_win(tmp_path: Path, run: Any) -> None:
    root = write_parts(tmp_path / "parts")
    file = tmp_path / "train.toml"
    file.write_text("size = [64, 96]\nseed = 7\ncross_conformal = 3\n", "utf-8")
    plain = run("train", root, "--plan", "--config", file, "--json").json
    assert (plain["size"], len(plain["networks"])) == ([64, 96], 3)
    other = run("train", root, "--plan", "--config", file, "--size", "auto", "--cross-conformal", 2, "--json").json
    assert (other["size"], len(other["networks"])) == ([256, 256], 2)
    refused = run("train", root, "--plan", "--config", tmp_path / "none.toml")
    assert refused.status == 2
    assert "none.toml" in refused.err


@pytest.mark.parametrize(("old", "new"), [("--outliers", "--outlier-exposure"), ("--ignore", "--ignore-mask")])
def test_old_spellings_go_on(old: str, new: str, tmp_path: Path, run: Any) -> None:
    root = write_parts(tmp_path / "parts")
    save_image(tmp_path / "one/mask.png", np.eye(64, dtype=np.uint8) * 255)
    value = tmp_path / "one" if "out" in old else tmp_path / "one/mask.png"
    by_old, by_new = (run("train", root, "--plan", "--size", 64, name, value, "--json") for name in (old, new))
    assert by_old.status == by_new.status == 0, by_old.err
    assert by_old.json == by_new.json
    assert f"warning: {old} is now called {new}" in by_old.err
    assert "warning" not in by_new.err
