"""Files whose decoding is not bounded by their pixels are refused by their headers, before a decoder sees them."""

import io
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from blemish.imaging.decoding import open_image
from blemish.imaging.errors import ImageError
from blemish.imaging.formats import IMAGE_SUFFIXES
from blemish.imaging.images import read_image
from blemish.imaging.limits import UnfitError
from blemish.imaging.masks import read_mask
from helpers.tiff_files import Page, write_tiff

NOISE = np.random.default_rng(5).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def encoded(kind, image=None, **options):
    buffer = io.BytesIO()
    (image or Image.fromarray(NOISE)).save(buffer, kind, **options)
    return buffer.getvalue()


# ---- files made for it --------------------------------------------------------------------------------


def jpeg_with_scans(count, width=64, height=48):
    """A progressive JPEG whose last scan comes again and again."""
    plain = encoded("JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    scans = plain.count(b"\xff\xda")
    content = bytearray(plain[:-2] + last * (count - scans) + plain[-2:])
    at = content.index(b"\xff\xc2") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def jpeg_of_single_components(count):
    """A baseline JPEG whose components come one at a time, and the last one again and again."""
    plain = encoded("JPEG")
    start = plain.index(b"\xff\xda")
    scan = b"".join(b"\xff\xda\0\x08\x01" + bytes([number]) + b"\0\0\x3f\0\x2a" for number in (1, 2, 3))
    return plain[:start] + scan + b"\xff\xda\0\x08\x01\x03\0\0\x3f\0\x2a" * (count - 3) + b"\xff\xd9"


def jpeg_with_segments(count, segment=b"\xff\xfe\0\x02"):
    plain = encoded("JPEG")
    return plain[:2] + segment * count + plain[2:]


def jpeg_of(bits=8, components=3, marker=0xC0):
    plain = bytearray(encoded("JPEG"))
    at = plain.index(b"\xff\xc0")
    plain[at + 1] = marker
    plain[at + 4] = bits
    plain[at + 9] = components
    return bytes(plain)


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks):
    plain = encoded("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def gif_with(blocks):
    plain = encoded("GIF")
    start = 13 + (3 << ((plain[10] & 7) + 1))
    return plain[:start] + blocks + plain[start:]


def gif_frame_of(width, height):
    content = bytearray(encoded("GIF"))
    start = 13 + (3 << ((content[10] & 7) + 1))
    at = content.index(b",", start)
    content[at + 5 : at + 9] = struct.pack("<HH", width, height)
    return bytes(content)


def webp_canvas(width, height):
    content = encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    at = content.index(b"VP8X") + 12
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return content[:at] + size + content[at + 6 :]


def coded_bitmap(codes, width=64, height=64):
    """A BMP whose pixels are runs of palette indices."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(codes), 0, 0, 14 + len(head)) + head + codes


GREY = np.zeros((64, 64, 1), dtype=np.uint8)


def tiff(**how):
    return write_tiff(Page(GREY, **{"data": [zlib.compress(GREY.tobytes())], "compression": 8} | how))


def tiff_size(width, height, **how):
    tags = {256: (4, (width,)), 257: (4, (height,))} | how.pop("tags", {})
    return tiff(tags=tags, **how)


def jpeg2000(image=None, **options):
    return bytearray(encoded("JPEG2000", image or Image.new("L", (400, 300)), **options))


def jpeg2000_with(field, value, **options):
    """A JPEG 2000 image with another value in a field of its header: (marker, offset behind it, length)."""
    content = jpeg2000(**options)
    marker, offset, length = field
    at = content.index(marker) + 2 + offset
    content[at : at + length] = value.to_bytes(length)
    return bytes(content)


LAYERS, PRECINCTS, COMPONENTS = (b"\xff\x52", 4, 2), (b"\xff\x52", 12, 6), (b"\xff\x51", 36, 2)
RIGHT_AND_BOTTOM, TILE = (b"\xff\x51", 4, 8), (b"\xff\x51", 20, 8)


def jpeg2000_with_tiles_of_their_own():
    """What the header says is changed by the tile."""
    content = jpeg2000(no_jp2=True, precinct_size=(64, 64))
    start = content.index(b"\xff\x52")
    coding = content[start : start + 2 + int.from_bytes(content[start + 2 : start + 4])]
    coding[6:8] = b"\xff\xff"
    at = content.index(b"\xff\x90") + 12
    return bytes(content[:at] + coding + content[at:])


def avif(**options):
    return encoded("AVIF", Image.new("RGB", (400, 300)), speed=10, **options)


def avif_of_another_size():
    """An AVIF whose header says 40 x 30 and whose coded picture says 400 x 300."""
    return avif().replace(struct.pack(">II", 400, 300), struct.pack(">II", 40, 30))


MANY = [zlib.compress(bytes(64))] * 120_000

ATTACKS = {
    "progressive jpeg of 6,000 scans": (lambda: jpeg_with_scans(6_000, 7000, 7000), "more than 40 scans"),
    "jpeg of 101 scans": (lambda: jpeg_with_scans(101), "more than 100 scans"),
    "jpeg of few scans of many pixels": (lambda: jpeg_with_scans(20, 12_000, 12_000), "more than 13 scans"),
    "jpeg of EXIF": (
        lambda: jpeg_with_segments(65, b"\xff\xe1\0\x0aExif\0\0II"),
        "more than 64 segments of EXIF",
    ),
    "baseline jpeg of 3,000 scans": (lambda: jpeg_of_single_components(3_000), "more than 100 scans"),
    "jpeg of comments": (lambda: jpeg_with_segments(5_000), "more than 4,096 segments"),
    "jpeg of restart markers": (lambda: jpeg_with_segments(5_000, b"\xff\xd0"), "more than 4,096 segments"),
    "jpeg of junk": (
        lambda: jpeg_with_segments(1, b"\xff\xfe\0\x02" + bytes(70_000)),
        "more than 65,536 bytes between",
    ),
    "jpeg of fill bytes": (lambda: jpeg_with_segments(70_000, b"\xff"), "more than 65,536 bytes between"),
    "jpeg of tables between scans": (
        lambda: jpeg_with_scans(3).replace(b"\xff\xd9", b"\xff\xfe\0\x02" * 5_000 + b"\xff\xd9"),
        "more than 4,096 segments",
    ),
    "jpeg of 12 bits": (lambda: jpeg_of(bits=12, marker=0xC1), "JPEG of 12 bits a value is not read"),
    "jpeg of 2 components": (lambda: jpeg_of(components=2), "JPEG of 2 components is not read"),
    "lossless jpeg": (lambda: jpeg_of(marker=0xC3), "a lossless JPEG is not read"),
    "hierarchical jpeg": (lambda: jpeg_of(marker=0xC5), "a hierarchical JPEG is not read"),
    "png of chunks": (lambda: png_with(chunk(b"teSt") * 100_001), "more than 100,000 chunks"),
    "png of empty data": (lambda: png_with(chunk(b"IDAT") * 100_001), "more than 100,000 chunks"),
    "png of profiles": (
        lambda: png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(900_000))) * 300),
        "more than 256 compressed texts",
    ),
    "png of compressed texts": (
        lambda: png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 300),
        "more than 256 compressed texts",
    ),
    "png with a large text": (
        lambda: png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9_000_000)))),
        "its texts or colour profile are too large",
    ),
    "png with a large profile": (
        lambda: png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9_000_000)))),
        "its texts or colour profile are too large",
    ),
    "gif of a comment": (lambda: gif_with(b"!\xfe" + b"\x01a" * 110_000 + b"\0"), "more than 100,000 blocks"),
    "gif of extensions": (lambda: gif_with(b"!\xff\0" * 110_000), "more than 100,000 blocks"),
    "gif of junk": (lambda: gif_with(b"x" * 70_000), "more than 65,536 bytes between"),
    "gif frame beyond its canvas": (lambda: gif_frame_of(65_000, 65_000), "4,225,000,000 pixels"),
    "webp canvas": (lambda: webp_canvas(16_384, 16_384), "268,435,456 pixels"),
    "webp of chunks": (lambda: encoded("WEBP") + b"teSt\0\0\0\0" * 100_001, "more than 100,000 chunks"),
    "pgm of comments": (lambda: b"P5\n#" + b"x" * 99_000 + b"\n64 64 255\n" + bytes(4096), "more than 65,536 bytes"),
    "pgm of comments behind its size": (lambda: b"P5 64 64\n#" + b"x" * 99_000 + b"\n255\n", "more than 65,536 bytes"),
    "pgm size": (lambda: b"P5 100000 100000 255\n", "10,000,000,000 pixels"),
    "run-length-coded bmp": (lambda: coded_bitmap(b"\0\2\0\0" * 1_050_000), "BMP of more than 4 MB is not read"),
    "bmp size": (lambda: encoded("BMP")[:18] + struct.pack("<ii", 70_000, -70_000) + bytes(99), "4,900,000,000 pixels"),
    "jpeg 2000 size": (
        lambda: jpeg2000_with(RIGHT_AND_BOTTOM, 70_000 << 32 | 70_000, no_jp2=True),
        "4,900,000,000 pixels",
    ),
    "jpeg 2000 size that its box denies": (
        lambda: jpeg2000_with(RIGHT_AND_BOTTOM, 70_000 << 32 | 70_000),
        "4,900,000,000 pixels",
    ),
    "jpeg 2000 of tiles": (lambda: jpeg2000_with(TILE, 1 << 32 | 1), "more than 4,096 tiles"),
    "jpeg 2000 of layers": (lambda: jpeg2000_with(LAYERS, 65_535), "more than 256 layers"),
    "jpeg 2000 of precincts": (
        lambda: jpeg2000_with(PRECINCTS, 0, image=Image.new("L", (1600, 1200)), precinct_size=(64, 64)),
        "more than 2,000,000 code blocks or packets",
    ),
    "jpeg 2000 of bands": (lambda: jpeg2000_with(COMPONENTS, 16_000), "it has 16,000 bands"),
    "jpeg 2000 whose tile says otherwise": (jpeg2000_with_tiles_of_their_own, "more than 256 layers"),
    "tiff in one tile": (
        lambda: tiff(tile=(40_000, 40_000)),
        "a tile of 40,000 x 40,000 pixels in an image of 64 x 64",
    ),
    "tiff in one wide tile": (lambda: tiff(tile=(1 << 30, 16)), "a tile of 16 x 1,073,741,824 pixels"),
    "big-endian bigtiff in one tile": (
        lambda: write_tiff(Page(GREY, tile=(40_000, 40_000), data=[b"x"]), order=">", big=True),
        "a tile of 40,000 x 40,000",
    ),
    "tiff of tall tiles on a line": (
        lambda: tiff_size(1_000_000, 1, tile=(16, 32_000), data=[b"x"] * 62_500),
        "a tile of 32,000 x 16 pixels in an image of 1 x 1,000,000",
    ),
    "tiff of deep tiles": (
        lambda: write_tiff(Page(GREY.repeat(4, axis=2), 16, 2, tile=(5_000, 5_000), data=[b"x"])),
        "a tile of 5,000 x 5,000",
    ),
    "tiff of strips": (lambda: tiff(data=MANY, tags={278: (4, (1,))}), "more than 100,000 strips"),
    "tiff of strips that it does not list": (lambda: tiff_size(1, 140_000_000, rows=1), "more than 100,000 strips"),
    "tiff of tiles that it does not list": (lambda: tiff_size(9_000, 9_000, tile=(16, 16)), "more than 100,000 strips"),
    "tiff of strips that lie on each other": (
        lambda: tiff(rows=1, data=[b"x"], tags={273: (4, (8,) * 64), 279: (4, (40_000,) * 64)}),
        "claim more bytes than the file has",
    ),
    "tiff of strips without lengths": (lambda: tiff(rows=1, data=[b"x"] * 64, without=(279,)), "how long its strips"),
    "tiff of bands": (lambda: tiff(tags={277: (4, (1 << 31,))}), "it has 2,147,483,648 bands"),
    "tiff of tags": (lambda: tiff(tags=dict.fromkeys(range(1000, 6000), (3, (0,)))), "more than 4,096 tags"),
    "tiff that says two sizes": (lambda: tiff_twice(), "says twice and differently"),
    "tiff with a size in another type": (lambda: tiff(tags={322: (2, (b"4", b"\0"))}), "no whole number"),
    "tiff strips of no rows": (lambda: tiff(tags={278: (4, (0,))}), "have no size"),
}


def tiff_twice():
    """The tag of the tiles' width twice: decoders differ in which of the two they believe."""
    content = write_tiff(Page(GREY, tile=(64, 64), tags={65_000: (4, (40_000,))}))
    return content.replace(struct.pack("<HHI", 65_000, 4, 1), struct.pack("<HHI", 322, 4, 1))


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_refused_before_it_is_decoded(tmp_path, monkeypatch, attack):
    make, reason = ATTACKS[attack]
    (tmp_path / "image").write_bytes(make())
    if "too large" not in reason:  # Pillow itself knows when a text is
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a decoder was started"))
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "image")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'image'}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("attack", ["progressive jpeg of 6,000 scans", "tiff in one tile", "gif of a comment"])
def test_masks_and_lazy_pil_images_are_no_way_round(tmp_path, attack):
    make, reason = ATTACKS[attack]
    (tmp_path / "image").write_bytes(make())
    with pytest.raises(ImageError, match=re.escape(reason)):
        read_mask(tmp_path / "image", size=(64, 64))
    with Image.open(tmp_path / "image") as image, pytest.raises(ImageError, match=re.escape(reason)):
        read_image(image)


def test_the_tiles_of_a_tiff_are_not_allocated(tmp_path):
    content = tiff(tile=(40_000, 40_000), data=[zlib.compress(bytes(40_000)) * 40])
    tracemalloc.start()
    try:
        with pytest.raises(UnfitError):
            open_image(io.BytesIO(content))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_later_page_is_checked_when_it_is_asked_for():
    content = write_tiff(Page(GREY), Page(GREY, tile=(40_000, 40_000), data=[b"x"]))
    assert open_image(io.BytesIO(content)).frames == 2
    with pytest.raises(UnfitError, match="a tile of 40,000"):
        open_image(io.BytesIO(content), frame=2)


def test_pages_that_lead_in_a_circle_end():
    content = bytearray(write_tiff(Page(GREY), Page(GREY)))
    content[-4:] = content[4:8]
    assert open_image(io.BytesIO(bytes(content))).frames == 2


@pytest.mark.skipif(".avif" not in IMAGE_SUFFIXES, reason="this Pillow reads no AVIF")
def test_an_avif_is_as_large_as_its_coded_picture_says():
    assert open_image(io.BytesIO(avif()), most_pixels=120_000).image.size == (400, 300)
    for content in (avif(), avif_of_another_size()):
        with pytest.raises(UnfitError, match="120,000 pixels, above the limit of 100,000"):
            open_image(io.BytesIO(content), most_pixels=100_000)


@pytest.mark.skipif(".avif" not in IMAGE_SUFFIXES, reason="this Pillow reads no AVIF")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: encoded("AVIF", save_all=True, append_images=[Image.new("RGB", (64, 48))]), "several frames"),
        (lambda: avif().replace(b"av01", b"hvc1"), "HEIF file without an AVIF picture"),
        (lambda: avif()[:100], "damaged, or truncated"),
    ],
    ids=["a sequence", "a HEIF file", "cut"],
)
def test_an_avif_that_is_not_read(tmp_path, content, reason):
    (tmp_path / "image.avif").write_bytes(content())
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "image.avif")


# ---- honest files -------------------------------------------------------------------------------------

HONEST = {
    "progressive jpeg": lambda: encoded("JPEG", progressive=True),
    "jpeg of 60 scans": lambda: jpeg_with_scans(60),
    "jpeg with restarts": lambda: encoded("JPEG", restart_marker_rows=1),
    "jpeg with a profile in many segments": lambda: encoded("JPEG", icc_profile=bytes(4_000_000)),
    "cmyk jpeg": lambda: encoded("JPEG", Image.fromarray(NOISE).convert("CMYK")),
    "interlaced png": lambda: encoded("PNG", Image.fromarray(NOISE)),
    "png with texts": lambda: png_with(*(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 99)) for _ in range(50))),
    "png in small chunks": lambda: png_of_chunks(4),
    "gif with a comment": lambda: encoded("GIF", comment=b"x" * 60_000),
    "jpeg 2000 in tiles": lambda: encoded(
        "JPEG2000", tile_size=(16, 16), codeblock_size=(8, 8), precinct_size=(8, 8), quality_layers=[20, 10, 0]
    ),
    "tiff in a tile larger than it": lambda: tiff_in_tile(512),
    "tiff in a large tile": lambda: tiff_in_tile(4096),
    "tiff of one row a strip": lambda: write_tiff(Page(np.zeros((5_000, 4, 1), np.uint8), rows=1)),
    "pgm with a comment": lambda: b"P5\n# " + b"made by a camera " * 99 + b"\n64 48\n255\n" + bytes(64 * 48),
}


def png_of_chunks(size):
    plain = encoded("PNG")
    at = plain.index(b"IDAT")
    data = plain[at + 4 : at + 4 + int.from_bytes(plain[at - 4 : at])]
    parts = (data[start : start + size] for start in range(0, len(data), size))
    return plain[:33] + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND")


def tiff_in_tile(side):
    return write_tiff(Page(GREY, tile=(side, side), compression=8))


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_file_is_read(tmp_path, kind):
    (tmp_path / "image").write_bytes(HONEST[kind]())
    assert read_image(tmp_path / "image").size in {(64, 48), (64, 64), (4, 5_000)}
