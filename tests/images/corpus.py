"""Odd picture files, made here and kept nowhere: every format, cut off, damaged, and such as cost much.

`files()` gives names and what makes the content; those of `heavy()` take seconds and much memory if nothing bounds it.
"""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
from PIL import Image

from omnilmm.images.formats import FORMATS

File = tuple[str, Callable[[], bytes]]

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "I;16B", "F")
CUTS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
MUTANTS = 12  # of each format
SIDE = 8000  # 64 megapixels are allowed
BLOB = 1_000_000
BROKEN_EXIF = {
    "cut": b"II*\0",
    "empty": b"",
    "no-entries": b"II*\0\x08\0\0\0\0\0",
    "itself": b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\1\0\0\0\x08\0\0\0\x08",
    "far": b"II*\0\xff\xff\xff\x7f",
    "lies": b"II*\0\x08\0\0\0\xff\xff" + bytes(30),
    "noise": bytes(range(256)),
}


def files() -> Iterator[File]:
    """Those that are cheap to make and to decode."""
    yield from every_format()
    yield from every_mode()
    yield from cut_off()
    yield from mutants()
    yield from claims()
    yield from metadata()
    yield from several_frames()


def heavy() -> Iterator[File]:
    """Those that cost much: in memory by their tags, in time by their scans and chunks, by their pixels."""
    for count, (kind, make) in product((500, 1200, 5000), TAGGED.items()):
        yield f"{count} tags, {kind}", partial(make, tags(count))
    for count, side in ((150, SIDE), (150, 1000), (3000, 1000), (3000, 100)):
        yield f"{count} scans, {side}²", partial(scans, count, side)
    yield "text PPM", lambda: b"P3 1000 1000 255\n" + b"7 " * 3_000_000
    yield "text PPM, one long number", lambda: b"P3 9 9 255\n" + b"7" * 8_000_000
    yield "RLE BMP", rle_bmp
    yield "PNG of tiny chunks", lambda: png(1000, 1000, idat_bytes=1)
    yield "PNG of many texts", lambda: png(9, 9, extra=chunk(b"tEXt", b"a\0b") * 300_000)
    yield (
        "PNG with a text that unpacks",
        lambda: png(9, 9, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
    )
    yield (
        "PNG with a profile that unpacks",
        lambda: png(9, 9, extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))),
    )
    flat = partial(Image.new, "RGB", (SIDE, SIDE))
    for kind in ("PNG", "WEBP", "TIFF", "GIF"):
        yield f"64 flat megapixels, {kind}", partial(lambda k: saved(flat(), k, **FLAT.get(k, {})), kind)
    yield "64 flat megapixels on their side", lambda: saved(flat(), "JPEG", exif=exif({0x0112: 6}))
    yield "64 megapixels, 16 bit", lambda: png(SIDE, SIDE, depth=16)
    yield "one row too long", lambda: saved(Image.new("1", (60_000_000, 1)), "PNG")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def drawing(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Something of every mode, a little noisy; the same in every run, so that a mutant is known by its seed."""
    grey = np.random.default_rng(0).normal(128, 90, size[::-1]).clip(0, 255)
    noise = Image.fromarray(grey.astype(np.uint8))
    return (
        noise.convert("RGB").convert(mode) if mode not in ("I;16", "I;16B", "PA") else noise.convert("I").convert(mode)
    )


def exif(entries: dict[int, object]) -> bytes:
    made = Image.Exif()
    made.update(entries)
    return made.tobytes()


def every_format() -> Iterator[File]:
    """What Pillow writes: most of it is not read here."""
    Image.init()
    for kind, mode in product(sorted(Image.SAVE), ("RGB", "L", "P", "1")):
        if content := _tried(kind, mode):
            yield f"{kind} {mode}", partial(bytes, content)


def every_mode() -> Iterator[File]:
    for kind, mode in product(FORMATS, MODES):
        if content := _tried(kind, mode):
            yield f"{kind}, mode {mode}", partial(bytes, content)


def _tried(kind: str, mode: str) -> bytes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return saved(drawing(mode), kind)
    except (OSError, ValueError, KeyError, SystemError, TypeError, AttributeError):
        return b""  # nothing of that mode can be written


def cut_off() -> Iterator[File]:
    for kind in FORMATS:
        content = saved(drawing(), kind)
        for part in CUTS:
            yield f"{kind}, cut at {part:.0%}", partial(bytes, content[: int(len(content) * part)])
        yield f"{kind}, something behind", partial(bytes, content + b"PK\3\4" + content)
        yield f"{kind}, something before", partial(bytes, b"\n" + content)


def mutants(count: int = MUTANTS, seed: int = 0) -> Iterator[File]:
    chance = random.Random(seed)
    for kind in FORMATS:
        content = saved(drawing(), kind, **({"exif": exif({0x0112: 6})} if kind in ("JPEG", "PNG", "WEBP") else {}))
        for number in range(count):
            yield f"{kind}, mutant {seed}.{number}", partial(bytes, mutant(content, chance))


def mutant(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, or a piece taken out, doubled or filled, more often near the beginning."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        at = int(len(changed) * chance.random() ** chance.choice((1, 4)))
        end = at + int(2 ** chance.uniform(0, 7))
        changed[at:end] = chance.choice(
            (b"", bytes(changed[at:end]) * 2, b"\xff" * (end - at), bytes(end - at), chance.randbytes(end - at))
        )
    return bytes(changed)


def claims() -> Iterator[File]:
    """Honest headers of pictures that are not there."""
    for width, height in ((0, 0), (0, 9), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (20_000, 20_000), (9_000, 9_000)):
        size = f"{width}×{height}"
        yield f"PNG of {size}", partial(png, width, height, idat_bytes=0)
        yield f"BMP of {size}", partial(bmp, width, height)
        yield f"PPM of {size}", partial(bytes, f"P6 {width} {height} 255\n".encode() + bytes(99))
        yield f"GIF of {size}", partial(_claiming_gif, width, height)
        yield f"WebP of {size}", partial(_claiming_webp, width, height)


def metadata() -> Iterator[File]:
    for name, content in BROKEN_EXIF.items():
        for kind in ("JPEG", "PNG", "WEBP"):
            yield f"EXIF {name}, {kind}", partial(_with_exif, kind, content)
    for orientation in (0, 1, 6, 9, 65_535):
        yield (
            f"orientation {orientation}",
            partial(lambda o: saved(drawing(), "JPEG", exif=exif({0x0112: o})), orientation),
        )
    for name, profile in (("empty", b""), ("noise", bytes(range(256)) * 9), ("short", b"\0\0\2\x0cADBE")):
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            yield f"profile {name}, {kind}", partial(lambda k, p: saved(drawing(), k, icc_profile=p), kind, profile)
    for text in (
        b"%PDF-1.7",
        b"<svg/>",
        b"PK\3\4",
        b"\xff\x0a",
        b"8BPS",
        b"#!/bin/sh\n",
        b"GIF89a",
        b"\xff\xd8\xff",
        b"RIFF",
    ):
        yield f"only {text!r}", partial(bytes, text + bytes(64))
    yield "float TIFF with no numbers", lambda: saved(Image.new("F", (9, 9), float("nan")), "TIFF")
    yield "float TIFF without end", lambda: saved(Image.new("F", (9, 9), float("inf")), "TIFF")


def several_frames() -> Iterator[File]:
    frames = [Image.new("RGB", (30, 20), (shade, 0, 99)) for shade in range(0, 250, 10)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        yield f"{kind} of 25 frames", partial(saved, frames[0], kind, save_all=True, append_images=frames[1:])


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, depth: int = 8, idat_bytes: int = 1 << 16, extra: bytes = b"") -> bytes:
    """A grey PNG whose data comes in chunks of that many bytes; with 0 there is none."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    data = bytes(0)
    if idat_bytes:
        packer = zlib.compressobj(0 if idat_bytes == 1 else 1)
        row = bytes(1 + width * depth // 8)
        data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    parts = [data[at : at + idat_bytes] for at in range(0, len(data), idat_bytes or 1)]
    return (
        b"\x89PNG\r\n\x1a\n" + header + extra + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")
    )


def bmp(width: int, height: int, compression: int = 0, data: bytes = b"") -> bytes:
    palette = bytes(1024)
    info = struct.pack("<IIIHHIIIIII", 40, width, height, 1, 8, compression, len(data), 1, 1, 256, 0)
    return struct.pack("<2sIII", b"BM", 54 + 1024 + len(data), 0, 54 + 1024) + info + palette + data


def rle_bmp() -> bytes:
    """Runs of one pixel."""
    return bmp(2000, 2000, 1, (b"\1\7" * 2000 + b"\0\0") * 2000 + b"\0\1")


def tags(count: int) -> bytes:
    """An EXIF (which is a TIFF) of many tags, all of which name the same bytes."""
    at = 8 + 2 + 12 * count + 4
    entries = b"".join(struct.pack("<HHII", 0x8000 + number, 7, BLOB, at) for number in range(count))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4 + BLOB)


def tagged_tiff(of: bytes) -> bytes:
    """The same tags in a TIFF with a picture of one pixel."""
    (count,) = struct.unpack("<H", of[8:10])
    picture = [
        (256, 3, 1, 1),
        (257, 3, 1, 1),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 0),
        (279, 4, 1, 1),
    ]
    at = 8 + 2 + 12 * (count + len(picture)) + 4
    shift = 12 * len(picture)
    shared = b"".join(
        struct.pack("<HHII", *entry[:3], entry[3] + shift)
        for entry in struct.iter_unpack("<HHII", of[10 : 10 + 12 * count])
    )
    own = b"".join(struct.pack("<HHII", tag, kind, n, at if tag == 273 else value) for tag, kind, n, value in picture)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count + len(picture)) + own + shared + bytes(4 + BLOB)


def _with_exif(kind: str, content: bytes) -> bytes:
    """A good picture with that EXIF, as it is."""
    picture = saved(drawing(), kind)
    if kind == "PNG":
        return picture[:33] + chunk(b"eXIf", content) + picture[33:]
    if kind == "WEBP":
        return saved(drawing(), "WEBP", exif=content or b"\0")
    pieces = [content[at : at + 65_000] for at in range(0, len(content) or 1, 65_000)]
    segments = (b"\xff\xe1" + struct.pack(">H", 8 + len(piece)) + b"Exif\0\0" + piece for piece in pieces)
    return picture[:2] + b"".join(segments) + picture[2:]


TAGGED = {"TIFF": tagged_tiff} | {kind: partial(_with_exif, kind) for kind in ("PNG", "WEBP", "JPEG")}
FLAT: dict[str, dict[str, object]] = {"TIFF": {"compression": "tiff_lzw"}, "WEBP": {"method": 0}}


def scans(count: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    content = saved(Image.new("RGB", (side, side), "teal"), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + content[-2:]


def _claiming_gif(width: int, height: int) -> bytes:
    return saved(drawing("P"), "GIF").replace(
        struct.pack("<HH", 60, 40), struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    )


def _claiming_webp(width: int, height: int) -> bytes:
    size = struct.pack("<I", width - 1 & 0xFFFFFF)[:3] + struct.pack("<I", height - 1 & 0xFFFFFF)[:3]
    content = saved(drawing("RGBA"), "WEBP", exif=exif({0x0112: 1}))
    return content[:24] + size + content[30:]
