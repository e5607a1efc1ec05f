"""Multipart forms: files as httpx sends them, in chunks of any size."""

from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("python_multipart")
pytest.importorskip("starlette")

from blemish.serving.errors import RequestError
from blemish.serving.forms import FormFiles

CONTENT = "multipart/form-data; boundary=B"
HEAD = b'--B\r\nContent-Disposition: form-data; name="i"; filename="a.png"\r\n\r\n'

# httpx writes quotes, line breaks and control characters as %22 and so on, and browsers do too.
file_names = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"\\'), min_size=1, max_size=20)
file_contents = st.one_of(st.binary(max_size=60), st.sampled_from([b"\r\n--", b"\r\n--B", b"--B--\r\n", b"\r\n" * 9]))


def parsed(body: bytes, sizes: list[int], content_type: str, max_files: int = 9) -> list[tuple[str | None, bytes]]:
    """The files of a body that comes in chunks of these sizes, the rest in one."""
    form = FormFiles(content_type, max_files=max_files)
    for size in sizes:
        form.feed(body[:size])
        body = body[size:]
    form.feed(body)
    return form.close()


chunk_sizes = st.lists(st.integers(0, 90), max_size=30)


@given(st.lists(st.tuples(file_names, file_contents), min_size=1, max_size=4), chunk_sizes)
def test_files_come_out_as_they_were_sent(files, sizes):
    request = httpx.Request("POST", "http://x", files=[("images", file) for file in files])
    assert parsed(request.read(), sizes, request.headers["content-type"]) == files


@given(st.binary(max_size=300), chunk_sizes)
def test_any_other_body_is_refused_or_gives_files(body, sizes):
    for content in (body, HEAD + body, HEAD + body + b"\r\n--B--\r\n"):
        files: list[tuple[str | None, bytes]] = [(None, b"")]
        with suppress(RequestError):  # any other exception is a fault
            files = parsed(content, sizes, CONTENT)
        assert files


@pytest.mark.parametrize(
    ("content_type", "body", "sentence"),
    {
        "no boundary": ("multipart/form-data", b"", "cannot be read: its header names no boundary"),
        "empty boundary": ("multipart/form-data; boundary=", b"", "its header names no boundary"),
        "a boundary that is too long": (f"multipart/form-data; boundary={'b' * 5000}", b"", "the multipart body"),
        "no end": (CONTENT, HEAD + b"x\r\n", "ends before its last boundary; send it whole"),
        "nothing": (CONTENT, b"--B--\r\n", "holds no file; send images as in curl -F images=@part.png"),
        "no name": (CONTENT, HEAD.replace(b' name="i";', b"") + b"x\r\n--B--\r\n", "a part of it has no name"),
        "a field": (CONTENT, HEAD.replace(b'; filename="a.png"', b""), "a part of the multipart body is not a file"),
        "many files": (CONTENT, (HEAD + b"x\r\n") * 10 + b"--B--\r\n", "more than 9 images in one request"),
        "no encoding of text": (f"{CONTENT}; charset=base64", HEAD, "cannot be read; send it in UTF-8"),
        "garbage": (CONTENT, b"garbage", "cannot be read: it is damaged"),
    }.values(),
)
def test_a_bad_form_is_one_sentence(content_type, body, sentence):
    with pytest.raises(RequestError) as caught:
        parsed(body, [], content_type)
    assert caught.value.status == 400
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("charset", "raw", "name"),
    [
        ("utf-8", "ä".encode(), "ä"),
        ("utf-8", b"\xe4", "ä"),
        ("shift_jis", "ネジ".encode("shift_jis"), "ネジ"),
        ("unheard-of", b"\xe4", "ä"),
        ("utf-8", b"", None),
    ],
)
def test_file_names_in_any_encoding(charset, raw, name):
    body = HEAD.replace(b"a.png", raw) + b"x\r\n--B--\r\n"
    assert parsed(body, [], f"{CONTENT}; charset={charset}") == [(name, b"x")]
