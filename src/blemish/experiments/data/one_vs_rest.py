"""One class against the rest: how a classification data set becomes detection tasks (section 4.1 of the paper)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.experiments.data.tasks import Images, Task, select
from blemish.io.text import printable


@dataclass(frozen=True, eq=False)
class OneVsRest:
    """A classification data set.

    Attributes:
        classes: the names of the classes.
        train, test: the images.
        train_labels, test_labels: numbers of their classes, integer (N,).
    """

    classes: tuple[str, ...]
    train: Images
    train_labels: Tensor
    test: Images
    test_labels: Tensor

    def task(self, nominal_class: str) -> Task:
        """Nominal are the training images of one class, anomalous all test images of the others.

        Raises BlemishError where there is no such class, or no training image of it.
        """
        label = class_number(self.classes, nominal_class)
        nominal = torch.nonzero(self.train_labels == label).flatten().tolist()
        if not nominal:
            raise BlemishError(f"class {printable(nominal_class)} has no training images; choose another")
        return Task(
            nominal=select(self.train, nominal),
            test=self.test,
            anomalous=self.test_labels != label,
            kinds=tuple(self.classes[number] for number in self.test_labels.tolist()),
        )


def class_number(classes: tuple[str, ...], name: str) -> int:
    """The number of a class. Raises BlemishError, which lists the classes, where there is none of this name."""
    if name not in classes:
        raise BlemishError(f"there is no class {printable(name)}; there are {', '.join(map(printable, classes))}")
    return classes.index(name)
