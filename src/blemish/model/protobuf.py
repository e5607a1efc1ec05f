"""Reads and appends fields of a protocol-buffer message, such as an ONNX file, without parsing the message.

It exists because the runtime reads a file's metadata and graph without the packages `onnx` and `protobuf`, and because
a record is appended to a file whose other bytes stay as they are, which a parser that serialises anew cannot promise.

Only the wire format is known here: a message is a sequence of fields, and a field is a tag and a body. Bodies are views
of the file's bytes, so that weights are never copied.
"""

from collections.abc import Iterator

LENGTH_DELIMITED = 2  # the wire type of a field that holds bytes, text or another message
_LONGEST_VARINT = 10  # bytes of 7 bits each for 64 bits


class ProtobufError(ValueError):
    """Bytes that are no protocol-buffer message, or one that is cut short."""


def tag_of(number: int) -> int:
    """The tag of a length-delimited field with this number."""
    return number << 3 | LENGTH_DELIMITED


def fields(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Tag, start, start of the body and end of every field of a message. Raises ProtobufError."""
    place = 0
    while place < len(message):
        start = place
        tag, place = varint(message, place)
        kind = tag & 7
        if tag >> 3 == 0:
            raise ProtobufError("a field without a number")
        if kind == LENGTH_DELIMITED:
            length, place = varint(message, place)
            end = place + length
        elif kind == 0:
            end = varint(message, place)[1]
        elif kind in (1, 5):
            end = place + (8 if kind == 1 else 4)
        else:  # groups, which ONNX never had
            raise ProtobufError("not a protocol buffer")
        if end > len(message):
            raise ProtobufError("cut short")
        yield tag, start, place, end
        place = end


def bodies(message: memoryview, number: int) -> Iterator[memoryview]:
    """The bodies of all length-delimited fields with this number. Raises ProtobufError."""
    number_tag = tag_of(number)
    for tag, _, body, end in fields(message):
        if tag == number_tag:
            yield message[body:end]


def numbers(message: memoryview, number: int) -> Iterator[int]:
    """The values of all varint fields with this number. Raises ProtobufError."""
    for tag, _, body, _ in fields(message):
        if tag == number << 3:
            yield varint(message, body)[0]


def text(message: memoryview, number: int) -> str:
    """The text of a field, of which the last counts; empty where there is none. Raises ProtobufError."""
    last = b""
    for body in bodies(message, number):
        last = bytes(body)
    try:
        return last.decode()
    except UnicodeDecodeError as error:
        raise ProtobufError("text that is not UTF-8") from error


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """The whole number that begins at `place`, 0 to 2^64 - 1, and where it ends. Raises ProtobufError."""
    value = shift = 0
    for byte in message[place : place + _LONGEST_VARINT]:
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, place
        shift += 7
    raise ProtobufError("a number that does not end")


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(tag_of(number)) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
