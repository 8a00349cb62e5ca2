"""Pictures: what stays stays, left is not right, feet are on the floor, and every frame is there."""
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from common.drawing import COLOURS, Bones, Room, crossbars, turned
from common.keypoints import COCO_17, H36M_17, HUMANEVA_15, MPI_INF_3DHP_17, MPII_16
from common.skeleton import Skeleton
from common.utils import DataError, UsageError
from common.video import open_writer, probe, read_frames
from common.visualization import Stage, place_on_floor, pose_error_mm, render_animation

# A standing person, metres, looking along x with the left side at +y.
STANDING = np.array([
    [0, 0, 1], [0, -.13, 1], [.02, -.13, .5], [0, -.13, 0], [0, .13, 1], [.02, .13, .5], [0, .13, 0],
    [0, 0, 1.2], [0, 0, 1.5], [.05, 0, 1.6], [0, 0, 1.75],
    [0, .15, 1.45], [0, .2, 1.15], [.1, .2, .9], [0, -.15, 1.45], [0, -.2, 1.15], [.1, -.2, .9]])


def motion(frames, way=0.5):
    """The standing person, swaying and carried along x by `way` metres in all: (frames, 17, 3)."""
    phase = np.linspace(0, 2 * np.pi, frames)
    poses = np.repeat(STANDING[None], frames, 0)
    poses[:, [13, 16], 0] += 0.3 * np.stack([np.sin(phase), -np.sin(phase)], 1)
    poses[..., 0] += np.linspace(0, way, frames)[:, None]
    return poses


def pixels_of(poses):
    """A plain front view in a 1000 x 1000 image."""
    return np.stack([500 + 300 * poses[..., 1], 900 - 400 * poses[..., 2]], -1)


def stage_of(poses, titles=("Reconstruction",), skeleton_2d=H36M_17, azim=70, size=2):
    placed, low, high, walks = place_on_floor({title: poses for title in titles}, 0, azim)
    return Stage(list(titles), low, high, H36M_17, skeleton_2d, (1000, 1000), azim, size), placed[titles[0]], walks


def render(tmp_path, name="a.mp4", frames=20, **options):
    poses = motion(frames)
    settings = {"fps": 50, "bitrate": 1000, "azim": 70, "viewport": (1000, 1000), "size": 1, "skeleton_2d": H36M_17}
    settings.update(options)
    return render_animation(pixels_of(poses), {"Reconstruction": poses + 0.01, "Ground truth": poses}, H36M_17,
                            output=tmp_path / name, **settings)


def count(picture, side):
    """Pixels of a side's colour, however blended with white, by its hue and strength."""
    away = np.abs(picture[..., :3] / 255.0 - to_rgb(COLOURS[side])).max(-1)
    return int((away < 0.12).sum())


# ---- what stays


@pytest.mark.parametrize("way", [1.0, 8.0])
def test_floor_axes_and_titles_stay_put(way):
    stage, placed, _ = stage_of(motion(9, way))
    first, last = (stage.picture(pixels_of(placed[n]), [placed[n]], caption=f"frame {n}").copy() for n in (0, 8))
    still = stage.picture(np.full((17, 2), np.nan), [np.full((17, 3), np.nan)])
    for picture in (first, last):
        changed = (picture != still).any(-1)
        assert 0 < changed.mean() < 0.15  # the person, the shadow and the caption
        assert not changed[:20].any()  # the titles
        assert not changed[:, 200:225].any()  # the height scale
    assert (first != last).any()


def test_every_axis_keeps_the_same_scale():
    room = Room(np.array([-.8, -.8, 0]), np.array([.8, .8, 1.8]), 0, (0, 0, 300, 300))
    middle = np.array([0, 0, .9])
    centre, across, up = room.view.project(middle + [[0, 0, 0], [0, .1, 0], [0, 0, .1]])[0]
    across, up = across - centre, up - centre
    assert across[1] == pytest.approx(0, abs=1e-9) and up[0] == pytest.approx(0, abs=1e-9)
    assert up[1] == pytest.approx(across[0] * np.cos(np.deg2rad(15)), rel=0.02)


def test_the_viewer_stands_at_the_azimuth_and_sees_no_mirror_image():
    np.testing.assert_allclose(turned(np.array([0, 1.0, 0]), 90), [1, 0, 0], atol=1e-12)  # towards the viewer
    x, y, z = turned(np.eye(3), 37.0)
    np.testing.assert_allclose(np.cross(x, y), z, atol=1e-12)
    # Whoever looks at the viewer (azimuth 0, looking along x) has the left side on the viewer's right.
    stage, placed, _ = stage_of(motion(5), azim=0, size=3)
    panel = stage.picture(pixels_of(placed[0]), [placed[0]])[:, 300:]
    columns = {side: np.nonzero(np.abs(panel[..., :3] / 255.0 - to_rgb(COLOURS[side])).max(-1) < 0.12)[1].mean()
               for side in ("left", "right")}
    assert columns["left"] > columns["right"] + 10


# ---- where the person is


def test_feet_stand_on_the_floor_and_one_bad_frame_does_not_lift_them():
    poses = motion(60) + [3, -2, 0.7]
    poses[30, 3, 2] -= 5
    placed, low, high, walks = place_on_floor({"a": poses, "b": poses - [0, 0, 9]}, 0, 0)
    assert walks and low[2] == 0
    for pose in placed.values():
        np.testing.assert_allclose(np.delete(pose, 30, 0)[..., 2].min(1), 0, atol=1e-6)


def test_the_room_holds_the_whole_way_and_a_long_way_is_walked_on_the_spot():
    placed, low, high, walks = place_on_floor({"a": motion(30, way=2.5)}, 0, 20)
    assert walks and (placed["a"] >= low - 1e-9).all() and (placed["a"] <= high).all()
    placed, low, high, walks = place_on_floor({"a": motion(30, way=9)}, 0, 20)
    assert not walks and (high - low).max() < 2
    np.testing.assert_allclose(placed["a"][:, 0, :2], 0, atol=1e-9)


def test_the_error_is_in_mm_and_blind_to_where_the_person_is():
    poses = motion(7)
    moved = poses + np.random.default_rng(0).normal(size=(7, 1, 3))
    np.testing.assert_allclose(pose_error_mm(moved, poses, 0), 0, atol=1e-9)
    moved[:, 1:] += [0.03, 0, 0]
    np.testing.assert_allclose(pose_error_mm(moved, poses, 0), 30 * 16 / 17)


# ---- left and right


def test_left_and_right_are_seen_in_both_panels():
    stage, placed, _ = stage_of(motion(5), size=3)
    picture = stage.picture(pixels_of(motion(5)[0]), [placed[0]])
    body = picture[:-30]  # without the legend
    for panel in (body[:, :300], body[:, 300:]):
        assert count(panel, "left") > 50 and count(panel, "right") > 50
    assert count(picture[-30:, :300], "left") > 20 and count(picture[-30:, :300], "right") > 20  # the legend


def test_a_nearer_bone_hides_a_farther_one():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1), dpi=100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Two bones that cross: centre to left, centre to right.
    cross = Skeleton([-1, 0, -1, 2], [1], [3])
    ends = np.array([[10, 10], [90, 90], [10, 90], [90, 10]])
    for nearness, side in ((np.array([0, 0, 1, 1]), "right"), (np.array([1, 1, 0, 0]), "left")):
        Bones(figure, cross, 6).draw(canvas.get_renderer(), ends, nearness)
        middle = np.asarray(canvas.buffer_rgba())[50, 50, :3] / 255.0
        np.testing.assert_allclose(middle, to_rgb(COLOURS[side]), atol=0.02)


def test_only_an_open_trunk_is_closed_with_crossbars():
    names = COCO_17.names()
    assert [{names[a], names[b]} for a, b in crossbars(COCO_17)] == [
        {"left_hip", "right_hip"}, {"left_shoulder", "right_shoulder"}]
    for skeleton in (H36M_17, HUMANEVA_15, MPII_16, MPI_INF_3DHP_17):
        assert crossbars(skeleton) == []


def test_unknown_skeletons_are_dots_and_missing_joints_are_left_out():
    stage, placed, _ = stage_of(motion(5), skeleton_2d=None)
    still = stage.picture(np.full((17, 2), np.nan), [placed[0]])[:, :200].copy()
    dots = stage.picture(pixels_of(motion(5)[0]), [placed[0]])[:, :200]
    assert (dots != still).any()
    stage, placed, _ = stage_of(motion(5))
    keypoints = pixels_of(motion(5)[0])
    keypoints[12] = np.nan
    assert count(stage.picture(keypoints, [placed[0]])[:-30, :200], "right") > 20


def test_a_skeleton_that_leaves_the_image_does_not_enter_the_next_panel():
    stage, placed, _ = stage_of(motion(5))
    clean = stage.picture(np.full((17, 2), np.nan), [placed[0]])[:, 200:].copy()
    outside = stage.picture(pixels_of(motion(5)[0]) + [600, 0], [placed[0]])[:, 200:]
    np.testing.assert_array_equal(outside, clean)


# ---- which frames


@pytest.mark.parametrize("skip, downsample, limit, frames", [
    (0, 1, -1, 20), (0, 3, -1, 7), (4, 1, -1, 16), (4, 3, 5, 5), (0, 1, 6, 6), (0, 2, 100, 10)])
def test_frames_are_skipped_then_thinned_then_limited(tmp_path, skip, downsample, limit, frames):
    assert render(tmp_path, input_video_skip=skip, downsample=downsample, limit=limit) == frames
    info = probe(tmp_path / "a.mp4")
    assert sum(1 for _ in read_frames(tmp_path / "a.mp4")) == frames
    assert info.fps == pytest.approx(50 / downsample) and (info.width, info.height) == (300, 100)


def test_every_size_gives_even_sides(tmp_path):
    for size in (0.77, 1.333, 3):
        render(tmp_path, frames=2, size=size)
        info = probe(tmp_path / "a.mp4")
        assert info.width % 2 == info.height % 2 == 0 and info.height == pytest.approx(100 * size, abs=1)


@pytest.fixture
def filmed(tmp_path):
    """A video of 12 frames that get brighter: (path, grey level of each)."""
    levels = [20 * n for n in range(12)]
    with open_writer(tmp_path / "in.mp4", 50, 64, 64) as writer:
        for level in levels:
            writer.write(np.full((64, 64, 3), level, dtype=np.uint8))
    return tmp_path / "in.mp4", levels


def test_the_video_is_shown_behind_the_pose_of_the_same_number_and_its_end_ends_the_output(tmp_path, filmed, capsys):
    path, levels = filmed
    assert render(tmp_path, size=2, input_video_path=path, input_video_skip=3, downsample=2) == 5
    shown = [frame[30:60, 25:55].mean() for frame in read_frames(tmp_path / "a.mp4")]
    np.testing.assert_allclose(shown, levels[3::2], atol=4)
    assert "ends after 5 of 9 frames" in capsys.readouterr().out


def test_the_frame_rate_comes_from_the_video_where_none_is_given_and_a_difference_is_said(tmp_path, filmed, capsys):
    render(tmp_path, fps=None, input_video_path=filmed[0])
    assert probe(tmp_path / "a.mp4").fps == 50 and "frames per second" not in capsys.readouterr().out
    render(tmp_path, fps=25, input_video_path=filmed[0], viewport=(1920, 1080))
    said = capsys.readouterr().out
    assert "50 frames per second" in said and "1920 x 1080" in said


# ---- what cannot be rendered


def test_mistakes_are_one_line_and_leave_no_file(tmp_path, filmed):
    broken = tmp_path / "cut.mp4"
    broken.write_bytes(filmed[0].read_bytes()[:900])
    before = sorted(tmp_path.iterdir())
    for error, options in [
            (UsageError, {"name": "a.avi"}), (UsageError, {"fps": None}), (UsageError, {"input_video_skip": 20}),
            (DataError, {"input_video_path": broken}), (DataError, {"input_video_path": tmp_path / "missing.mp4"}),
            (DataError, {"input_video_path": filmed[0], "input_video_skip": 15}),
            (DataError, {"skeleton_2d": HUMANEVA_15})]:
        with pytest.raises(error) as raised:
            render(tmp_path, **options)
        assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match="do not fit"):
        render_animation(np.zeros((4, 17, 2)), {"a": np.zeros((5, 17, 3))}, H36M_17, 50, 1000, 70, tmp_path / "a.mp4",
                         (10, 10))
    assert sorted(tmp_path.iterdir()) == before
