"""Streams of ordinary videos: sizes, playlists, the original, folders, progress."""

import itertools

import pytest
from pydantic import TypeAdapter

from deployments.hls_streaming import HlsStream, HlsStreamingParams, validate
from deployments.hls_streaming.algo.playlists import read_master, read_media
from deployments.runtime.capability import NodeSettings
from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.task import Task, running
from tests.deployments.hls_streaming.studio import QuickHlsStreaming, Studio, frames, frames_of

FILM = VideoGenerator(size=(320, 240), duration_s=2.5, with_audio=True)


def test_stream(studio: Studio) -> None:
    """The result says what the playlists say, and the playlists what the files hold."""
    result = studio.checked(FILM.media(), variants="240:800,120:300", segment_s=1)
    folder = studio.folder(result)
    assert f"outputs/{result.output_id}/adaptive.m3u8" == result.master_playlist
    assert [("120p_300k", 160, 120), ("240p_800k", 320, 240)] == [
        (variant.name, variant.width, variant.height) for variant in result.variants
    ]
    assert (2, 6, False, ()) == (
        result.variants_generated,
        result.total_segments,
        result.include_original,
        result.notes,
    )
    assert pytest.approx(2.5, abs=0.03) == result.duration_s
    stated = read_master((folder / "adaptive.m3u8").read_text())
    assert [
        (one.playlist, one.peak_bit_rate, one.average_bit_rate, one.codecs, one.frame_rate)
        for one in result.variants
    ] == [
        (one.playlist, one.peak_bit_rate, one.average_bit_rate, one.codecs, one.frame_rate)
        for one in stated
    ]
    playlist = read_media((folder / "120p_300k.m3u8").read_text())
    assert [1.0, 1.0] == [length_s for _, length_s in playlist.segments[:2]]
    assert 1 == playlist.target_duration_s


def test_result_is_plain_data(studio: Studio) -> None:
    """A result survives JSON."""
    result = studio.run(FILM.media(), variants="120:300")
    adapter = TypeAdapter(HlsStream)
    assert result == adapter.validate_json(adapter.dump_json(result))


def test_sample(studio: Studio) -> None:
    """The sample works, with default parameters: it is smaller than all, so its size is kept."""
    capability = studio.capability
    [result] = capability.run_batch([(capability.sample(), HlsStreamingParams())])
    assert [(64, 48)] == [(variant.width, variant.height) for variant in result.variants]
    assert [
        "720p is left out: the video's shorter side has 48 pixels",
        "480p is left out: the video's shorter side has 48 pixels",
        "240p is left out: the video's shorter side has 48 pixels",
    ] == list(result.notes)


def test_same_bytes_twice(studio: Studio) -> None:
    """One video gives one stream, however often."""
    media = FILM.media()
    folders = [studio.folder(studio.run(media, variants="120:300")) for _ in range(2)]
    first, second = ({path.name: path.read_bytes() for path in one.iterdir()} for one in folders)
    assert first == second


@pytest.mark.parametrize("rotation_degrees", [0, 90, 180, 270])
def test_rotation(studio: Studio, rotation_degrees: int) -> None:
    """Pictures come out upright, as ``Video`` shows them, and nothing says to turn them again."""
    film = VideoGenerator(size=(160, 96), duration_s=0.4, rotation_degrees=rotation_degrees)
    media = film.media()
    result = studio.checked(media, variants="96:5000")
    [variant] = result.variants
    assert ((96, 160) if rotation_degrees % 180 else (160, 96)) == (variant.width, variant.height)
    frame = frames(studio.folder(result), variant.name)[0]
    assert 0 == frame.rotation
    expected = studio.upright(media).convert("L").resize((16, 16))
    actual = frame.to_image().convert("L").resize((16, 16))
    pairs = zip(expected.tobytes(), actual.tobytes(), strict=True)
    assert max(abs(one - other) for one, other in pairs) < 30


def test_key_frames_are_aligned(studio: Studio) -> None:
    """Every variant has key frames where segments begin, at the same times, and no others."""
    film = VideoGenerator(size=(320, 240), duration_s=3, scenes=4)  # cuts are no reason for one
    result = studio.checked(film.media(), variants="240:800,120:300,96:200", segment_s=1)
    folder = studio.folder(result)
    keys = [
        [
            float(frame.time or 0)
            for segment in range(3)
            for frame in frames(folder, variant.name, segment)
            if frame.key_frame
        ]
        for variant in result.variants
    ]
    assert [[1.0, 2.0, 3.0]] * 3 == keys


@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("film.mp4", False),
        ("film.mp4", True),
        ("film.mov", True),
        ("film.mkv", True),
        ("film.ts", True),
        ("film.flv", True),
    ],
)
def test_original(studio: Studio, name: str, *, sound: bool) -> None:
    """H.264 from any container is offered as it is, each picture the same."""
    media = studio.film(name, "-t", "3", "-c:v", "libx264", "-c:a", "aac", "-g", "25", sound=sound)
    result = studio.checked(media, variants="96:200", segment_s=1, include_original=True)
    [original] = [variant for variant in result.variants if variant.name == "original"]
    assert (True, ()) == (result.include_original, result.notes)
    assert (160, 120, 3) == (original.width, original.height, original.segments)
    assert sound == original.codecs.endswith(",mp4a.40.2")
    path = studio.root / name
    expected = [frame.to_ndarray() for frame in itertools.islice(frames_of(path), 25)]
    actual = [frame.to_ndarray() for frame in frames(studio.folder(result), "original")]
    assert all((one == other).all() for one, other in zip(expected, actual, strict=True))


def test_original_with_few_key_frames(studio: Studio) -> None:
    """Its segments are as long as they must be, and its target duration says so."""
    media = studio.film("film.mp4", "-t", "5", "-g", "1000")
    result = studio.checked(media, variants="96:200", segment_s=1, include_original=True)
    folder = studio.folder(result)
    targets = {
        variant.name: read_media((folder / variant.playlist).read_text()).target_duration_s
        for variant in result.variants
    }
    assert {"96p_200k": 1, "original": 5} == targets


def test_original_with_other_sound(studio: Studio) -> None:
    """Sound that browsers don't play is encoded, and the picture is kept as it is."""
    media = studio.film("film.mov", "-t", "1", "-c:v", "libx264", "-c:a", "pcm_s16le", sound=True)
    result = studio.checked(media, variants="96:200", include_original=True)
    assert result.include_original
    assert all(variant.codecs.endswith(",mp4a.40.2") for variant in result.variants)


@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("film.webm", "-c:v libvpx -deadline realtime", "its codec is vp8"),
        ("film.mp4", "-c:v libx264 -pix_fmt yuv444p", "its pixels are yuv444p"),
        ("film.mp4", "-c:v libx264 -pix_fmt yuv420p10le", "its pixels are yuv420p10le"),
        ("film.avi", "-c:v libx264", "AVI files have no times"),
    ],
)
def test_original_left_out(studio: Studio, name: str, options: str, note: str) -> None:
    """What browsers would not play is left out with a reason, and the rest is there."""
    media = studio.film(name, "-t", "1", *options.split())
    result = studio.checked(media, variants="96:200", include_original=True)
    assert ["96p_200k"] == [variant.name for variant in result.variants]
    assert not result.include_original
    assert [f"the original is left out: {note}"] == [
        text[: len(note) + 26] for text in result.notes
    ]


def test_turned_original_left_out(studio: Studio) -> None:
    """A film that is stored lying on its side is left out: some players show it so."""
    media = VideoGenerator(size=(64, 48), duration_s=0.2, rotation_degrees=270).media()
    result = studio.checked(media, variants="48:200", include_original=True)
    assert (
        "the original is left out: it is stored turned by 270 degrees, which players ignore",
    ) == (result.notes)


def test_original_that_can_not_be_segmented(
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When FFmpeg fails to copy, the original is left out, and nothing of it is left."""
    monkeypatch.setattr(
        "deployments.hls_streaming.algo.command.copy",
        lambda source, _segment_s: ["-i", source.path, "-c:v", "copy", "-f", "none", "x"],
    )
    result = studio.checked(FILM.media(), variants="96:200", include_original=True)
    assert ["96p_200k"] == [variant.name for variant in result.variants]
    assert "FFmpeg failed" in result.notes[0]
    assert [] == list(studio.folder(result).glob("original*"))


def test_discard(studio: Studio) -> None:
    """A stream that nobody wants any more can be removed, twice too; a named folder stays."""
    kept = studio.run(FILM.media(), variants="96:200")
    named = studio.writable / "film"
    for result in (kept, kept, studio.run(FILM.media(), output_folder=str(named))):
        studio.capability.discard(result)
    assert not studio.folder(kept).exists()
    assert [] == validate(named)


def test_output_folder(studio: Studio) -> None:
    """A request may name the folder, new or empty; its parents are made."""
    for place in (studio.writable / "a" / "film 100%d", studio.writable / "empty"):
        if place.name == "empty":
            place.mkdir()
        result = studio.run(FILM.media(), variants="96:200", output_folder=str(place))
        assert (None, f"{place}/adaptive.m3u8") == (result.output_id, result.master_playlist)
        assert [] == validate(place)
        assert [place] == [path for path in place.parent.iterdir() if path.name != "a"]


def test_folder_of_a_dead_process(studio: Studio) -> None:
    """What a process that died left behind is replaced by the next request."""
    left = studio.writable / ".film.unfinished"
    left.mkdir()
    (left / "0.m4s").write_bytes(b"half")
    place = studio.writable / "film"
    studio.run(FILM.media(), variants="96:200", output_folder=str(place))
    assert not left.exists()
    assert not (place / "0.m4s").exists()


def test_progress(studio: Studio) -> None:
    """Progress goes up, to the end."""
    told: list[float] = []
    media = studio.film("film.mp4", "-t", "20")
    with running(Task(told.append)):
        studio.run(media, variants="96:200")
    assert told
    assert sorted(told) == told
    assert pytest.approx(100, abs=10) == told[-1]


def test_metadata_is_left_out(studio: Studio) -> None:
    """Where and by whom a film was made is not in the stream."""
    tags = ["-metadata", "location=+48.1374+011.5755/", "-metadata", "artist=Somebody"]
    media = studio.film("film.mp4", "-t", "1", "-movflags", "use_metadata_tags", *tags)
    assert b"Somebody" in media.data
    result = studio.run(media, variants="96:200", include_original=True)
    for path in studio.folder(result).iterdir():
        assert b"Somebody" not in path.read_bytes()
        assert b"+48.1374" not in path.read_bytes()


def test_no_store(studio: Studio) -> None:
    """A node that keeps no outputs asks for a folder."""
    capability = QuickHlsStreaming(NodeSettings(store=studio.capability.settings.store))
    studio.capability = capability
    assert "expected one, since this node keeps no outputs" in str(studio.failure(FILM.media()))
