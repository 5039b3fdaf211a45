"""Media types from content and from names."""

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deployments.runtime.media_type import (
    EMPTY,
    UNKNOWN,
    MediaType,
    detect,
    extension_of,
    mime_of_name,
)
from deployments.runtime.random_media import ImageGenerator, VideoGenerator
from deployments.runtime.random_media.videos import Container


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    """Begin an ISO base media file with its brands."""
    body = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 4 + len(body)) + body + b"\x00\x00\x00\x08free"


def tiff(order: str, tags: dict[int, int], tail: bytes = b"", offset: int = 8) -> bytes:
    """A TIFF with one directory of numbers; ``tail`` follows at byte 200."""
    mark = b"II*\x00" if order == "<" else b"MM\x00*"
    directory = struct.pack(order + "H", len(tags))
    for tag, value in tags.items():
        directory += struct.pack(order + "HHII", tag, 4, 1, value)
    start = mark + struct.pack(order + "I", offset)
    return (start.ljust(offset, b"\x00") + directory).ljust(200, b"\x00") + tail


def packets(packet_bytes: int, first: int) -> bytes:
    """Make six packets whose sync byte is at ``first``."""
    return (bytes(first) + b"G").ljust(packet_bytes, b"\xa5") * 6


RAW_TAGS = {254: 1, 271: 200, 330: 220}

CASES: list[tuple[str, bytes, str, str]] = [
    ("nothing", b"", EMPTY, "other"),
    ("one byte", b"\xff", UNKNOWN, "other"),
    ("noise", bytes(range(255, -1, -1)), UNKNOWN, "other"),
    ("heic", ftyp(b"heic", b"mif1", b"heic"), "image/heic", "image"),
    ("heic, general brand", ftyp(b"mif1", b"mif1", b"heix"), "image/heic", "image"),
    ("heif of another codec", ftyp(b"mif1", b"mif1", b"jpeg"), "image/heif", "image"),
    ("avif", ftyp(b"avif", b"mif1"), "image/avif", "image"),
    ("avif, general brand", ftyp(b"mif1", b"miaf", b"avif"), "image/avif", "image"),
    ("animated avif", ftyp(b"avis"), "image/avif", "image"),
    ("cr3", ftyp(b"crx ", b"isom"), "image/x-canon-cr3", "image"),
    ("mp4", ftyp(b"isom", b"avc1"), "video/mp4", "video"),
    ("mp4 of an unknown brand", ftyp(b"zzzz"), "video/mp4", "video"),
    ("mov", ftyp(b"qt  "), "video/quicktime", "video"),
    ("old mov", b"\x00\x00\x10\x00moov\x00\x00\x00\x6cmvhd", "video/quicktime", "video"),
    ("3gp", ftyp(b"3gp5"), "video/3gpp", "video"),
    ("3g2", ftyp(b"3g2a"), "video/3gpp2", "video"),
    ("m4a", ftyp(b"M4A "), "audio/mp4", "audio"),
    ("mkv", b"\x1aE\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska", "video/x-matroska", "video"),
    ("webm", b"\x1aE\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm", "video"),
    ("avi", b"RIFF\x00\x10\x00\x00AVI LIST", "video/x-msvideo", "video"),
    ("ts", packets(188, 0), "video/mp2t", "video"),
    ("m2ts", packets(192, 4), "video/mp2t", "video"),
    ("flv", b"FLV\x01\x05\x00\x00\x00\x09", "video/x-flv", "video"),
    ("mpeg", b"\x00\x00\x01\xba\x44", "video/mpeg", "video"),
    ("ogv", b"OggS\x00\x02" + bytes(22) + b"\x80theora", "video/ogg", "video"),
    ("ogg", b"OggS\x00\x02" + bytes(22) + b"\x01vorbis", "audio/ogg", "audio"),
    ("wav", b"RIFF\x00\x10\x00\x00WAVEfmt ", "audio/x-wav", "audio"),
    ("aiff", b"FORM\x00\x00\x10\x00AIFFCOMM", "audio/x-aiff", "audio"),
    ("mp3 with tags", b"ID3\x04\x00\x00\x00\x00\x00\x22TSSE", "audio/mpeg", "audio"),
    ("mp3", b"\xff\xfb\x90\x64\x00", "audio/mpeg", "audio"),
    ("aac", b"\xff\xf1\x50\x40\x20", "audio/aac", "audio"),
    ("flac", b"fLaC\x00\x00\x00\x22", "audio/flac", "audio"),
    ("unknown riff", b"RIFF\x00\x10\x00\x00zzzz\x00\xff", UNKNOWN, "other"),
    ("tiff", tiff("<", {256: 1}), "image/tiff", "image"),
    ("tiff, big-endian", tiff(">", {256: 1}), "image/tiff", "image"),
    ("bigtiff", b"II+\x00\x08\x00\x00\x00", "image/tiff", "image"),
    ("tiff, cut off", b"II*\x00\x08", "image/tiff", "image"),
    ("tiff, directory beyond the end", b"II*\x00\xff\xff\xff\xff", "image/tiff", "image"),
    ("cr2", b"II*\x00\x10\x00\x00\x00CR\x02\x00", "image/x-canon-cr2", "image"),
    ("dng", tiff("<", {254: 1, 50706: 1025}), "image/x-adobe-dng", "image"),
    ("dng, directory far on", tiff(">", {50706: 1}, offset=9000), "image/x-adobe-dng", "image"),
    ("nef", tiff(">", RAW_TAGS, b"NIKON CORPORATION"), "image/x-nikon-nef", "image"),
    ("arw", tiff("<", RAW_TAGS, b"SONY\x00"), "image/x-sony-arw", "image"),
    ("tiff of a camera", tiff("<", {254: 0, 271: 200}, b"NIKON"), "image/tiff", "image"),
    ("raw of another maker", tiff("<", RAW_TAGS, b"ACME"), "image/tiff", "image"),
    ("raf", b"FUJIFILMCCD-RAW 0201", "image/x-fuji-raf", "image"),
    ("rw2", b"IIU\x00\x18", "image/x-panasonic-rw2", "image"),
    ("orf", b"IIRO\x08", "image/x-olympus-orf", "image"),
    ("pdf", b"%PDF-1.4\n%\xe2\xe3", "application/pdf", "other"),
    ("zip", b"PK\x03\x04\x14\x00", "application/zip", "other"),
    ("text", b"Dear diary", "text/plain", "text"),
    ("text that starts like a bmp", b"BMW is a maker of cars.", "text/plain", "text"),
    ("text with accents", "h\u00e9llo w\u00f6rld".encode(), "text/plain", "text"),
    ("text cut within a letter", b"a" + "\u00e9".encode() * 4096, "text/plain", "text"),
    ("utf-16", "hello".encode("utf-16"), "text/plain", "text"),
    ("text with two sync bytes", b"G" + b"o" * 187 + b"Good", "text/plain", "text"),
    ("html", b"<!doctype html><html></html>", "text/html", "text"),
]


@pytest.mark.parametrize(
    ("data", "mime", "kind"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_content(data: bytes, mime: str, kind: str, tmp_path: Path) -> None:
    """Content is named by what it begins as, from memory and from a file alike."""
    path = tmp_path / "misleading.jpg"
    path.write_bytes(data)
    assert (mime, kind) == (detect(data).mime, detect(data).kind)
    assert detect(data) == detect(path)


@pytest.mark.parametrize(
    ("image_format", "mime"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("HEIF", "image/heic"),
        ("AVIF", "image/avif"),
    ],
)
def test_encoded_images(image_format: str, mime: str) -> None:
    """What encoders write is recognised."""
    data = ImageGenerator((16, 16), format=image_format).encode()
    assert MediaType(mime, "image") == detect(data)


def test_old_bmp() -> None:
    """A BMP of the OS/2 kind, with its short header, is recognised."""
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "BMP")
    data = bytearray(buffer.getvalue())
    data[14] = 12
    assert "image/bmp" == detect(bytes(data)).mime


@pytest.mark.parametrize(
    ("container", "mime"),
    [("mp4", "video/mp4"), ("mov", "video/quicktime"), ("webm", "video/webm")],
)
def test_encoded_videos(container: Container, mime: str) -> None:
    """What FFmpeg writes is recognised."""
    data = VideoGenerator(container, size=(32, 32), duration_s=0.2).encode()
    assert MediaType(mime, "video") == detect(data)


@given(
    st.sampled_from([case[1][:12] for case in CASES]),
    st.binary(max_size=600),
)
def test_any_content_has_a_type(start: bytes, rest: bytes) -> None:
    """No content makes detection fail, and the kind always follows from the type."""
    found = detect(start + rest)
    assert "/" in found.mime
    assert found.kind in {found.mime.partition("/")[0], "other"}


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is the caller's error, not a type."""
    with pytest.raises(FileNotFoundError):
        detect(tmp_path / "none")


@pytest.mark.parametrize(
    ("mime", "extension"),
    [
        ("image/jpeg", ".jpg"),
        ("image/png", ".png"),
        ("image/webp", ".webp"),
        ("image/heic", ".heic"),
        ("image/heif", ".heif"),
        ("image/avif", ".avif"),
        ("image/x-adobe-dng", ".dng"),
        ("video/mp4", ".mp4"),
        ("video/quicktime", ".mov"),
        ("video/x-matroska", ".mkv"),
        ("video/webm", ".webm"),
        ("video/mp2t", ".ts"),
        ("video/3gpp", ".3gp"),
    ],
)
def test_extensions(mime: str, extension: str) -> None:
    """A type and its usual extension lead to each other, in any case."""
    assert extension == extension_of(mime)
    assert mime == mime_of_name("photo" + extension) == mime_of_name("PHOTO" + extension.upper())


def test_unknown_names() -> None:
    """What no table has is None, both ways."""
    assert extension_of("image/x-nobody-knows") is None
    assert mime_of_name("photo") is None
    assert mime_of_name("photo.zzzz") is None
