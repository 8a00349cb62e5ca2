"""Videos: every frame, in order, in constant memory, and never half a file."""
import io
import itertools
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from common.gif import GifEncoder
from common.utils import DataError, DependencyError, UsageError
from common.video import check_output, open_writer, probe, read_frames

STEP = 8  # grey levels between one frame and the next: more than compression can change


def numbered(count, height=32, width=48):
    """Frames whose grey level tells their number."""
    for n in range(count):
        yield np.full((height, width, 3), n * STEP, dtype=np.uint8)


def numbers(frames):
    return [round(frame.mean() / STEP) for frame in frames]


def write(path, frames, fps=25, **options):
    frames = iter(frames)
    first = next(frames)
    with open_writer(path, fps, first.shape[1], first.shape[0], **options) as writer:
        for frame in itertools.chain([first], frames):
            writer.write(frame)
    return path


def gif_frames(path):
    """[(RGB frame, delay in ms)] of a GIF as Pillow shows it."""
    shown = []
    with Image.open(path) as image:
        for n in range(image.n_frames):
            image.seek(n)
            shown.append((np.asarray(image.convert("RGB")), image.info["duration"]))
    return shown


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_every_frame_is_written_once_and_in_order(tmp_path, suffix, count):
    path = write(tmp_path / f"a{suffix}", numbered(count))
    assert numbers(read_frames(path)) == list(range(count))


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_still_picture_keeps_its_number_of_frames(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", [next(numbered(1))] * 12)
    assert len(gif_frames(path) if suffix == ".gif" else list(read_frames(path))) == 12


def test_an_mp4_has_even_sides_and_the_exact_frame_rate(tmp_path):
    path = write(tmp_path / "a.mp4", numbered(6, height=33, width=47), fps=30000 / 1001)
    info = probe(path)
    assert (info.width, info.height, info.frames) == (48, 34, 6)
    assert info.fps == pytest.approx(30000 / 1001, abs=1e-6)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_flat_colours_survive_and_alpha_is_ignored(tmp_path, suffix):
    picture = np.zeros((64, 64, 4), dtype=np.uint8)
    picture[:32], picture[32:] = (213, 94, 0, 255), (0, 114, 178, 0)
    frame = next(read_frames(write(tmp_path / f"a{suffix}", [picture])))
    np.testing.assert_allclose(frame[[5, -5], 20].astype(int), [[213, 94, 0], [0, 114, 178]], atol=4)


@pytest.mark.parametrize("skip, downsample, limit, expected", [
    (0, 1, -1, list(range(20))), (3, 1, -1, list(range(3, 20))), (0, 3, -1, [0, 3, 6, 9, 12, 15, 18]),
    (5, 4, 2, [5, 9]), (0, 1, 0, list(range(20))), (30, 1, -1, [])])
def test_reading_skips_then_thins_then_limits(tmp_path, skip, downsample, limit, expected):
    path = write(tmp_path / "a.mp4", numbered(20))
    assert numbers(read_frames(path, skip, limit, downsample)) == expected


def test_frames_are_scaled_and_keep_their_shape(tmp_path):
    path = write(tmp_path / "a.mp4", numbered(1, height=32, width=48))
    assert next(read_frames(path, width=24)).shape == (16, 24, 3)
    assert next(read_frames(path, width=24, height=24)).shape == (24, 24, 3)


def test_a_video_filmed_sideways_stands_upright(tmp_path):
    picture = np.full((40, 80, 3), 255, dtype=np.uint8)
    picture[:20, :40] = 0  # dark corner at the upper left; turned clockwise it is at the upper right
    path = write(tmp_path / "a.mp4", [picture] * 3)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix:matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    frame = next(read_frames(path))
    assert probe(path)[:2] == (40, 80) and frame.shape == (80, 40, 3)
    assert frame[10, 30].max() < 20 and frame[10, 5].min() > 235 and frame[70, 30].min() > 235
    assert next(read_frames(path, width=20)).shape == (40, 20, 3)


def test_reading_and_writing_hold_one_frame_at_a_time(tmp_path):
    def peak(count):
        tracemalloc.start()
        written = write(tmp_path / "a.gif", (np.roll(noise, n, 1) for n in range(count)))
        for _ in read_frames(written):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    peak(2)
    assert peak(24) < peak(6) + noise.nbytes


def test_gif_delays_add_up_and_it_loops_for_ever(tmp_path):
    path = write(tmp_path / "a.gif", numbered(31), fps=30)
    delays = [delay for _, delay in gif_frames(path)]
    assert set(delays) == {30, 40} and sum(delays) == pytest.approx(31 / 30 * 1000, abs=10)
    with Image.open(path) as image:
        assert image.info["loop"] == 0


def test_a_gif_never_goes_below_the_delay_that_browsers_obey(tmp_path):
    frames = gif_frames(write(tmp_path / "a.gif", numbered(5), fps=120))
    assert [delay for _, delay in frames] == [20] * 5


def test_a_gif_shows_each_frame_as_it_was_also_after_the_scene_changes(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [rng.integers(low, low + 90, (40, 60, 3), dtype=np.uint8) for low in (0, 150, 60)]
    moved = [np.roll(scene, shift, 0) for scene in scenes for shift in range(3)]
    for frame, (shown, _) in zip(moved, gif_frames(write(tmp_path / "a.gif", moved)), strict=True):
        assert np.abs(frame.astype(int) - shown).mean() < 12


def test_a_gif_grows_only_by_what_changes():
    still = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    sizes = []
    for count in (1, 11):
        file = io.BytesIO()
        encoder = GifEncoder(file, 25)
        for _ in range(count):
            encoder.write(still)
        encoder.finish()
        sizes.append(len(file.getvalue()))
    assert sizes[1] - sizes[0] < 10 * 40


def test_a_truncated_video_is_a_data_error_at_once(tmp_path):
    rng = np.random.default_rng(0)
    whole = write(tmp_path / "a.mp4", (rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(30)))
    content = whole.read_bytes()
    for share in (0.02, 0.3, 0.7, 0.98):
        whole.write_bytes(content[:int(share * len(content))])
        with pytest.raises(DataError, match="truncated"):
            probe(whole)
        with pytest.raises(DataError, match="truncated"):
            list(read_frames(whole))


def test_what_is_not_a_video_is_a_data_error_of_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "empty.mp4", "missing.mp4", ""):
        with pytest.raises(DataError) as error:
            probe(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.avi", "a", "a.mp4.txt"])
def test_an_unknown_suffix_is_refused_by_name(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.mp4, \.gif"):
        check_output(tmp_path / name)
    with pytest.raises(UsageError), open_writer(tmp_path / name, 25, 8, 8):
        pass
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_its_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DependencyError, match="pip install av"):
        check_output(tmp_path / "a.mp4")
    with pytest.raises(DependencyError, match="pip install av"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_writer_leaves_the_old_file_and_nothing_else(tmp_path, suffix, interruption):
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    with pytest.raises(interruption), open_writer(path, 25, 48, 32) as writer:
        for frame in numbered(5):
            writer.write(frame)
        raise interruption
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name] and path.read_text() == "old"


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_frame_of_another_size_is_refused(tmp_path, suffix):
    with pytest.raises(ValueError, match="a frame is"), open_writer(tmp_path / f"a{suffix}", 25, 48, 32) as writer:
        writer.write(np.zeros((32, 50, 3), dtype=np.uint8))
    assert not list(tmp_path.iterdir())
