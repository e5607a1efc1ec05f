"""Pascal VOC 2007 (Everingham et al.): photographs with the objects in them listed.

Torchvision's reader finds the data set below a folder VOCdevkit alone, and does not check annotations.
"""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import torch

from blemish.errors import BlemishError
from blemish.experiments.data.lookup import find
from blemish.experiments.data.one_vs_rest import class_number
from blemish.experiments.data.tasks import FileImages, ResizeSpec, Task
from blemish.io.files import read_fault
from blemish.io.text import printable

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_WAY_OUT = (
    "download VOCtrainval_06-Nov-2007.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2007/ and unpack it into "
)


@dataclass(frozen=True, eq=False)
class _Photograph:
    path: Path
    objects: tuple[str, ...]  # classes, in the order of the annotation


@dataclass(frozen=True, eq=False)
class PascalVoc:
    """The photographs of the train and of the val split, of which the paper trains on one and tests on the other."""

    train: tuple[_Photograph, ...]
    val: tuple[_Photograph, ...]
    spec: ResizeSpec
    classes: tuple[str, ...] = CLASSES

    def task(self, nominal_class: str) -> Task:
        """Nominal are the train images with an object of the class, anomalous the val images without one.

        A test image's kind is the class where it is nominal, otherwise its first object's. Raises BlemishError where
        there is no such class.
        """
        class_number(self.classes, nominal_class)
        nominal = [photograph.path for photograph in self.train if nominal_class in photograph.objects]
        shown = [nominal_class in photograph.objects for photograph in self.val]
        return Task(
            nominal=FileImages(nominal, self.spec),
            test=FileImages([photograph.path for photograph in self.val], self.spec),
            anomalous=~torch.tensor(shown, dtype=torch.bool),
            kinds=tuple(
                nominal_class if nominal_class in photograph.objects else photograph.objects[0]
                for photograph in self.val
            ),
        )


def open_pascal_voc(root: Path, spec: ResizeSpec) -> PascalVoc:
    """The data set from VOCdevkit/VOC2007 or VOC2007 in `root`, or from `root` itself.

    Images are read when they are asked for. Raises BlemishError where a list or an annotation is missing or damaged.
    """
    lists = find(
        ("VOCdevkit/VOC2007/ImageSets/Main", "VOC2007/ImageSets/Main", "ImageSets/Main"),
        (root,),
        otherwise=_WAY_OUT + printable(root),
    )
    return PascalVoc(_photographs(lists / "train.txt"), _photographs(lists / "val.txt"), spec)


def _photographs(listing: Path) -> tuple[_Photograph, ...]:
    home = listing.parents[2]
    try:
        names = listing.read_text("utf-8").split()
    except OSError as error:
        raise BlemishError(f"{printable(listing)}: {read_fault(error)}; unpack the data set again") from error
    return tuple(
        _Photograph(home / "JPEGImages" / f"{name}.jpg", _objects(home / "Annotations" / f"{name}.xml"))
        for name in names
    )


def _objects(annotation: Path) -> tuple[str, ...]:
    try:
        tree = ElementTree.parse(annotation)
    except OSError as error:
        raise BlemishError(f"{printable(annotation)}: {read_fault(error)}; unpack the data set again") from error
    except ElementTree.ParseError as error:
        raise BlemishError(f"{printable(annotation)}: not XML ({error}); unpack the data set again") from error
    objects = tuple(name.text or "" for name in tree.findall("object/name"))
    if not objects or not set(objects) <= set(CLASSES):
        raise BlemishError(f"{printable(annotation)}: not an annotation of Pascal VOC; unpack the data set again")
    return objects
