"""Video files, read and written one frame at a time: memory does not grow with their length.

Frames are uint8 RGB arrays (H, W, 3). `.mp4` is read and written by PyAV, which brings its own FFmpeg; `.gif` is
written by Pillow's encoder (`common.gif`).
"""
import contextlib
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.utils import DataError, DependencyError, UsageError, atomic_path, check_place, require

# Encoders in the order of preference; a PyAV built without x264 still has the last one.
MP4_ENCODERS = ("libx264", "libopenh264", "mpeg4")
FALLBACK_FPS = 25  # of what tells neither times nor a rate
TIME_BASE = 90000  # steps a second in which the times of uneven frames are written
BT601 = 6  # FFmpeg's number (SMPTE 170M) for the RGB to YUV matrix that its scaler uses


class VideoInfo(NamedTuple):
    """Size as displayed (after rotation), mean frames per second, and frames as declared or estimated (0: unknown)."""

    width: int
    height: int
    fps: float
    frames: int


@contextlib.contextmanager
def _opened(path):
    """(container, video stream) of a readable video; DataError for anything else, also while it is being decoded."""
    av = require("av", "av")
    if not Path(path).is_file():
        raise DataError(f"{path}: no such video file; check the path")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video; give an .mp4, .avi, .mov or .webm file")
            stream = container.streams.video[0]
            if stream.codec_context is None:  # decoding without one ends the process
                raise DataError(f"{path}: is damaged or of an unknown codec; copy or export it again")
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: is truncated or not a video ({error.strerror}); copy or export it again") from error


def _check_tail(path):
    """Read the last packets: a file cut short fails here at once instead of after minutes of rendering."""
    av = require("av", "av")
    with _opened(path) as (container, stream):
        # What cannot be sought, by its format or because the place is missing, is read from the start.
        with contextlib.suppress(av.error.FFmpegError):
            container.seek(max((stream.duration or 0) - 1, 0), stream=stream)
        whole = [not packet.is_corrupt for packet in container.demux(stream) if packet.size]
        if not whole or not all(whole):
            raise DataError(f"{path}: is truncated; copy or export it again")


def probe(path):
    """VideoInfo of a file. Raises DataError (one line) if it is missing, truncated or not a video."""
    _check_tail(path)
    with _opened(path) as (container, stream):
        frame = next(container.decode(stream), None)
        if frame is None:
            raise DataError(f"{path}: holds no frames; copy or export it again")
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        width, height = frame.width, frame.height
        if _quarter_turns(frame) % 2:
            width, height = height, width
        return VideoInfo(width, height, fps, stream.frames or round(seconds * fps))


def frame_times(path):
    """When each frame is shown, (T,) seconds from the first on, without decoding. Raises DataError as `probe` does."""
    with _opened(path) as (container, stream):
        shown = [packet.pts for packet in container.demux(stream)
                 if packet.size and not packet.is_discard and packet.pts is not None]
        if shown:
            times = np.sort(np.array(shown, dtype=np.float64)) * float(stream.time_base)
            return times - times[0]
    info = probe(path)  # a raw stream without times
    return np.arange(info.frames) / (info.fps or FALLBACK_FPS)


def quarter_turns(path):
    """How often the stored picture of a video is turned by 90 degrees, counterclockwise, to be shown upright."""
    with _opened(path) as (container, stream):
        frame = next(container.decode(stream), None)
        return 0 if frame is None else _quarter_turns(frame)


def _quarter_turns(frame):
    """How often the frame is to be turned by 90 degrees, counterclockwise, to stand upright (phones film sideways)."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _upright(frame, width, height):
    """The decoded frame as displayed: scaled to (width, height) where given, turned, RGB (H, W, 3)."""
    turns = _quarter_turns(frame)
    shown = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    if width is None:
        width, height = shown
    elif height is None:
        height = max(1, round(width * shown[1] / shown[0]))
    stored = (height, width) if turns % 2 else (width, height)
    interpolation = "AREA" if width < shown[0] else "BILINEAR"
    rgb = frame.reformat(width=stored[0], height=stored[1], format="rgb24", interpolation=interpolation).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, turns))


def read_frames(path, skip=0, limit=-1, downsample=1, width=None, height=None):
    """Generate the frames of a video as uint8 RGB (H, W, 3), one at a time.

    The first `skip` frames are left out, then every `downsample`-th is given, at most `limit` of them (below 1: all).
    width, height: scale to this size; a width alone keeps the aspect ratio. Raises DataError as `probe` does.
    """
    given = 0
    with _opened(path) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            if index < skip or (index - skip) % downsample:
                continue
            yield _upright(frame, width, height)
            given += 1
            if given == limit:
                return


def read_chosen_frames(path, numbers):
    """Generate (number, uint8 RGB (H, W, 3)) of the frames with these numbers, ascending from 0, in one pass.

    Raises DataError as `probe` does, and where the video ends before the last of them or one of them is corrupt.
    """
    _check_tail(path)  # a decoder makes up what is missing of the last frame
    wanted, decoded = iter(numbers), 0
    number = next(wanted, None)
    with _opened(path) as (container, stream):
        for index, frame in enumerate(container.decode(stream) if number is not None else ()):
            decoded = index + 1
            if index < number:
                continue
            if getattr(frame, "is_corrupt", False):
                raise DataError(f"{path}: frame {index} (the first is 0) is damaged; copy or export it again")
            yield index, _upright(frame, None, None)
            number = next(wanted, None)
            if number is None:
                return
    if number is not None:
        raise DataError(f"{path}: ends after {decoded} frames, frame {number} (the first is 0) is missing; copy or "
                        "export it again")


def shown_frames(count, skip=0, downsample=1, limit=-1):
    """Which of `count` poses are shown (n,): the first `skip` are left out, then as `read_frames` does with frames.

    Raises UsageError where none is left.
    """
    kept = np.arange(count)[skip::downsample][:limit if limit > 0 else None]
    if not len(kept):
        raise UsageError(f"all {count} frames are skipped; skip fewer than {skip}")
    return kept


class _Mp4Writer:
    """H.264 in yuv420p with the index in front, so that browsers play it while it loads."""

    def __init__(self, path, fps, width, height, bitrate_kbps, times=None, group=None):
        self._av = require("av", "av")
        # yuv420p halves both axes: odd sizes get one more column or row, a copy of the last.
        self._size, self._padding = (height, width), ((0, height % 2), (0, width % 2), (0, 0))
        self._container = self._av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        encoder = self._encoder()
        self._stream = self._container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._times = None
        if times is not None:
            self._times = iter(np.round((times - times[0]) * TIME_BASE).astype(np.int64).tolist())
            self._stream.codec_context.time_base = Fraction(1, TIME_BASE)
        if group is not None:
            self._stream.codec_context.gop_size, self._stream.codec_context.max_b_frames = group, 0
        self._stream.codec_context.colorspace = BT601  # said outright: players guess by the size of the picture
        if encoder == "libx264":
            # Constant quality; the bit rate is only a ceiling, so that still pictures stay small.
            self._stream.options = {"preset": "veryfast", "crf": "18", "maxrate": f"{bitrate_kbps}k",
                                    "bufsize": f"{2 * bitrate_kbps}k"}
        else:
            self._stream.bit_rate = bitrate_kbps * 1000

    def _encoder(self):
        for name in MP4_ENCODERS:
            with contextlib.suppress(ValueError):  # UnknownCodecError
                return self._av.codec.Codec(name, "w").name
        raise DependencyError(f"this PyAV has none of the encoders {', '.join(MP4_ENCODERS)}: pip install --upgrade av")

    def write(self, picture):
        """Append one frame: uint8 RGB (H, W, 3) or RGBA (H, W, 4), whose alpha is ignored."""
        _check_size(picture, self._size)
        if self._padding != ((0, 0), (0, 0), (0, 0)):
            picture = np.pad(picture, self._padding, mode="edge")
        pixel_format = "rgb24" if picture.shape[2] == 3 else "rgba"
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=pixel_format)
        if self._times is not None:
            frame.pts, frame.time_base = next(self._times), Fraction(1, TIME_BASE)
        self._container.mux(self._stream.encode(frame))

    def finish(self):
        self._container.mux(self._stream.encode(None))

    def close(self):
        self._container.close()


class _GifFile:
    """The GIF encoder with its file."""

    def __init__(self, path, fps, width, height, bitrate_kbps, times=None, group=None):
        from common.gif import GifEncoder

        self._size = (height, width)
        self._file = open(path, "wb")
        self._encoder = GifEncoder(self._file, fps, times)

    def write(self, picture):
        """Append one frame: uint8 RGB (H, W, 3) or RGBA (H, W, 4), whose alpha is ignored."""
        _check_size(picture, self._size)
        self._encoder.write(picture)

    def finish(self):
        self._encoder.finish()

    def close(self):
        self._file.close()


WRITERS = {".mp4": _Mp4Writer, ".gif": _GifFile}
PAGE = ".html"  # an interactive page in place of a video, written by `common.viewer`


def _check_size(picture, size):
    if picture.shape[:2] != size or picture.shape[2] not in (3, 4) or picture.dtype != np.uint8:
        raise ValueError(f"a frame is uint8 {size} RGB or RGBA, not {picture.dtype} {picture.shape}")


def is_page(path):
    """Whether a rendered file is to be an interactive page."""
    return Path(path).suffix.lower() == PAGE


def check_output(path, page=False):
    """Refuse, before any long work, an output that could not be written: its suffix, or a missing library.

    page: an interactive page is taken too.
    """
    suffix, taken = Path(path).suffix.lower(), [*WRITERS, *([PAGE] if page else [])]
    if suffix not in taken:
        raise UsageError(f"{path}: the suffix {suffix or 'is missing, it'} must be one of {', '.join(taken)}")
    check_place(path)
    if suffix != PAGE:
        require(*{".mp4": ("av", "av"), ".gif": ("PIL", "pillow")}[suffix])


@contextlib.contextmanager
def open_writer(path, fps, width, height, bitrate_kbps=3000, times=None, group=None):
    """Give an object whose `.write(rgb)` appends a frame (H, W, 3); the suffix chooses the format.

    times: when each frame is shown, ascending seconds (at least as many as frames are written), where not at `fps`.

    The file takes its name only when the block ends well: an error or Ctrl-C leaves nothing behind.
    bitrate_kbps is a ceiling for .mp4 and means nothing for .gif; so does group: the frames from one key frame to the
    next, the fewer the faster a player seeks (the encoder's choice where None). Raises UsageError for another suffix.
    """
    check_output(path)
    with atomic_path(path) as temporary:
        writer = WRITERS[Path(path).suffix.lower()](temporary, fps, width, height, bitrate_kbps, times, group)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
