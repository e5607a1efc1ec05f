"""Text for sentences, tables and JSON: file names on one line, numbers with their nouns, percentages, lists."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath, PurePosixPath
from typing import Any

MISSING = "–"  # stands where a figure has no value


def printable(path: str | bytes | os.PathLike[str]) -> str:
    """The path as one line can hold it, and no two paths alike: `path_of` has it back.

    Control characters and bytes that are no UTF-8 become escapes such as \\n and \\udcff, and a backslash is doubled,
    but for Windows, where it parts folders. Names are read as UTF-8 in every locale. The result is valid UTF-8.
    """
    text = _as_utf8(path)
    if text.isprintable() and (os.sep == "\\" or "\\" not in text):
        return text
    return "".join(_escape(letter) for letter in text)


def path_of(text: str) -> str:
    """The path that `printable` made this text of."""
    if os.sep != "\\":
        text = text.encode("ascii", "backslashreplace").decode("unicode_escape")
    try:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeError:  # more than bytes of a file name can be
        return text


def one_line(sentence: str) -> str:
    """A sentence, whose names are printable already, with what else is not printable escaped."""
    if sentence.isprintable():
        return sentence
    return "".join(letter if letter == "\\" else _escape(letter) for letter in sentence)


def as_text(value: Any) -> Any:
    """A JSON value whose texts, keys included, are valid UTF-8: bytes of file names that are none are escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {as_text(key): as_text(inner) for key, inner in value.items()}
    return [as_text(inner) for inner in value] if isinstance(value, list | tuple) else value


def list_some(names: Iterable[str | PurePath], *, limit: int = 3) -> str:
    """The first `limit` names and how many more there are, for one line of text."""
    texts = [printable(str(name)) for name in names]
    more = f" and {len(texts) - limit:,} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def counted(number: int, noun: str) -> str:
    """The number with its noun: "no images", "1 image", "1,204 images"."""
    return f"{f'{number:,}' if number else 'no'} {noun}{'s' * (number != 1)}"


def by_folder(files: Iterable[PurePosixPath], *, limit: int = 6) -> str:
    """The folders of some files with the number in each, such as "crack/ (12), extra/old/ (3)".

    Where there are more than `limit` folders, those at the top count.
    """
    files = list(files)
    folders = Counter(file.parent.as_posix() + "/" for file in files)
    if len(folders) > limit:
        folders = Counter(file.parts[0] + "/" if len(file.parts) > 1 else "./" for file in files)
    return list_some([f"{name} ({number:,})" for name, number in folders.items()], limit=limit)


def capitalized(sentence: str) -> str:
    """The sentence with a capital first letter; the other letters stay as they are."""
    return sentence[:1].upper() + sentence[1:]


def percent(rate: float | None, *, digits: int = 3) -> str:
    """A rate in [0, 1] as percent with at most `digits` significant digits: "94.1 %"; a dash for None."""
    return MISSING if rate is None else f"{100 * rate:.{digits}g} %"


def whole_percent(share: float) -> str:
    """A share in [0, 1] as whole percent, below 1 % with one digit: "24 %", "0.6 %"."""
    return percent(share, digits=1) if share < 0.01 else f"{100 * share:.0f} %"


def figure(value: float | None) -> str:
    """A figure in [0, 1] with three decimals, such as "0.987"; a dash for None."""
    return MISSING if value is None else f"{value:.3f}"


def _escape(letter: str) -> str:
    plain = letter.isprintable() and (letter != "\\" or os.sep == "\\")
    return letter if plain else letter.encode("unicode_escape").decode("ascii")


def _as_utf8(path: str | bytes | os.PathLike[str]) -> str:
    """The path as text whose bytes in UTF-8 are those of the file name, whatever the locale says of them."""
    if os.name == "nt":
        return os.fsdecode(path)
    try:
        return os.fsencode(path).decode("utf-8", "surrogateescape")
    except UnicodeError:
        return os.fsdecode(path)  # text that this locale cannot write, and so no file name of its own
