"""Any annotation as a mask, by the format of its file."""

from pathlib import Path
from typing import Literal

from blemish.imaging.annotation_formats import common
from blemish.imaging.annotation_formats.coco import draw_coco, is_coco, load_coco
from blemish.imaging.annotation_formats.common import Annotation, AnnotationError, Drawn, annotation_faults, read_text
from blemish.imaging.annotation_formats.labelme import FIELDS, draw_labelme
from blemish.imaging.annotation_formats.yolo import draw_yolo
from blemish.imaging.types import Size
from blemish.io.text import printable

Kind = Literal["labelme", "COCO"]


def draw(annotation: Annotation, *, size: Size | None) -> Drawn:
    """The annotation of an image of `size` = (height, width); without, at the size that the file names.

    Raises ImageError, in one sentence, where the file cannot be read, is no annotation or does not fit the image.
    """
    name = printable(annotation.file) + (f" ({printable(annotation.key)})" if annotation.key else "")
    with annotation_faults(name):
        if annotation.file.suffix.lower() == ".txt":
            return draw_yolo(read_text(annotation.file), size)
        if annotation.key:  # of COCO alone, whose file is kept from image to image
            return draw_coco(load_coco(annotation.file), annotation.key, size)
        content = common.read_json(annotation.file)
        if kind_of(content) == "COCO":
            return draw_coco(load_coco(annotation.file), annotation.key, size)
        if kind_of(content) != "labelme":
            raise AnnotationError("neither labelme's nor COCO's fields are in it")
        return draw_labelme(content, size)


def kind_of(content: object) -> Kind | None:
    """The format of a JSON file's content; None where it is no annotation."""
    if is_coco(content):
        return "COCO"
    return "labelme" if isinstance(content, dict) and any(field in content for field in FIELDS) else None


def read_json(file: Path) -> object:
    """A JSON file's content. Raises ImageError in one sentence."""
    with annotation_faults(printable(file)):
        return common.read_json(file)
