"""Numbers and lists of names in sentences."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath, PurePosixPath

from blemish.io.files import printable


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
