"""The HLS capability: FFmpeg does the work, and what it wrote is checked before anybody sees it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from deployments.hls_streaming.algo import command
from deployments.hls_streaming.algo.folder import new_folder
from deployments.hls_streaming.algo.ladder import ladder
from deployments.hls_streaming.algo.playlists import (
    MASTER,
    ORIGINAL,
    average_bit_rate,
    peak_bit_rate,
    write_master,
    write_media,
)
from deployments.hls_streaming.algo.segments import Rendition, measure
from deployments.hls_streaming.algo.source import Source, look_at
from deployments.hls_streaming.algo.validation import validate
from deployments.hls_streaming.schema import HlsStream, HlsStreamingParams, HlsVariant
from deployments.runtime.asset import Asset
from deployments.runtime.capability import Capability, NodeSettings, Work
from deployments.runtime.errors import (
    CorruptMediaError,
    InvalidParameterError,
    PathNotFoundError,
    ToolFailedError,
)
from deployments.runtime.ffmpeg import RunLimits, ffmpeg_exe, run_ffmpeg
from deployments.runtime.folders import DEFAULT_MAX_BYTES
from deployments.runtime.random_media import VideoGenerator
from deployments.runtime.video import Video

_ESTIMATED = frozenset({"mpegts", "mpeg", "ogg"})  # no header says how long they are
_MAX_MISSING_S = 1.0  # of a file that is whole: tracks of other kinds may last a little longer


class HlsStreaming(Capability[HlsStreamingParams, HlsStream]):
    """Turns a video into playlists and segments that any browser plays over plain HTTP."""

    name = "hls_streaming"
    summary = "A video as an HLS stream of several qualities, to be played while it loads."
    inputs = (Video,)
    params = HlsStreamingParams
    result = HlsStream
    own_threads = 2
    """One FFmpeg keeps the cores busy. A second one lets a clip pass a film that takes an hour;
    more would take memory only, 240 MB each, and 300 MB for a film in 4K."""

    limits: ClassVar[RunLimits] = RunLimits(time_s=6 * 3600.0, max_bytes=DEFAULT_MAX_BYTES)
    """For one request: a film of two hours at a third of its speed, as a small machine does it,
    and as many bytes as all outputs together may have."""
    preset: ClassVar[str] = command.PRESET

    def __init__(self, settings: NodeSettings) -> None:
        """Keep the settings."""
        super().__init__(settings)
        self._sample: Asset | None = None

    def load(self) -> None:
        """Make the self-test's video.

        Raises:
            ToolNotInstalledError: there is no FFmpeg.
            ToolFailedError: it can't encode H.264, as that of some distributions.

        """
        ffmpeg_exe()
        self.close()
        try:
            self._sample = Asset(VideoGenerator(size=(64, 48), duration_s=0.5).media())
        except RuntimeError as error:
            raise ToolFailedError(str(error)) from error

    def close(self) -> None:
        """Let go of the self-test's video."""
        if self._sample is not None:
            self._sample.close()
        self._sample = None

    def prepare(self, inputs: tuple[Video], params: HlsStreamingParams) -> Work:
        """Encode, check and publish the stream; there is nothing to infer.

        Raises:
            ForbiddenPathError: the output folder is not below a folder that may be written.
            InvalidParameterError: the output folder can't be used.
            CorruptMediaError: the video is cut off, or most of it can't be decoded.
            TooLargeError: the stream has more bytes than it may.
            ToolError: FFmpeg is missing, failed, was killed, or wrote what is not right.
            DeadlineExceededError: it took too long.
            NodeUnavailableError: the disk is full.
            StorageFullError: so are the files of jobs.
            CancelledRequestError: nobody waits any more.

        """
        (video,) = inputs
        with self._folder(params) as (folder, output_id, place):
            return Work((), self._stream(video, params, folder, (output_id, place)))

    def finish(self, work: Work, parts: Sequence[None]) -> HlsStream:  # noqa: ARG002 - there are none
        """Return what ``prepare`` made."""
        return work.state

    def sample(self) -> tuple[Video]:
        """Return a video of half a second, which lives as long as this capability."""
        assert self._sample is not None, "made by load"  # noqa: S101 - narrows the type
        return (self._sample.video,)

    def discard(self, result: HlsStream) -> None:
        """Remove a stream from the outputs, unless that has happened already."""
        if result.output_id is not None and self.settings.outputs is not None:
            with suppress(PathNotFoundError):
                self.settings.outputs.remove(result.output_id)

    def _limits(self, params: HlsStreamingParams) -> RunLimits:
        """What one request may take; the store would remove what is too large for it at once."""
        outputs = self.settings.outputs
        if outputs is None or outputs.destination or params.output_folder is not None:
            return self.limits
        return replace(self.limits, max_bytes=min(self.limits.max_bytes, outputs.max_bytes))

    @contextmanager
    def _folder(self, params: HlsStreamingParams) -> Iterator[tuple[Path, str | None, str]]:
        """Give an empty folder, its id in the store, and what precedes names of files in it."""
        if params.output_folder is not None:
            place = self.settings.files.to_write(params.output_folder)
            with new_folder(place) as folder:
                yield folder, None, f"{place}/"
        elif self.settings.outputs is not None:
            with self.settings.outputs.new() as output:
                place = f"outputs/{output.output_id}/" if output.output_id else ""
                yield output.path, output.output_id, place
        else:
            raise InvalidParameterError(
                "output_folder: expected one, since this node keeps no outputs",
            )

    def _stream(
        self,
        video: Video,
        params: HlsStreamingParams,
        folder: Path,
        published: tuple[str | None, str],
    ) -> HlsStream:
        source, info = look_at(video), video.info
        rungs = ladder(
            info.width,
            info.height,
            [(variant.resolution, variant.bitrate) for variant in params.variants],
        )
        found: dict[str, Rendition] = {}
        notes = _left_out(params, min(info.width, info.height))
        if source.has_unknown_sound:
            notes.append("the sound is left out: its codec is not known here")
        if params.include_original:
            try:
                found[ORIGINAL] = self._copied(source, params, folder)
            except _NotCopiedError as error:
                notes.append(f"the original is left out: {error}")
        how = command.Encoding(params.segment_s, self.preset, self.settings.num_threads)
        arguments = command.encode(source, rungs, how)
        run_ffmpeg(arguments, folder, self._limits(params), duration_s=info.duration_s)
        for rung in rungs:
            found[rung.name] = _written(folder, rung.name)
        length_s = sum(found[rungs[0].name].durations_s)
        if info.demuxer not in _ESTIMATED and length_s < info.duration_s - _MAX_MISSING_S:
            raise CorruptMediaError(
                f"{video.name} is cut off or broken: it says that it lasts "
                f"{info.duration_s:.1f} s, and {length_s:.1f} s of it can be decoded",
            )
        variants = _publish(folder, found)
        output_id, place = published
        return HlsStream(
            output_id=output_id,
            master_playlist=f"{place}{MASTER}",
            variants=variants,
            variants_generated=len(variants),
            total_segments=sum(variant.segments for variant in variants),
            duration_s=length_s,
            include_original=ORIGINAL in found,
            notes=tuple(notes),
        )

    def _copied(self, source: Source, params: HlsStreamingParams, folder: Path) -> Rendition:
        """Segment the video as it is: a run of its own, since it may fail where encoding won't."""
        if source.not_copied_because:
            raise _NotCopiedError(source.not_copied_because)
        try:
            run_ffmpeg(command.copy(source, params.segment_s), folder, self._limits(params))
            written = _written(folder, ORIGINAL)
            _publish(folder, {ORIGINAL: written})
        except ToolFailedError as error:
            for path in folder.iterdir():
                path.unlink()
            raise _NotCopiedError(str(error)) from error
        return written


class _NotCopiedError(Exception):
    """Why the original can't be offered."""


def _left_out(params: HlsStreamingParams, short_side_px: int) -> list[str]:
    larger = [
        variant.resolution for variant in params.variants if variant.resolution > short_side_px
    ]
    return [
        f"{side}p is left out: the video's shorter side has {short_side_px} pixels"
        for side in sorted(larger, reverse=True)
    ]


def _written(folder: Path, name: str) -> Rendition:
    """Read back a variant, and write its playlist from what is there.

    FFmpeg's own takes the picture's length for the whole, also where sound goes on after it, and
    has a target duration of 0 for less than half a second.
    """
    init = f"{name}_init.mp4"
    try:
        names = sorted(path.name for path in folder.glob(f"{name}_*.m4s"))
        written = measure(folder, init, names)
    except ValueError as error:
        raise ToolFailedError(f"FFmpeg wrote no right stream: {name}: {error}") from error
    playlist = write_media(init, list(zip(names, written.durations_s, strict=True)))
    (folder / f"{name}.m3u8").write_text(playlist)
    return written


def _publish(folder: Path, found: dict[str, Rendition]) -> tuple[HlsVariant, ...]:
    """Write the master playlist, check all, and describe the variants.

    Raises:
        ToolFailedError: the stream is not right.

    """
    variants = sorted(
        (
            HlsVariant(
                name=name,
                width=written.width,
                height=written.height,
                frame_rate=written.frame_rate,
                peak_bit_rate=peak_bit_rate(written.sizes),
                average_bit_rate=average_bit_rate(written.sizes),
                codecs=written.codecs,
                playlist=f"{name}.m3u8",
                segments=len(written.segments),
            )
            for name, written in found.items()
        ),
        key=lambda variant: variant.peak_bit_rate,
    )
    (folder / MASTER).write_text(write_master(variants))
    problems = validate(folder)
    if problems:
        raise ToolFailedError(f"FFmpeg wrote no right stream: {'; '.join(problems[:5])}")
    return tuple(variants)
