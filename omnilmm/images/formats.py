"""Supported picture formats, format detection by magic bytes, and HEIC photos.

Pillow reads all formats but HEIC, the format of iPhone photos, which pi-heif reads (libheif and libde265, no encoder).
Its reader is called for such files only and never registered with Pillow, whose list of formats stays unchanged.
"""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from omnilmm.errors import ImageError
from omnilmm.sentences import Sentence

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
# Accepted uploads; the suffixes are listed as browsers do not count all of them as images (Chromium: HEIC).
UPLOADS = ("image", ".heic", ".heif", ".hif", ".avif")
VIDEO_UPLOADS = ("video", ".mkv", ".avi", ".mpg", ".ts", ".3gp")
AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
# EBML (WebM, MKV), MPEG program and video streams, ASF (WMV), FLV, Ogg.
VIDEO_MARKS = (
    b"\x1aE\xdf\xa3",
    b"\0\0\x01\xba",
    b"\0\0\x01\xb3",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"FLV\x01",
    b"OggS",
)
# Unsupported formats that users may upload as pictures, by magic bytes.
OTHERS: dict[bytes, str | Sentence] = {
    b"%PDF-": "PDF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"8BPS": "Photoshop (PSD)",
    b"<svg": "SVG",
    b"PK\x03\x04": "ZIP",
    b"\x1aE\xdf\xa3": Sentence("video", formats=("WebM", "MKV")),
    b"version https://git-lfs": Sentence("lfs_pointer_format"),
}


def open_image(content: bytes) -> Image.Image:
    """Open a picture without decoding its pixels; its size is known afterwards.

    Args:
        content: bytes of the file.

    Raises:
        ImageError: The format is not supported (the message names it if known), or pi-heif is missing for a HEIC photo.
        OSError, SyntaxError, ValueError: The file is damaged.
    """
    if is_heic(content):
        return _open_heic(content)
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        if _brands(content) & AVIF_BRANDS:
            raise SyntaxError("AVIF without a picture in it") from error
        if kind := _named(content):
            raise ImageError("other_format", format=kind) from error
        raise ImageError("no_picture") from error


def is_video(content: bytes) -> bool:
    """Return whether the first bytes are those of a supported video container; GIF, WebP and AVIF are pictures."""
    brands = _brands(content)
    if brands:
        return brands.isdisjoint(HEIC_BRANDS | AVIF_BRANDS) and content[8:11] != b"M4A"
    if content[:4] == b"RIFF":
        return content[8:12] == b"AVI "
    # MPEG transport streams have a sync byte every 188 bytes; MOV files of old cameras do not start with "ftyp".
    is_transport = content[:1] == content[188:189] == content[376:377] == b"G"
    is_old_movie = content[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip")
    return is_transport or is_old_movie or content.startswith(VIDEO_MARKS)


def webp_size(content: bytes) -> tuple[int, int] | None:
    """Return the width and height in a WebP header, as Pillow allocates memory before it reports them; else None.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return None
    kind, begin = content[12:16], content[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(begin[4:7], "little"), 1 + int.from_bytes(begin[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(begin[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(begin[6:8], "little") & 0x3FFF, int.from_bytes(begin[8:10], "little") & 0x3FFF


def is_heic(content: bytes) -> bool:
    """Return whether the content is a HEIF container other than AVIF, which Pillow reads itself."""
    brands = _brands(content)
    return not brands.isdisjoint(HEIC_BRANDS) and brands.isdisjoint(AVIF_BRANDS)


def _open_heic(content: bytes) -> Image.Image:
    """Open the primary picture of a HEIC file, rotated as its container says; its EXIF orientation no longer counts."""
    try:
        from pi_heif import HeifImageFile
    except ImportError as error:
        raise ImageError("heic_package_missing") from error
    opened: Image.Image = HeifImageFile(io.BytesIO(content))
    return opened


def _brands(content: bytes) -> set[bytes]:
    """Return the major and compatible brands of an ISO base media file; empty for any other file."""
    if content[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(content[:4]), 1024)
    return {content[8:12], *(content[begin : begin + 4] for begin in range(16, end, 4))}


def _named(content: bytes) -> str | Sentence | None:
    begin = content[:1024].lstrip()
    if _brands(content):
        return Sentence("video", formats=("MP4", "MOV"))
    if begin.startswith(b"<?xml") and b"<svg" in begin:
        return "SVG"
    return next((name for start, name in OTHERS.items() if begin.startswith(start)), None)
