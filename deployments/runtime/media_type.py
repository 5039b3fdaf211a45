"""Media types from content: what a file is, whatever its name says.

The formats that the service reads are told apart here, by their own signatures, so that the
answer is the same on every machine. ``puremagic`` names whatever is left, for messages only: on
our samples it took HEIC and M4A for MP4, and did not know MPEG transport streams or camera raw.

File names are mapped by the standard library, from its built-in table without the system's.
"""

import codecs
import io
import mimetypes
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import puremagic

Kind = Literal["image", "video", "audio", "text", "other"]

EMPTY = "application/x-empty"
UNKNOWN = "application/octet-stream"

_HEAD_BYTES = 4096  # every signature and text sample fits; the header of a TIFF may be elsewhere

# Signatures at the start of the file. Longer ones come first where one begins another.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"FUJIFILMCCD-RAW", "image/x-fuji-raf"),
    (b"IIU\x00", "image/x-panasonic-rw2"),
    (b"IIRO", "image/x-olympus-orf"),
    (b"IIRS", "image/x-olympus-orf"),
    (b"MMOR", "image/x-olympus-orf"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xfa", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
)

_RIFF = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo", b"WAVE": "audio/x-wav"}
_AIFF = frozenset({b"AIFF", b"AIFC"})

# Brands of the ISO base media file format, registered at mp4ra.org; others count as MP4.
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"hevm": "image/heic",
    b"hevs": "image/heic",
    b"crx ": "image/x-canon-cr3",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"M4P ": "audio/mp4",
}
_STILL_BRANDS = frozenset({b"mif1", b"msf1", b"heif"})  # the codec is in the compatible brands

# What a QuickTime file from before there were brands begins with.
_OLD_QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})

# TIFF 6.0, TIFF/EP and DNG 1.7 tags, all in the first directory.
_NEW_SUBFILE_TYPE = 254
_MAKE = 271
_SUB_IFDS = 330
_DNG_VERSION = 50706
_MAX_TIFF_TAGS = 1024
_RAW_MAKERS = {b"NIKON": "image/x-nikon-nef", b"SONY": "image/x-sony-arw"}

_BMP_HEADER_SIZES = frozenset(
    size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)
)

_TS_PACKET_BYTES = 188  # ISO/IEC 13818-1
_TS_SYNCS = 3  # two may be chance
_M2TS_PACKET_BYTES = 192  # as on Blu-ray: four bytes of time code before each packet

# What the standard library's table lacks in some version that we run on; the first extension of
# a type is the one that files get.
_EXTENSIONS: tuple[tuple[str, str], ...] = (
    ("image/webp", ".webp"),
    ("image/heic", ".heic"),
    ("image/heif", ".heif"),
    ("image/heif", ".hif"),
    ("image/avif", ".avif"),
    ("image/x-adobe-dng", ".dng"),
    ("image/x-canon-cr2", ".cr2"),
    ("image/x-canon-cr3", ".cr3"),
    ("image/x-nikon-nef", ".nef"),
    ("image/x-sony-arw", ".arw"),
    ("image/x-fuji-raf", ".raf"),
    ("image/x-panasonic-rw2", ".rw2"),
    ("image/x-olympus-orf", ".orf"),
    ("video/x-matroska", ".mkv"),
    ("video/webm", ".webm"),
    ("video/3gpp", ".3gp"),
    ("video/3gpp2", ".3g2"),
    ("video/mp2t", ".ts"),
    ("video/mp2t", ".mts"),
    ("video/mp2t", ".m2ts"),
    ("video/x-flv", ".flv"),
    ("video/x-ms-asf", ".wmv"),
    ("video/ogg", ".ogv"),
    ("audio/flac", ".flac"),
    ("audio/ogg", ".ogg"),
    ("audio/mp4", ".m4a"),
    ("audio/aac", ".aac"),
)

_TEXT_TYPES = frozenset({"application/json", "application/xml", "image/svg+xml"})
_OWN_TYPES = frozenset(
    {mime for _, mime in _SIGNATURES}
    | set(_RIFF.values())
    | set(_BRANDS.values())
    | {"image/bmp", "image/x-ms-bmp", "image/tiff", "video/mp4", "application/json"},
)


@dataclass(frozen=True, slots=True)
class MediaType:
    """A MIME type and the broad kind that it is of."""

    mime: str
    kind: Kind


def detect(data: bytes | Path) -> MediaType:
    """Tell what the content is, by its first bytes.

    Nothing is decoded, so a file that is broken further on is still named by what it begins as.

    Args:
        data: the content, or the path of a file with it.

    Returns:
        The type; ``application/x-empty`` for no bytes and ``application/octet-stream`` for
        content that nothing recognises.

    Raises:
        OSError: the file can't be read.

    """
    with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
        mime = _mime(file)
    kind = mime.partition("/")[0]
    known = kind in {"image", "video", "audio", "text"}
    return MediaType(mime, cast("Kind", kind) if known else "other")


def extension_of(mime: str) -> str | None:
    """File name extension for a MIME type, with its dot; None for an unknown type."""
    return _name_table().guess_extension(mime)


def mime_of_name(filename: str) -> str | None:
    """MIME type that a file name claims, by its extension in any case; None when unknown."""
    return _name_table().guess_type(filename)[0]


def _name_table() -> mimetypes.MimeTypes:
    table = mimetypes.MimeTypes()
    for mime, extension in _EXTENSIONS:
        table.add_type(mime, extension)
    return table


def _mime(file: BinaryIO) -> str:
    head = file.read(_HEAD_BYTES)
    if not head:
        return EMPTY
    for signature, mime in _SIGNATURES:
        if head.startswith(signature):
            return mime
    return (
        _tiff(file, head)
        or _container(head)
        or _transport_stream(head)
        or _bmp(head)
        or _text(head)
        or _other(head)
    )


def _container(head: bytes) -> str | None:
    """Formats whose signature only says how they are packed."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in _AIFF:
        return "audio/x-aiff"
    if head[:4] == b"\x1aE\xdf\xa3":
        # EBML: the DocType element is among the first few.
        return "video/webm" if b"\x42\x82\x84webm" in head[:128] else "video/x-matroska"
    if head[:4] == b"OggS":
        return "video/ogg" if b"\x80theora" in head[:512] else "audio/ogg"
    if head[4:8] == b"ftyp":
        return _branded(head)
    return "video/quicktime" if head[4:8] in _OLD_QUICKTIME_BOXES else None


def _branded(head: bytes) -> str:
    box_bytes = int.from_bytes(head[:4], "big")
    major = head[8:12]
    if major.startswith(b"3gp"):
        return "video/3gpp"
    if major.startswith(b"3g2"):
        return "video/3gpp2"
    if major not in _STILL_BRANDS:
        return _BRANDS.get(major, "video/mp4")
    compatible = [head[start : start + 4] for start in range(16, min(box_bytes, len(head)), 4)]
    codecs_named = (_BRANDS[brand] for brand in compatible if brand in _BRANDS)
    return next((mime for mime in codecs_named if mime.startswith("image/")), "image/heif")


def _tiff(file: BinaryIO, head: bytes) -> str | None:
    """TIFF and the camera raw formats that are built on it."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(head[:4])
    if order is None:
        return "image/tiff" if head[:4] in {b"II+\x00", b"MM\x00+"} else None  # BigTIFF
    if head[8:10] == b"CR":
        return "image/x-canon-cr2"
    try:
        tags = _first_directory(file, order)
    except struct.error:  # cut off: the reader of the picture will say so
        return "image/tiff"
    if _DNG_VERSION in tags:
        return "image/x-adobe-dng"
    # Raw files keep a preview first and the sensor's data in a sub-directory.
    if _SUB_IFDS in tags and tags.get(_NEW_SUBFILE_TYPE) == 1 and _MAKE in tags:
        file.seek(tags[_MAKE])
        make = file.read(5).upper()
        for maker, mime in _RAW_MAKERS.items():
            if make.startswith(maker):
                return mime
    return "image/tiff"


def _first_directory(file: BinaryIO, order: str) -> dict[int, int]:
    """Tags of a TIFF's first directory, each with its value or the offset of its value."""
    file.seek(4)
    (offset,) = struct.unpack(order + "I", file.read(4))
    file.seek(offset)
    (count,) = struct.unpack(order + "H", file.read(2))
    tags: dict[int, int] = {}
    for _ in range(min(count, _MAX_TIFF_TAGS)):
        tag, _kind, _count, value = struct.unpack(order + "HHII", file.read(12))
        tags[tag] = value
    return tags


def _transport_stream(head: bytes) -> str | None:
    for first, packet_bytes in ((0, _TS_PACKET_BYTES), (4, _M2TS_PACKET_BYTES)):
        syncs = head[first::packet_bytes][:5]
        if len(syncs) >= _TS_SYNCS and set(syncs) == {ord("G")}:
            return "video/mp2t"
    return None


def _bmp(head: bytes) -> str | None:
    """BMP: two letters are too little to go by, so the header's own size must fit too."""
    return "image/bmp" if head[:2] == b"BM" and head[14:18] in _BMP_HEADER_SIZES else None


def _text(head: bytes) -> str | None:
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16" if wide else "utf-8")()
    try:
        # The sample may end within a character, so it is not the final piece.
        text = decoder.decode(head, final=False)
    except UnicodeDecodeError:
        return None
    if any(character < " " and character not in "\t\n\r\f\x1b" for character in text):
        return None
    guess = _guess(head)
    return guess if guess and (guess.startswith("text/") or guess in _TEXT_TYPES) else "text/plain"


def _other(head: bytes) -> str:
    guess = _guess(head)
    # What is told apart above, text included, would have been recognised there.
    if guess is None or guess in _OWN_TYPES or guess.startswith("text/"):
        return UNKNOWN
    return guess


def _guess(head: bytes) -> str | None:
    try:
        return puremagic.from_string(head, mime=True) or None
    except (puremagic.PureError, ValueError):
        return None
