"""What the names of folders and mask files mean, regardless of case and of what separates their words."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import PurePath, PurePosixPath
from typing import Literal

SplitWord = Literal["train", "test", "validation"]

# The words of the first versions: with them, and only with them, --nominal-class has nothing to name.
NOMINAL = ("good", "nominal", "normal", "ok")
_GOOD = frozenset(NOMINAL) | {
    *("okay", "io", "pass", "passed", "accept", "accepted", "clean", "flawless", "healthy", "intact", "undamaged"),
    *("defect_free", "defectfree", "no_defect", "no_defects", "nodefect", "nodefects", "without_defect"),
    *("non_defect", "non_defective", "nondefective", "not_defective", "without_defects"),
    *("anomaly_free", "no_anomaly", "non_anomalous"),
    *("gut", "gutteil", "gutteile", "i_o", "bon", "bons", "bonne", "bonnes", "conforme", "conformes"),
    *("bueno", "buenos", "buena", "buenas", "buono", "buoni", "良品", "合格", "合格品", "正常", "正常品"),
}
# Folders that may hold a folder for each type. Any other folder beside the good one is a type itself.
_BAD = frozenset({"anomalous", "abnormal", "bad", "defect", "defects", "ng"}) | {
    *("nok", "ko", "nio", "not_ok", "not_good", "no_good", "anomaly", "anomalies", "defective", "defectives"),
    *("fail", "failed", "failure", "failures", "fault", "faults", "faulty", "reject", "rejects", "rejected"),
    *("schlecht", "schlechtteil", "schlechtteile", "n_i_o", "ausschuss", "defekt", "defekte", "fehler", "fehlerhaft"),
    *("mauvais", "mauvaise", "défaut", "défauts", "defaut", "defauts", "défectueux", "non_conforme", "non_conformes"),
    *("defecto", "defectos", "malo", "malos", "difetto", "difetti", "scarto", "scarti"),
    *("不良", "不良品", "不合格", "不合格品", "缺陷", "缺陷品", "异常", "異常", "次品"),
}
_MASKS = frozenset({"mask", "masks", "ground_truth"}) | {
    *("ground_truths", "groundtruth", "groundtruths", "gt", "gts", "label", "labels", "annotation", "annotations"),
    *("segmentation", "segmentations", "segmentationclass", "segmentation_class"),
    *("segmentationobject", "segmentation_object"),
}
_MASK_TOKENS = frozenset(name for name in _MASKS if "_" not in name)
_SPLITS: dict[str, SplitWord] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "test_public": "test",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
}
# Folders that say nothing of what they hold.
_FILLERS = frozenset({"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "data", "rgb"})
_FILLERS |= {"jpegimages"}
# Beside a folder called rgb: what other sensors saw of the same parts.
_OTHER_VIEWS = frozenset({"xyz", "depth", "pc", "pcd", "pointcloud", "point_cloud", "normal_map", "normals", "height"})
_OTHER_VIEWS |= {"ir", "nir", "infrared", "thermal"}
_FILLER_TOKENS = _FILLERS | {"dir", "folder", "part", "parts", "sample", "samples", "set"}
_NEGATIONS = frozenset({"no", "non", "not", "without", "with", "un"})
_MASK_QUALIFIERS = frozenset({"anomaly", "binary", "bw", "defect", "pixel", "seg"})

_TOKEN = r"(?:ground[ _.-]?truth|masks?|gts?|labels?|annotations?|annot|anno|segmentations?|segm|seg|truth)"
_QUALIFIER = r"(?:(?:anomaly|binary|bw|defect|pixel|seg)[ _.-]+)?"
_MAY_NAME_A_MASK = re.compile("mask|gt|label|anno|seg|truth")
_AFTER = re.compile(rf"(.+?)[ _.-]*[([]?{_QUALIFIER}{_TOKEN}[)\]]?([ _.-]*\d+)?")
_SUFFIX = re.compile(r"(.+)\.(?:png|jpe?g|bmp|tiff?|webp|gif|p[pg]m)")
_YEAR = re.compile(r"_?(?:19|20)\d\d$")  # train2017
_BEFORE = re.compile(rf"{_QUALIFIER}{_TOKEN}[ _.-]+(?:of[ _.-]+)?(.+)")

# How a mask's name says whose it is, the surer way first: 000_mask, 000, 000_gt, 000_mask_2, mask_7 of img_7.
MASK_AFTER, SAME, OTHER_WORD, NUMBERED, LOOSE = range(5)


@lru_cache(maxsize=4096)
def tokens(name: str) -> tuple[str, ...]:
    """The words of a name in lower case: of Ground-Truth, ground and truth."""
    return tuple(token for token in re.split(r"[\W_]+", fold(name)) if token)


@lru_cache(maxsize=4096)
def word(name: str) -> str:
    """A folder's name as one word, without what only says that it is a folder of images."""
    telling = [token for token in tokens(name) if token not in _FILLER_TOKENS]
    return "_".join(telling or tokens(name))


def is_classic_good(name: str) -> bool:
    """Whether a folder is called good, nominal, normal or ok."""
    return fold(name) in NOMINAL


def is_good(name: str) -> bool:
    """Whether a folder's name says that its images are good."""
    return word(name) in _GOOD


def is_bad(name: str) -> bool:
    """Whether a folder's name says that its images are defective, without naming a type of defect."""
    return word(name) in _BAD


def is_filler(name: str) -> bool:
    """Whether a folder's name says no more than that there are images in it."""
    return fold(name) in _FILLERS


def is_loosely_good(name: str) -> bool:
    """Whether one of a name's words says that images are good, and none the contrary: MT_Free, ok_front."""
    found = set(tokens(name))
    return bool(found & (_GOOD | {"free"})) and not found & (_BAD | _NEGATIONS)


def is_other_view(name: str) -> bool:
    """Whether a folder's name says that another sensor made its images than those in the folder rgb beside it."""
    return word(name) in _OTHER_VIEWS


def may_wrap(name: str, below: Iterable[str]) -> bool:
    """Whether a folder may be no more than a wrapper of one data set, by its name and the folders in it."""
    if is_filler(name) or fold(name) in _GOOD | _BAD or mask_place(name) == ():
        return False
    if split_word(name) or split_and_side(name):
        return False
    if is_good(name) or is_bad(name) or is_loosely_good(name) or mask_place(name):  # ok_front/, but ok_set/train/
        return any(split_word(folder) or is_good(folder) for folder in below)
    return True


def split_word(name: str) -> SplitWord | None:
    """The split that a folder's name stands for."""
    return _SPLITS.get(word(name)) or _SPLITS.get(_YEAR.sub("", word(name)))


def split_and_side(name: str) -> tuple[SplitWord, str] | None:
    """The two words of a folder such as train_good, normal_test or test-bad: split and side, as they stand there."""
    found = [token for token in tokens(name) if token not in _FILLER_TOKENS]
    if len(found) < 2:
        return None
    for split, side in ((found[0], "_".join(found[1:])), (found[-1], "_".join(found[:-1]))):
        if split in _SPLITS and (side in _GOOD or side in _BAD):
            return _SPLITS[split], side
    return None


@lru_cache(maxsize=4096)
def mask_place(name: str) -> tuple[str, ...] | None:
    """What a mask folder's name says of the folder whose masks it holds: of crack_masks, crack; of masks, nothing.

    None where the folder is not called one of masks.
    """
    if word(name) in _MASKS:
        return ()
    found = list(tokens(name))
    if set(found) & _NEGATIONS or not found:
        return None
    if len(found) == 2 and found[1] == "maps" and found[0] in _SPLITS:
        return (found[0],)
    found = [token for token in found if token not in _FILLER_TOKENS]
    if found[-2:] == ["ground", "truth"] or found[:2] == ["ground", "truth"]:
        rest = found[:-2] if found[-1] == "truth" else found[2:]
    elif found and found[-1] in _MASK_TOKENS:
        rest = found[:-1]
    elif found and found[0] in _MASK_TOKENS:
        rest = found[1:]
    else:
        return None
    return tuple(token for token in rest if token not in _MASK_QUALIFIERS | _MASK_TOKENS)


def canonical(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Folders with one name for all that means the same, without those that say nothing."""
    found: list[str] = []
    for part in parts:
        if is_filler(part):
            continue
        split, both = split_word(part), split_and_side(part)
        if both and not split:
            found += [both[0], "good" if is_good(both[1]) else "bad"]
        else:
            found.append(split or ("good" if is_good(part) else "bad" if is_bad(part) else word(part)))
    return tuple(found)


def stems_of_mask(stem: str) -> Iterator[tuple[int, str]]:
    """The names that an image may have whose mask is called `stem`, with how sure that is; see `stems_of_image`."""
    stem = fold(stem)
    if stem.endswith("_mask") and len(stem) > 5:
        yield MASK_AFTER, stem.removesuffix("_mask")
    yield SAME, stem
    if twice := _SUFFIX.fullmatch(stem):  # 000.jpg.png is the mask of 000.jpg
        yield OTHER_WORD, twice[1]
    if names_a_mask(stem):
        if after := _AFTER.fullmatch(stem):
            yield NUMBERED if after[2] else OTHER_WORD, after[1]
        if before := _BEFORE.fullmatch(stem):
            yield OTHER_WORD, before[1]
    yield LOOSE, _core(stem, without=_MASK_TOKENS | _MASK_QUALIFIERS)


def stems_of_image(stem: str) -> tuple[str, str]:
    """An image's name as `stems_of_mask` has it: its stem, and its words without image and the like."""
    return fold(stem), _core(stem, without=_FILLER_TOKENS)


def names_a_mask(stem: str) -> bool:
    """Whether a file's name has a word in it that masks are called by."""
    return _MAY_NAME_A_MASK.search(fold(stem)) is not None


def _core(stem: str, *, without: frozenset[str]) -> str:
    """Of mask_007 and img-007, the same: no stem is spelled like it, so that it meets its like alone."""
    return "/".join(["", *(token for token in tokens(stem) if token not in without)])


def fold(name: str | PurePath) -> str:
    """A name or path in which case and the spelling of accents make no difference."""
    text = name.as_posix() if isinstance(name, PurePath) else name
    return unicodedata.normalize("NFC", text).casefold()


def natural_key(path: PurePosixPath) -> tuple[tuple[tuple[int | str, ...], ...], tuple[str, ...]]:
    """Sort key that puts 2.png before 10.png, part by part; names equal but for case keep a fixed order."""
    # re.split with a group alternates text and digits, so strings are only ever compared with strings.
    parts = tuple(
        tuple(int(piece) if i % 2 else piece.casefold() for i, piece in enumerate(re.split(r"(\d+)", part)))
        for part in path.parts
    )
    return parts, path.parts
