"""Videos that are not as ordinary ones: each comes out as a right stream of its length."""

import av
import pytest

from deployments.runtime.types import Media
from tests.deployments.hls_streaming.studio import Studio, frames

TWO = "96:200,64:100"
HLG = "colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc:log-level=none"
PQ = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log-level=none"


@pytest.mark.parametrize(
    ("name", "sound", "options", "expected_s"),
    [
        ("one_frame.mp4", False, "-frames:v 1", 0.04),
        ("one_frame_with_sound.mp4", True, "-t 0.04", 0.04),
        ("slides.mp4", False, "-vf fps=1/3 -t 12", 12),
        ("fast.mp4", False, "-t 1 -r 240", 1),
        ("transport.ts", True, "-t 2.5 -output_ts_offset 500", 2.5),
        ("program.mpg", True, "-t 2.5 -c:v mpeg2video -c:a mp2", 2.5),
        ("camera.avi", True, "-t 2.5 -c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16le", 2.5),
        ("lossless.mkv", False, "-t 1 -c:v ffv1 -pix_fmt bgr0", 1),
        ("theatre.flv", True, "-t 2.5 -c:v flv -c:a aac", 2.5),
        ("odd.mkv", False, "-t 1 -vf scale=161:121 -pix_fmt yuv444p", 1),
        ("flat.mkv", False, "-t 1 -vf scale=400:10 -pix_fmt yuv444p", 1),
        ("interlaced.mkv", False, "-t 1 -c:v ffv1 -vf setfield=tff", 1),
        ("surround.mkv", True, "-t 1.5 -ac 6 -c:a ac3", 1.5),
        ("low_sound.mkv", True, "-t 1.5 -ar 8000 -c:a pcm_s16le", 1.5),
        ("no_key_frames.mp4", True, "-t 2.5 -g 1000 -bf 3", 2.5),
    ],
)
def test_odd_video(
    studio: Studio,
    name: str,
    sound: bool,  # noqa: FBT001 - a column of the table
    options: str,
    expected_s: float,
) -> None:
    """Whatever the container and the codecs, both variants are right and of the whole length."""
    media = studio.film(name, *options.split(), sound=sound)
    result = studio.checked(media, variants=TWO, segment_s=1)
    assert pytest.approx(expected_s, abs=0.1) == result.duration_s
    assert sound == result.variants[0].codecs.endswith(",mp4a.40.2")
    for variant in result.variants:
        frame = frames(studio.folder(result), variant.name)[0]
        assert ("yuv420p", False) == (frame.format.name, frame.interlaced_frame)
        assert 22.99 < variant.frame_rate < 60.01


def test_pixels_that_are_no_squares(studio: Studio) -> None:
    """The stream has square ones, and the shape that a player shows the film in."""
    media = studio.film("anamorphic.mp4", "-t", "1", "-vf", "setsar=4/3")
    result = studio.checked(media, variants="96:200")
    [variant] = result.variants
    assert (170, 96) == (variant.width, variant.height)  # of 160 x 120, shown as 213 x 120
    path = studio.root / "joined.mp4"
    parts = ("96p_200k_init.mp4", "96p_200k_00000.m4s")
    path.write_bytes(b"".join((studio.folder(result) / part).read_bytes() for part in parts))
    with av.open(str(path)) as opened:
        assert opened.streams.video[0].sample_aspect_ratio == 1


def test_no_duration_in_header(studio: Studio) -> None:
    """A recording of a browser does not say how long it is."""
    options = [
        "-t",
        "2.5",
        "-c:v",
        "libvpx",
        "-deadline",
        "realtime",
        "-c:a",
        "libopus",
        "-live",
        "1",
        "-f",
        "webm",
    ]
    media = studio.film("recorded.webm", *options, sound=True)
    result = studio.checked(media, variants=TWO, segment_s=1)
    assert pytest.approx(2.5, abs=0.1) == result.duration_s
    assert [3, 3] == [variant.segments for variant in result.variants]


def test_variable_frame_rate(studio: Studio) -> None:
    """A picture after a pause that is longer than segments is shown when it is due."""
    light = "drawbox=color=white:t=fill:enable='gte(n,10)'"
    at = "setpts='if(lt(N,10),N,N+90)/25/TB'"
    options = ["-frames:v", "30", "-vf", f"{light},{at}", "-fps_mode", "passthrough"]
    media = studio.film("variable.mkv", *options)
    result = studio.checked(media, variants=TWO, segment_s=1)
    folder = studio.folder(result)
    for variant in result.variants:
        shown = [
            (float(frame.time or 0), frame.to_ndarray(format="gray").mean())
            for segment in range(variant.segments)
            for frame in frames(folder, variant.name, segment)
        ]
        light_s = next(time_s for time_s, brightness in shown if brightness > 200)
        assert pytest.approx(4.0, abs=0.04) == light_s - shown[0][0]
        assert pytest.approx(120 / 25, abs=0.05) == result.duration_s


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        ("1/3", 23),
        ("1", 23),
        ("15", 30),
        ("24000/1001", 23.976),
        ("30", 30),
        ("60", 60),
        ("240", 60),
    ],
)
def test_frame_rate(studio: Studio, fps: str, expected: float) -> None:
    """A usual rate is kept, a high one is cut, and a low one is multiplied."""
    options = ["-frames:v", "4", "-c:v", "ffv1"]
    media = studio.film("film.mkv", *options, picture=f"testsrc2=s=160x120:r={fps}")
    [variant] = studio.checked(media, variants="96:200").variants
    assert pytest.approx(expected, abs=0.01) == variant.frame_rate


def test_negative_start(studio: Studio) -> None:
    """A film cut before a key frame hides its first pictures; the stream begins where it does."""
    studio.film("film.mp4", "-t", "4", "-g", "50", sound=True)
    cut = ["-ss", "1.5", "-i", "film.mp4", "-c", "copy", "-avoid_negative_ts", "disabled"]
    media = studio.ffmpeg("cut.mp4", *cut)
    result = studio.checked(media, variants=TWO, segment_s=1, include_original=True)
    assert result.include_original
    assert pytest.approx(2.5, abs=0.1) == result.duration_s


def test_sound_longer_than_picture(studio: Studio) -> None:
    """The last segment lasts as long as the sound in it."""
    studio.film("film.mp4", "-t", "1.5")
    both = ["-i", "film.mp4", "-f", "lavfi", "-i", "sine=duration=3.5", "-c:v", "copy"]
    media = studio.ffmpeg("both.mp4", *both)
    result = studio.checked(media, variants=TWO, segment_s=1)
    assert pytest.approx(3.5, abs=0.1) == result.duration_s


def test_several_sound_tracks(studio: Studio) -> None:
    """The default track is taken, and only that."""
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=25"]
    for hertz in (220, 440):
        inputs += ["-f", "lavfi", "-i", f"sine=frequency={hertz}"]
    tracks = ["-map", "0", "-map", "1", "-map", "2", "-t", "1"]
    media = studio.ffmpeg("tracks.mkv", *inputs, *tracks)
    result = studio.checked(media, variants=TWO)
    assert result.variants[0].codecs.count("mp4a") == 1


def test_unknown_sound(studio: Studio) -> None:
    """Sound of a codec that is not known is left out with a note."""
    media = studio.film("film.mp4", "-t", "1", sound=True)
    # Its name in the table of codecs, and that in the description of its stream.
    data = media.data.replace(b"mp4a", b"xxxx").replace(b"esds", b"xxxx")
    strange = Media(data, "film.mp4")
    result = studio.checked(strange, variants=TWO)
    assert ("the sound is left out: its codec is not known here",) == result.notes
    assert "mp4a" not in result.variants[0].codecs


@pytest.mark.parametrize("curve", [HLG, PQ])
def test_high_dynamic_range(studio: Studio, curve: str) -> None:
    """Ten-bit pictures of a wide range become eight-bit ones in the colours of ordinary screens."""
    options = ["-t", "0.4", "-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-preset", "ultrafast"]
    # Without colours: screens differ in what they make of those that BT.709 does not have.
    media = studio.film("phone.mp4", "-vf", "hue=s=0", *options, "-x265-params", curve)
    result = studio.checked(media, variants="96:2000")
    frame = frames(studio.folder(result), "96p_2000k")[0]
    assert "yuv420p" == frame.format.name
    assert (1, 1) == (frame.color_trc, frame.color_primaries)  # BT.709, ITU-T H.273
    grey = frame.to_image().convert("L")
    shown = studio.upright(media).convert("L").resize(grey.size)
    brightness = [sum(image.tobytes()) / len(image.tobytes()) for image in (grey, shown)]
    assert pytest.approx(brightness[1], abs=15) == brightness[0]
