"""The reader of protocol-buffer messages against the packages `onnx` and `protobuf`, on sound and on random bytes."""

import onnx
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from blemish.model.protobuf import ProtobufError, bodies, field, fields, numbers, tag_of, text

# Numbers of fields in onnx.proto: ModelProto, GraphProto, TensorProto and StringStringEntryProto.
IR_VERSION, PRODUCER_NAME, GRAPH, DOC_STRING, METADATA = 1, 2, 7, 6, 14
INITIALIZER, TENSOR_NAME, RAW_DATA = 5, 8, 9
KEY, VALUE = 1, 2

texts = st.text(max_size=40)


@st.composite
def models(draw) -> onnx.ModelProto:
    model = onnx.ModelProto(
        ir_version=draw(st.integers(0, 2**63 - 1)), producer_name=draw(texts), doc_string=draw(texts)
    )
    for name, content in draw(st.lists(st.tuples(texts, st.binary(max_size=300)), max_size=4)):
        model.graph.initializer.add(name=name, raw_data=content, data_type=onnx.TensorProto.UINT8, dims=[len(content)])
    for key, value in draw(st.dictionaries(texts, texts, max_size=4)).items():
        model.metadata_props.add(key=key, value=value)
    return model


@given(models())
def test_a_model_reads_as_onnx_wrote_it(model):
    message = memoryview(model.SerializeToString())
    assert list(numbers(message, IR_VERSION)) == [model.ir_version]
    assert (text(message, PRODUCER_NAME), text(message, DOC_STRING)) == (model.producer_name, model.doc_string)
    entries = [(text(entry, KEY), text(entry, VALUE)) for entry in bodies(message, METADATA)]
    assert entries == [(entry.key, entry.value) for entry in model.metadata_props]
    tensors = [tensor for graph in bodies(message, GRAPH) for tensor in bodies(graph, INITIALIZER)]
    assert [(text(tensor, TENSOR_NAME), b"".join(bodies(tensor, RAW_DATA))) for tensor in tensors] == [
        (tensor.name, tensor.raw_data) for tensor in model.graph.initializer
    ]


@given(models(), texts, texts)
def test_an_appended_field_reads_in_onnx_and_every_other_byte_stays(model, key, value):
    message = model.SerializeToString()
    whole = message + field(METADATA, field(KEY, key.encode()) + field(VALUE, value.encode()))
    model.metadata_props.add(key=key, value=value)
    assert onnx.load_model_from_string(whole) == model
    (*_, (tag, start, _, end)) = fields(memoryview(whole))
    assert (tag, start, end) == (tag_of(METADATA), len(message), len(whole))


def fields_or_none(message: bytes) -> list[tuple[int, int, int, int]] | None:
    try:
        return list(fields(memoryview(message)))
    except ProtobufError:
        return None


def protobuf_accepts(message: bytes) -> bool:
    """Whether the package `protobuf` reads the message; to Empty every field is an unknown one, of any kind."""
    try:
        Empty.FromString(message)
    except DecodeError:
        return False
    return True


@st.composite
def damaged(draw) -> bytes:
    """A sound message cut short, with bytes changed."""
    message = bytearray(draw(models()).SerializeToString())
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3)):
        if place < len(message):
            message[place] = byte
    return bytes(message[: draw(st.integers(0, 500))])


@given(st.one_of(st.binary(max_size=60), damaged()))
def test_random_bytes_are_refused_or_read_as_protobuf_reads_them(message):
    found = fields_or_none(message)
    if found is None:
        return
    # All bytes belong to a field, in order.
    assert [start for _, start, _, _ in found] == [0, *(end for *_, end in found)][: len(found)]
    assert (found[-1][3] if found else 0) == len(message)
    if all(tag < 2**32 for tag, *_ in found):  # numbers of fields end there, and ONNX has none above 30
        assert protobuf_accepts(message)


@given(st.one_of(st.binary(max_size=60), damaged()))
@example(bytes(12))
def test_what_protobuf_reads_is_read_unless_it_holds_what_onnx_never_had(message):
    """The tag of a group, or of field 0, which the format forbids and protobuf reads where enough bytes follow."""
    if protobuf_accepts(message) and fields_or_none(message) is None:
        assert any(byte & 7 in (3, 4) or byte < 8 for byte in message)


@pytest.mark.parametrize(
    ("message", "reason"),
    {
        "the number of a field is 0": (b"\x02\x00", "a field without a number"),
        "a group": (b"\x0b\x0c", "not a protocol buffer"),
        "a body that ends early": (b"\x0a\x05ab", "cut short"),
        "a number of eleven bytes": (b"\x08" + b"\xff" * 10 + b"\x01", "a number that does not end"),
        "a tag alone": (b"\x0a", "a number that does not end"),
    }.values(),
)
def test_damage_is_named(message, reason):
    with pytest.raises(ProtobufError, match=reason):
        list(fields(memoryview(message)))
