"""Which depth the 16-bit images of a data set have: known from all of its training images together."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BlemishError
from blemish.imaging.bit_depth import check_bits, depth_of, full_scale
from blemish.imaging.images import largest_value
from blemish.imaging.reading import Reading
from blemish.io.text import printable
from blemish.process.threads import readers

_ANOTHER_SCALE = 3  # times the largest value of most images; lighting differs by less than a bit depth


@dataclass(frozen=True)
class DepthSurvey:
    """What is known of the depth of a set of images.

    Attributes:
        narrow: how many have 8 bits.
        largest: the largest value of each 16-bit image.
        given: the bits that the user gave; None where the images decide.
    """

    narrow: int
    largest: Mapping[Path, int]
    given: int | None = None

    @property
    def reading(self) -> Reading:
        """How these images, and all later ones, are read."""
        if self.given is not None:
            return Reading(bits=self.given)
        return Reading(bits=depth_of(max(self.largest.values()))) if self.largest else Reading(seen=False)

    @property
    def statement(self) -> str | None:
        """The depth and where it comes from, in one line; None where there is nothing to say."""
        bits = self.reading.bits
        if not self.largest:
            return None if self.given is None else f"16-bit images will be read as {bits} bits, as --bits says"
        whose = "--bits says so" if self.given is not None else "--bits N overrides it"
        return (
            f"{_images(len(self.largest))} of 16 bits: largest value {max(self.largest.values()):,}, read as {bits} "
            f"bits ({whose})"
        )

    @property
    def sentences(self) -> list[str]:
        """The statement, if any, and all warnings."""
        return [*([self.statement] if self.statement else []), *(sentence for sentence, _ in self.warnings())]

    def warnings(self) -> list[tuple[str, tuple[Path, ...]]]:
        """What is odd about the set, a sentence each with the images that it is about."""
        found: list[tuple[str, tuple[Path, ...]]] = []
        if self.largest and self.narrow:
            found.append(
                (
                    f"{_images(self.narrow)} of 8 bits and {len(self.largest):,} of 16 bits are mixed: values of the "
                    f"first stay as they are, values of the second, up to {max(self.largest.values()):,}, are read as "
                    f"{self.reading.bits} bits; save all in one way",
                    tuple(self.largest),
                )
            )
        if self.given is None and (odd := self._of_another_scale()):
            usual = max(value for path, value in self.largest.items() if path not in odd)
            names = ", ".join(printable(path.name) for path in odd[:3]) + (", …" if len(odd) > 3 else "")
            found.append(
                (
                    f"{len(self.largest) - len(odd):,} of {_images(len(self.largest))} of 16 bits have values up to "
                    f"{usual:,}, {len(odd):,} up to {max(self.largest[path] for path in odd):,} ({names}): if these "
                    f"are scaled otherwise, all others are read too dark; mend them, or give --bits {depth_of(usual)}",
                    odd,
                )
            )
        return found

    def check_bit_depth(self) -> None:
        """Raises BlemishError where the bits that the user gave cut off most of the images."""
        over = [path for path, value in self.largest.items() if value > full_scale(self.reading.bits)]
        if 2 * len(over) > len(self.largest):
            most = max(over, key=lambda path: self.largest[path])
            raise BlemishError(
                f"--bits {self.given} ends at {full_scale(self.reading.bits):,}, but {len(over):,} of "
                f"{_images(len(self.largest))} of 16 bits have larger values, up to {self.largest[most]:,} in "
                f"{printable(most)}; give --bits {depth_of(self.largest[most])}, or leave it out"
            )

    def _of_another_scale(self) -> tuple[Path, ...]:
        """Images that are far brighter than the depth of most would allow."""
        if not self.largest:
            return ()
        values = sorted(self.largest.values())
        usual_depth = full_scale(depth_of(values[(len(values) - 1) // 2]))
        usual = max(value for value in values if value <= usual_depth)
        if values[-1] < _ANOTHER_SCALE * usual:
            return ()
        return tuple(path for path, value in self.largest.items() if value > usual_depth)


def survey_depth(
    paths: Iterable[Path], *, given: int | None = None, progress: Callable[[int, int], None] | None = None
) -> DepthSurvey:
    """Opens all images, and decodes those that have 16 bits; what cannot be read counts nowhere.

    `given` are the bits that a user wants, and `progress` is called with the images done and all there are, from the
    first one with 16 bits on: without any, this takes no time. Raises BlemishError for bits that cannot be.
    """
    paths, wide = list(paths), False
    values: dict[Path, int | str | None] = {}
    with ThreadPoolExecutor(readers()) as pool:
        for path, value in zip(paths, pool.map(_largest_value, paths), strict=True):
            values[path] = value
            wide |= isinstance(value, int)
            if wide and progress is not None:
                progress(len(values), len(paths))
    largest = {path: value for path, value in values.items() if isinstance(value, int)}
    narrow = sum(value is None for value in values.values())
    return DepthSurvey(narrow, largest, None if given is None else check_bits(given))


def _largest_value(path: Path) -> int | str | None:
    try:
        return largest_value(path)
    except BlemishError as error:
        return str(error)


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
