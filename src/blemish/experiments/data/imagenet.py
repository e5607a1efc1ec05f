"""ImageNet-30 (Hendrycks et al. 2019): thirty classes of ImageNet-1k; and ImageNet's other classes as outliers."""

from pathlib import Path

import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.experiments.data.lookup import class_folders, find, image_files
from blemish.experiments.data.one_vs_rest import OneVsRest
from blemish.experiments.data.outlier_folder import open_folder_outliers
from blemish.experiments.data.tasks import FileImages, ResizeSpec
from blemish.io.text import printable

# Name and synset, the name of the folder in ImageNet, of each class.
SYNSETS = {
    "acorn": "n12267677",
    "airliner": "n02690373",
    "ambulance": "n02701002",
    "american_alligator": "n01698640",
    "banjo": "n02787622",
    "barn": "n02793495",
    "bikini": "n02837789",
    "digital_clock": "n03196217",
    "dragonfly": "n02268443",
    "dumbbell": "n03255030",
    "forklift": "n03384352",
    "goblet": "n03443371",
    "grand_piano": "n03452741",
    "hotdog": "n07697537",
    "hourglass": "n03544143",
    "manhole_cover": "n03717622",
    "mosque": "n03788195",
    "nail": "n03804744",
    "parking_meter": "n03891332",
    "pillow": "n03938244",
    "revolver": "n04086273",
    "rotary_dial_telephone": "n03187595",
    "schooner": "n04147183",
    "snowmobile": "n04252077",
    "soccer_ball": "n04254680",
    "stingray": "n01498041",
    "strawberry": "n07745940",
    "tank": "n04389033",
    "toaster": "n04442312",
    "volcano": "n09472597",
}
CLASSES = tuple(SYNSETS)
_HORSES = "n02389026"  # called sorrel
_WAY_OUT = (
    "download ImageNet from https://www.image-net.org/download.php and lay it out as train/<class>/<image> and "
    "val/<class>/<image>, classes by name or by synset"
)


def open_imagenet30(root: Path, spec: ResizeSpec) -> OneVsRest:
    """The thirty classes from train/ and val/ in `root`, or from the folders one_class_train/ and one_class_test/.

    Class folders bear a name or synset of `SYNSETS`; others, such as the rest of ImageNet-1k, are left aside. Images
    are read when they are asked for. Raises BlemishError where a split or one of the classes is missing.
    """
    train = find(("train", "one_class_train"), (root, root / "imagenet"), otherwise=_WAY_OUT)
    test = find(("val", "test", "one_class_test"), (root, root / "imagenet"), otherwise=_WAY_OUT)
    return OneVsRest(CLASSES, *_split(train, spec), *_split(test, spec))


def open_imagenet_outliers(root: Path, spec: ResizeSpec, *, limit: int | None, seed: int) -> FileImages:
    """The images in `root`/imagenet/train, `root`/imagenet or `root`/train, but for what is to be told from them.

    These are the classes of ImageNet-30 and the horses of Pascal VOC. Otherwise as `open_folder_outliers`.
    """
    folder = find(("imagenet/train", "imagenet", "train"), (root,), otherwise=_WAY_OUT)
    known = {*SYNSETS, *SYNSETS.values(), _HORSES}
    return open_folder_outliers(folder, spec, limit=limit, seed=seed, exclude=known)


def _split(folder: Path, spec: ResizeSpec) -> tuple[FileImages, Tensor]:
    paths: list[Path] = []
    labels: list[int] = []
    folders = {inner.name.lower(): inner for inner in class_folders(folder)}
    for label, (name, synset) in enumerate(SYNSETS.items()):
        inner = folders.get(name) or folders.get(synset)
        files = image_files(inner) if inner else []
        if not files:
            raise BlemishError(f"{printable(folder)}: no images in a folder {name} or {synset}; {_WAY_OUT}")
        paths += files
        labels += [label] * len(files)
    return FileImages(paths, spec), torch.tensor(labels)
