"""What a method learns from and is tested on, by the name of the protocol.

Images are drawn by the seed, see `draws.draw`; what is moved to the training split is not tested on. Where that is
so, a second trial `<protocol>-without` learns from the good images alone and is tested on the same images, so that the
difference is what the labels (or the contamination) did.

good            all good images
masks-K         and K defects of each type, with masks
labels-K        and K defects of each type, without masks
unseen-K        and K defects of each type but one, with masks, for every one in turn; tested on that one
good-N          N of the good images
contaminated-P  all good images, and P per cent of the training images are defective without anyone knowing
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from blemish.datasets.layouts import DataSet
from draws import contaminate, defect_types, draw_labels, keep_good, test_on

PROTOCOLS = (
    "good",
    *("masks-1", "masks-5", "labels-5", "unseen-5"),
    *("good-5", "good-10", "good-20"),
    *("contaminated-5", "contaminated-10", "contaminated-20"),
)
WITHOUT = "-without"


@dataclass(frozen=True)
class Trial:
    """One training and one test, by the name that the CSV has for it."""

    name: str
    data: DataSet


def needs_labels(protocol: str) -> bool:
    """Whether a protocol is about labelled defects."""
    return protocol.startswith(("masks-", "labels-", "unseen-"))


def trials(protocol: str, source: DataSet, *, seed: int) -> list[Trial]:
    """The trials of a protocol on a data set of good training images.

    Raises BlemishError where the set has too few images for it, or no masks.
    """
    kind, _, number = protocol.partition("-")
    if not number:
        return [Trial(protocol, source)]
    if kind == "good":
        return [Trial(protocol, keep_good(source, int(number), seed=seed))]
    if kind == "contaminated":
        return _with_and_without(protocol, source, contaminate(source, int(number), seed=seed))
    if kind == "unseen":
        return list(_unseen(protocol, source, int(number), seed=seed))
    return _with_and_without(protocol, source, draw_labels(source, int(number), seed=seed, masks=kind == "masks"))


def _with_and_without(name: str, source: DataSet, changed: DataSet) -> list[Trial]:
    return [Trial(name, changed), Trial(name + WITHOUT, replace(source, test=changed.test))]


def _unseen(protocol: str, source: DataSet, number: int, *, seed: int) -> Iterator[Trial]:
    types = defect_types(source)
    for one in types if len(types) > 1 else ():
        labelled = draw_labels(source, number, seed=seed, masks=True, unseen=one)
        yield from _with_and_without(f"{protocol}-{one}", source, test_on(labelled, one))
