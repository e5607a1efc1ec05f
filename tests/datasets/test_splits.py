"""How good images are split, and which are looked at where not all can be."""

from hypothesis import given
from hypothesis import strategies as st

from blemish.datasets.splits import Split, fold_nominal, split_nominal

RATES = st.sampled_from([0.3, 0.05, 0.01])
SEEDS = st.integers(0, 5)


def check(split: Split, images: int, *, validate: bool) -> None:
    assert sorted(split.fit + split.calibration) == list(range(images))
    assert split.fit
    assert set(split.validation) <= set(split.fit)
    others = len(split.fit) - len(split.validation)
    if not validate or len(split.fit) == 1:
        assert not split.validation
    elif len(split.fit) < 1000:
        assert abs(len(split.validation) - len(split.fit) / 4) <= 0.5 or (len(split.validation), others) == (1, 1)
    else:
        assert len(split.validation) == 250


@given(images=st.integers(2, 1500), rate=RATES, seed=SEEDS, validate=st.booleans())
def test_a_fifth_calibrates_and_a_quarter_of_the_others_validates(
    images: int, rate: float, seed: int, validate: bool
) -> None:
    split = split_nominal(images, false_alarm_rate=rate, seed=seed, validate=validate)
    check(split, images, validate=validate)
    assert len(split.calibration) <= max(1, round(images / 5))
    again = split_nominal(images, false_alarm_rate=rate, seed=seed, validate=not validate)
    assert (split.fit, split.calibration) == (again.fit, again.calibration)


@given(images=st.integers(2, 1500), share=st.floats(0, 1), seed=SEEDS, validate=st.booleans())
def test_every_image_calibrates_in_one_fold(images: int, share: float, seed: int, validate: bool) -> None:
    folds = 2 + round(share * min(images - 2, 18))
    splits = fold_nominal(images, folds=folds, seed=seed, validate=validate)
    assert sorted(index for split in splits for index in split.calibration) == list(range(images))
    for split in splits:
        check(split, images, validate=validate)
