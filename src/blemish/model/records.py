"""Figures of an evaluation and findings of an audit, stored in the model file beside the graph.

They are one JSON object under a metadata key of their own. An ONNX file is a protocol-buffer message, in which an entry
of metadata is a field at the top: entries can be added and taken out while every other byte stays, so a file with a
record scores as it did without. Only its fingerprint changes.
"""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from blemish.errors import BlemishError
from blemish.io.files import atomic_write, read_fault
from blemish.io.text import as_text, printable
from blemish.model.protobuf import bodies, field, fields, tag_of, text

RECORD_KEY = "blemish.record"
Part = Literal["evaluation", "audit"]

_METADATA = 14  # ModelProto.metadata_props
_KEY, _VALUE = 1, 2  # StringStringEntryProto


def read_record(model: Path) -> dict[str, Any]:
    """The record in a model file, by part; empty where nothing was saved.

    Raises BlemishError for no such file, no ONNX model, or a record that is none.
    """
    record = _parsed(_split(_read(model), model)[1])
    if record is None:
        raise BlemishError(
            f"{printable(model)}: the figures saved in it are damaged; save them again with blemish evaluate --save "
            "or blemish audit --save"
        )
    return record


def save_record(model: Path, part: Part, value: dict[str, Any]) -> None:
    """Replaces one part of the record in a model file, at once or not at all; a damaged record is replaced whole.

    Raises BlemishError where the file is no ONNX model or cannot be written.
    """
    others, saved = _split(_read(model), model)
    record = (_parsed(saved) or {}) | {part: value}
    value_text = json.dumps(as_text(record), sort_keys=True, ensure_ascii=False, allow_nan=False)
    entry = field(_KEY, RECORD_KEY.encode()) + field(_VALUE, value_text.encode())
    with atomic_write(model) as file:
        file.write(others + field(_METADATA, entry))


def _read(model: Path) -> bytes:
    try:
        return model.read_bytes()
    except OSError as error:
        raise BlemishError(f"{printable(model)}: {read_fault(error)}") from error


def _split(content: bytes, model: Path) -> tuple[bytes, bytes]:
    """The bytes of a model file without the record, and the record's JSON."""
    others, record, view = [], b"{}", memoryview(content)
    try:
        for tag, start, body, end in fields(view):
            if tag == tag_of(_METADATA) and text(view[body:end], _KEY) == RECORD_KEY:
                (record,) = (bytes(value) for value in bodies(view[body:end], _VALUE))
            else:
                others.append(view[start:end])
    except ValueError as error:
        raise BlemishError(f"{printable(model)}: not an ONNX model, or a damaged one") from error
    return b"".join(others), record


def _parsed(record: bytes) -> dict[str, Any] | None:
    """The record's parts, None where it is not one JSON object of objects."""
    try:
        found = msgspec.json.decode(record, type=dict[str, dict[str, Any]])
        json.dumps(found)  # as deep as can be written again
    except (msgspec.MsgspecError, RecursionError):
        return None
    return found
