import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys

import pytest

from blemish.errors import BlemishError
from blemish.io.files import atomic_write, fingerprint
from blemish.io.text import printable

as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everywhere"
)
has_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")


def one_sentence(caught, path):
    message = str(caught.value)
    assert printable(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("mode", "content", "on_disk"),
    [
        ("wb", b"\x00\xffmodel\r\n", b"\x00\xffmodel\r\n"),
        ("w", "ä,1\r\nb,2\n", "ä,1\r\nb,2\n".encode()),
    ],
    ids=["bytes", "text keeps its line ends"],
)
def test_what_was_written_is_there_and_nothing_else(tmp_path, mode, content, on_disk):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    with atomic_write(target, mode=mode) as file:
        file.write(content)
        assert target.read_bytes() == b"old"  # the old file stays whole until the new one is
        partials = [name for name in os.listdir(tmp_path) if name != "out.bin"]
        assert len(partials) == 1
        assert partials[0].startswith(".out.bin.")
        assert partials[0].endswith(".partial")
    assert target.read_bytes() == on_disk
    assert os.listdir(tmp_path) == ["out.bin"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_new_file_gets_the_permissions_that_open_would_give(tmp_path):
    with atomic_write(tmp_path / "ours") as file:
        file.write(b"x")
    (tmp_path / "plain").write_bytes(b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")]
    assert modes[0] == modes[1]


def test_a_link_stays_a_link_to_the_new_content(tmp_path):
    (tmp_path / "v1.onnx").write_bytes(b"old")
    (tmp_path / "latest.onnx").symlink_to("v1.onnx")
    with atomic_write(tmp_path / "latest.onnx") as file:
        file.write(b"new")
    assert (tmp_path / "latest.onnx").is_symlink()
    assert (tmp_path / "v1.onnx").read_bytes() == b"new"


def write_half(target, *, then):
    with atomic_write(target) as file:
        file.write(b"half")
        then()


def fill_the_disk():
    with open("/dev/full", "wb", buffering=0) as full:
        full.write(b"more")  # the kernel's own "no space left on device"


def throw(error):
    raise error


class Interrupted(BaseException):
    """Stands for any exception that is not an Exception."""


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("bug"),
        KeyboardInterrupt(),
        Interrupted(),
        BlemishError("x.png: truncated"),
        FileNotFoundError(errno.ENOENT, "No such file", "some/other/file"),
        OSError("cannot write mode F as PNG"),
    ],
    ids=["error", "ctrl-c", "base exception", "user fault", "another file's fault", "error without a number"],
)
@pytest.mark.parametrize("existing", [None, b"old"], ids=["new file", "existing file"])
def test_an_exception_of_the_block_passes_unchanged_and_leaves_no_trace(tmp_path, raised, existing):
    target = tmp_path / "model.onnx"
    if existing is not None:
        target.write_bytes(existing)
    with pytest.raises(type(raised)) as caught:
        write_half(target, then=lambda: throw(raised))
    assert caught.value is raised
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if existing is None else [existing])


@has_dev_full
def test_a_full_disk_met_while_writing(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(BlemishError) as caught:
        write_half(target, then=fill_the_disk)
    assert one_sentence(caught, target).endswith("the disk is full; free some space and run again")
    assert os.listdir(tmp_path) == ["model.onnx"]
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
        (errno.EIO, "input/output error"),
    ],
    ids=["full", "quota", "read-only", "permission", "any other"],
)
def test_a_fault_met_at_the_end(tmp_path, monkeypatch, step, number, says):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    target = tmp_path / "scores.csv"
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(BlemishError) as caught, atomic_write(target, mode="w") as file:
        file.write("path,score\n")
    assert says in one_sentence(caught, target)
    assert os.listdir(tmp_path) == []


def test_a_real_full_disk(tmp_path):
    """A one-page file system, where the system lets this user mount one."""
    mount = f"mount -t tmpfs -o size=4096 none '{tmp_path}'"
    private = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*private, mount], capture_output=True).returncode:
        pytest.skip("this system lets the user mount no file system")
    script = f"""
import os
from blemish.errors import BlemishError
from blemish.io.files import atomic_write
try:
    with atomic_write("{tmp_path}/model.onnx") as file:
        file.write(bytes(100_000))
except BlemishError as error:
    print(error)
print(os.listdir("{tmp_path}"))
"""
    command = [*private, f'{mount} && exec "$0" -c "$1"', sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"cannot write {tmp_path}/model.onnx: the disk is full; free some space and run again",
        "[]",
    ]


def a_folder(tmp_path):
    return tmp_path


def in_a_missing_folder(tmp_path):
    return tmp_path / "missing" / "model.onnx"


def below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    return tmp_path / "file" / "model.onnx"


def a_device(tmp_path):
    return os.devnull


def a_long_name(tmp_path):
    return tmp_path / ("n" * 300)


def a_locked_folder(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    return tmp_path / "locked" / "model.onnx"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        pytest.param(a_folder, "it is a folder", id="folder"),
        pytest.param(in_a_missing_folder, "create it first", id="missing folder"),
        pytest.param(below_a_file, "there is no folder", id="below a file"),
        pytest.param(a_device, "it is a device", id="device"),
        pytest.param(a_long_name, "name is too long", id="long name"),
        pytest.param(a_locked_folder, "no permission to write in", id="locked folder", marks=as_user),
    ],
)
def test_places_where_no_file_can_be_written(tmp_path, place, says):
    target = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BlemishError) as caught, atomic_write(target):
        pytest.fail("the block must not run")
    assert says in one_sentence(caught, target)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", [0, 3, 1_000_003])
def test_fingerprint_is_the_sha256_of_the_bytes(tmp_path, size):
    content = bytes(index * 31 % 256 for index in range(size))
    (tmp_path / "file").write_bytes(content)
    assert fingerprint(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_fingerprint_agrees_with_the_published_test_vector(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint(str(tmp_path / "abc")) == expected


def test_fingerprint_of_what_cannot_be_read(tmp_path):
    for path, says in ((tmp_path / "missing", "no such file"), (tmp_path, "a folder")):
        with pytest.raises(BlemishError) as caught:
            fingerprint(path)
        assert says in one_sentence(caught, path)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("grün/Bild 1.png", "grün/Bild 1.png"),
        ("two\nlines.png", r"two\nlines.png"),
        (os.fsdecode(b"latin\xfc.png"), r"latin\udcfc.png"),
        (b"bytes.png", "bytes.png"),
    ],
    ids=["letters", "line break", "undecodable", "bytes"],
)
def test_names_fit_into_one_printable_line(name, shown):
    assert printable(name) == shown
    shown.encode("utf-8")


def test_a_write_protected_file_stays(tmp_path, tiny_model, parts, run):
    model = tmp_path / "m.onnx"
    model.write_bytes(content := tiny_model.read_bytes())
    model.chmod(0o444)
    outcome = run("evaluate", model, parts, "--save")
    assert outcome.status == 2
    assert "m.onnx: it is write-protected; allow writing to it, or name another file" in outcome.err
    assert model.read_bytes() == content


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.txt"
    for permissions in (0o600, 0o664):
        path.write_text("old")
        path.chmod(permissions)
        with atomic_write(path, mode="w") as file:
            file.write("new")
        assert path.read_text() == "new"
        assert path.stat().st_mode & 0o777 == permissions
