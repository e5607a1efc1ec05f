"""What is known of a model beside what it learned: figures on a test set and findings of an audit, in the file itself.

They are one JSON object under a metadata key of their own. An ONNX file is a protocol-buffer message, in which an entry
of metadata is a field at the top: entries can be added and taken out while every other byte stays, so a file with a
record scores as it did without. Only its fingerprint changes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from blemish.errors import BlemishError
from blemish.files import atomic_write, printable, read_fault

RECORD_KEY = "blemish.record"
Part = Literal["evaluation", "audit"]

_ENTRY = 14 << 3 | 2  # ModelProto.metadata_props, length-delimited
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2  # StringStringEntryProto


def read_record(model: Path) -> dict[str, Any]:
    """The record in a model file, by part; empty where nothing was saved. Raises BlemishError for no such file."""
    return _split(_read(model), model)[1]


def save_record(model: Path, part: Part, value: dict[str, Any]) -> None:
    """Replaces one part of the record in a model file, at once or not at all.

    Raises BlemishError where the file is no ONNX model or cannot be written.
    """
    others, record = _split(_read(model), model)
    text = json.dumps(record | {part: value}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    entry = _field(_KEY, RECORD_KEY.encode()) + _field(_VALUE, text.encode())
    with atomic_write(model) as file:
        file.write(others + _field(_ENTRY, entry))


def _read(model: Path) -> bytes:
    try:
        return model.read_bytes()
    except OSError as error:
        raise BlemishError(f"{printable(model)}: {read_fault(error)}") from error


def _split(content: bytes, model: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a model file without the record, and the record."""
    others, record = [], {}
    try:
        for tag, start, body, end in _fields(content):
            entry = dict(_entry(content[body:end])) if tag == _ENTRY else {}
            if entry.get(_KEY) == RECORD_KEY.encode():
                record = json.loads(entry[_VALUE])
            else:
                others.append(content[start:end])
    except (IndexError, KeyError, ValueError) as error:
        raise BlemishError(f"{printable(model)}: not an ONNX model, or a damaged one") from error
    return b"".join(others), record


def _entry(content: bytes) -> Iterator[tuple[int, bytes]]:
    for tag, _, body, end in _fields(content):
        yield tag, content[body:end]


def _fields(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, start, start of the body and end of every field of a message."""
    place = 0
    while place < len(content):
        start = place
        tag, place = _varint(content, place)
        kind = tag & 7
        if kind == 2:
            length, place = _varint(content, place)
            end = place + length
        elif kind == 0:
            end = _varint(content, place)[1]
        elif kind in (1, 5):
            end = place + (8 if kind == 1 else 4)
        else:
            raise ValueError("not a protocol buffer")
        if end > len(content):
            raise ValueError("cut short")
        yield tag, start, place, end
        place = end


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7


def _field(tag: int, body: bytes) -> bytes:
    length, encoded = len(body), [tag]
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    return bytes([*encoded, length]) + body
