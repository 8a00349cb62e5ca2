"""prepare_data_2d.py: detections become files that the lifting scripts read, of own videos and of Human3.6M."""
import shutil
import struct

import numpy as np
import pytest
from conftest import run_script
from detected import walk

import prepare_data_2d
from common.detection_files import dataset_of, find_h36m, video_name
from common.h36m_raw import CAMERAS
from common.humaneva_raw import frame_offsets
from common.keypoints import LAYOUT_MAPS, LAYOUTS, layout_matrix
from common.pose_data import fetch, load_dataset, load_keypoints
from common.safe_io import load_npz
from common.synthetic_detections import people_of, write_alphapose, write_detectron, write_mmpose, write_openpose
from common.synthetic_detections import write_coco_results as write_coco
from common.utils import DataError, UsageError
from common.video import open_writer

FRAMES = 12


@pytest.fixture
def prepare(monkeypatch, tmp_path, capsys):
    """prepare(PATH, flags ...) -> (what the file NAME holds, the lines printed)."""
    def run(path, *flags, name="clip", dataset="custom"):
        command = ["prepare_data_2d.py", "-i", path, "-o", name, "--data-dir", tmp_path / "data", *flags]
        monkeypatch.setattr("sys.argv", list(map(str, command)))
        prepare_data_2d.main(prepare_data_2d.get_args())
        return load_npz(tmp_path / "data" / f"data_2d_{dataset}_{name}.npz"), capsys.readouterr().out.splitlines()

    return run


def motion_of(layout):
    return walk(FRAMES)[:, :16] if layout == "mpii" else walk(FRAMES, layout)


def write_video(path, width, height, frames=FRAMES, sideways=False):
    with open_writer(path, 25, width, height) as writer:
        for _ in range(frames):
            writer.write(np.zeros((height, width, 3), dtype=np.uint8))
    if sideways:  # the matrix of the track: shown after a quarter turn clockwise
        content = bytearray(path.read_bytes())
        matrix = content.index(b"tkhd") + 44
        content[matrix:matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
        path.write_bytes(content)
    return path


# --- own videos ---

@pytest.mark.parametrize("writer, layout, target", [
    (write_detectron, "coco", "coco"), (write_openpose, "body25", "h36m"), (write_alphapose, "halpe26", "h36m"),
    (write_alphapose, "coco", "coco"), (write_mmpose, "coco", "coco"), (write_coco, "mpii", "h36m"),
])
def test_joints_come_to_what_the_models_take_and_load(prepare, tmp_path, writer, layout, target):
    motion = motion_of(layout)
    writer(tmp_path / "clip.json" if writer is not write_detectron else tmp_path / "clip.npz", people_of([motion]))
    path = next(tmp_path.glob("clip*"))
    content, lines = prepare(path, "--size", "1000x1002", "--fps", 30)
    assert content["metadata"]["layout_name"] == target and content["metadata"]["num_joints"] == 17
    assert content["metadata"]["keypoints_symmetry"] == [LAYOUTS[target].joints_left(), LAYOUTS[target].joints_right()]
    assert content["metadata"]["video_metadata"] == {"clip": {"w": 1000, "h": 1002, "fps": 30}}
    expected = motion if layout == target else layout_matrix(LAYOUT_MAPS[layout, target], motion.shape[1]) @ motion
    (found,) = content["positions_2d"]["clip"]["custom"]
    assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-2)
    assert any(f"2D joints: {layout}" in line for line in lines)
    assert lines[-1].startswith(f"next: python run_s-agcn.py -d custom -k clip --data-dir {tmp_path / 'data'} "
                                "--evaluate FILE --render --viz-subject clip --viz-action custom")
    keypoints = load_keypoints(tmp_path / "data", "custom", "clip")
    (sequence,) = fetch(load_dataset(tmp_path / "data", "custom", keypoints), keypoints, ["clip"])
    assert sequence.keypoints.shape == (FRAMES, 17, 2)


def test_joints_are_mapped_kept_or_refused_as_asked(prepare, tmp_path):
    write_openpose(tmp_path / "clip", people_of([motion_of("body25")]))
    flags = "--size", "1000x1000"
    content, _ = prepare(tmp_path / "clip", *flags, "--to", "keep", name="kept")
    assert content["metadata"]["layout_name"] == "body25"
    content, lines = prepare(tmp_path / "clip", *flags, "--to", "coco", name="coco")
    assert np.allclose(content["positions_2d"]["clip"]["custom"][0][:, 5:], motion_of("coco")[:, 5:], atol=1e-2)
    assert "INFO: 2D joints: body25, mapped to coco" in lines
    write_coco(tmp_path / "h.json", people_of([motion_of("h36m")]))
    with pytest.raises(UsageError, match="have the joints h36m, and the maps that are known are mpii to h36m, "):
        prepare(tmp_path / "h.json", *flags, "--layout", "h36m", "--to", "coco")


def test_the_size_comes_from_the_detections_the_video_or_the_user(prepare, tmp_path):
    people = people_of([motion_of("coco") * 0.06])
    write_coco(tmp_path / "a.json", people)
    with pytest.raises(UsageError, match="a.json: does not tell the size of the video; give --video FILE or --size"):
        prepare(tmp_path / "a.json")
    video = write_video(tmp_path / "my clip.mp4", 64, 48, FRAMES + 3)
    content, lines = prepare(tmp_path / "a.json", "--video", video)
    assert content["metadata"]["video_metadata"] == {"my clip.mp4": {"w": 64, "h": 48, "fps": 25}}
    assert len(content["positions_2d"]["my clip.mp4"]["custom"][0]) == FRAMES + 3
    assert f"--viz-subject 'my clip.mp4' --viz-action custom --viz-video '{video}'" in lines[-1]
    write_detectron(tmp_path / "clip.mp4.npz", people, (80, 60))
    content, lines = prepare(tmp_path / "clip.mp4.npz", name="b")
    assert content["metadata"]["video_metadata"] == {"clip.mp4": {"w": 80, "h": 60}}
    assert any("WARNING" in line and "outside the picture of 10x10" in line
               for line in prepare(tmp_path / "a.json", "--size", "10x10", name="c")[1])
    short = write_video(tmp_path / "short.mp4", 64, 48, 4)
    with pytest.raises(DataError, match="has 4 frames, and its detections 12; are they of this video"):
        prepare(tmp_path / "a.json", "--video", short, name="d")


def test_numbers_from_1_fit_the_length_of_the_video(prepare, tmp_path):
    motion = motion_of("coco") * 0.06
    write_coco(tmp_path / "a.json", people_of([motion]), first=1)
    video = write_video(tmp_path / "clip.mp4", 64, 48)
    content, lines = prepare(tmp_path / "a.json", "--video", video)
    assert np.allclose(content["positions_2d"]["clip.mp4"]["custom"][0], motion, atol=1e-3)
    assert not any("frames" in line and line.startswith("INFO") for line in lines)


def test_detections_in_a_video_as_it_is_stored_are_turned_as_it_is_shown(prepare, tmp_path):
    video = write_video(tmp_path / "clip.mp4", 80, 40, sideways=True)
    motion = np.broadcast_to([10.0, 5.0], (FRAMES, 17, 2)).copy()
    motion[:, 1:] += 1
    write_detectron(tmp_path / "clip.mp4.npz", people_of([motion]), (80, 40))
    content, lines = prepare(tmp_path / "clip.mp4.npz", "--video", video)
    assert content["metadata"]["video_metadata"]["clip.mp4"] == {"w": 40, "h": 80, "fps": 25}
    assert content["positions_2d"]["clip.mp4"]["custom"][0][0, 0].tolist() == [35, 10]  # top left comes to top right
    assert any("filmed sideways" in line and "80x40" in line for line in lines)
    write_detectron(tmp_path / "clip.mp4.npz", people_of([motion]), (40, 80))
    content, _ = prepare(tmp_path / "clip.mp4.npz", "--video", video, name="upright")
    assert content["positions_2d"]["clip.mp4"]["custom"][0][0, 0].tolist() == [10, 5]


@pytest.mark.parametrize("path, name", [
    ("clip.mp4.npz", "clip.mp4"), ("clip.json", "clip"), ("results_clip.json", "clip"), ("clip_keypoints.json", "clip"),
    ("dance/alphapose-results.json", "dance"), ("clip_openpose", "clip"), ("my clip.avi.npz", "my clip.avi"),
    ("clip_alphapose_results.json", "clip"), ("dance/results.json", "dance"), ("cocoon.json", "cocoon"),
])
def test_videos_are_called_as_their_users_know_them(path, name):
    assert video_name(path) == name


def test_a_folder_of_several_videos_is_one_file(prepare, tmp_path):
    folder = tmp_path / "several"
    folder.mkdir()
    write_detectron(folder / "a.mp4.npz", people_of([motion_of("coco")]), (1000, 1000))
    write_openpose(folder / "b", people_of([motion_of("body25")]))
    with pytest.raises(DataError, match="b: comes to the joints h36m, and .*a.mp4.npz to coco; --to h36m maps both"):
        prepare(folder, "--size", "1000x1000")
    content, _ = prepare(folder, "--size", "1000x1000", "--to", "h36m")
    assert list(content["positions_2d"]) == ["a.mp4", "b"] == list(content["metadata"]["video_metadata"])
    with pytest.raises(UsageError, match="--person applies to one video of one's own, and .* holds 2"):
        prepare(folder, "--person", "0")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing: holds no detections"):
        prepare(tmp_path / "nothing")


def test_gaps_and_people_are_reported_and_a_person_can_be_chosen(prepare, tmp_path):
    motion, other = motion_of("coco"), motion_of("coco") * 0.5 + [600, 100]
    motion[4:6] = np.nan
    write_mmpose(tmp_path / "a.json", people_of([motion, other], ids=[5, 8]))
    _, lines = prepare(tmp_path / "a.json", "--size", "1000x1000")
    assert any(line.startswith("INFO: 2 people were found, 5 (10 frames") for line in lines)
    assert any("missing in 2 of 12 frames (at most 2 in a row)" in line for line in lines)
    content, _ = prepare(tmp_path / "a.json", "--size", "1000x1000", "--person", 8, name="other")
    assert np.allclose(content["positions_2d"]["a"]["custom"][0], other, atol=1e-2)


def test_a_second_run_keeps_the_file_until_something_changes(prepare, tmp_path):
    write_coco(tmp_path / "a.json", people_of([motion_of("coco")]))
    prepare(tmp_path / "a.json", "--size", "1000x1000")
    file = tmp_path / "data" / "data_2d_custom_clip.npz"
    made = file.stat().st_mtime_ns
    _, lines = prepare(tmp_path / "a.json", "--size", "1000x1000")
    assert file.stat().st_mtime_ns == made and "exists, kept" in lines[0] and lines[-1].startswith("next: ")
    with pytest.raises(DataError, match="was made with other size; --force"):
        prepare(tmp_path / "a.json", "--size", "1000x1002")
    prepare(tmp_path / "a.json", "--size", "1000x1002", "--force")
    write_coco(tmp_path / "a.json", people_of([motion_of("coco")[:5]]))
    content, _ = prepare(tmp_path / "a.json", "--size", "1000x1002")  # the detections have changed
    assert len(content["positions_2d"]["a"]["custom"][0]) == 5


# --- Human3.6M and HumanEva ---

@pytest.fixture
def h36m(tmp_path):
    """Detections in three sequences' videos, spelled in several ways."""
    root = tmp_path / "h36m"
    names = {"S1": ["Walking 1.{}.mp4.npz", "WalkingDog_1.{}.json", "_ALL.{}.mp4.npz"],
             "S11": ["Directions.{}.mp4.npz"]}
    for subject, files in names.items():
        (root / subject).mkdir(parents=True)
        for file in files:
            for number, camera in enumerate(CAMERAS):
                path = root / subject / file.format(camera)
                writer = write_detectron if path.suffix == ".npz" else write_alphapose
                writer(path, people_of([motion_of("coco") + number]))
    return root


def write_3d(folder, frames):
    folder.mkdir(exist_ok=True)
    poses = np.zeros((frames, 32, 3), dtype=np.float32)
    np.savez(folder / "data_3d_h36m.npz", positions_3d={"S1": {"Walking 1": poses}, "S11": {"Directions": poses}})


def test_human36ms_videos_are_told_by_name_in_the_order_of_the_cameras(prepare, h36m, tmp_path):
    write_3d(tmp_path / "data", FRAMES - 1)
    content, lines = prepare(h36m, name="detected", dataset="h36m")
    positions = content["positions_2d"]
    assert {subject: sorted(actions) for subject, actions in positions.items()} == {"S1": ["WalkDog 1", "Walking 1"]}
    for number, view in enumerate(positions["S1"]["Walking 1"]):
        assert np.allclose(view, motion_of("coco") + number, atol=1e-2)
    assert len(positions["S1"]["WalkDog 1"]) == 4
    assert lines[-1] == f"next: python run_s-agcn.py -d h36m -k detected --data-dir {tmp_path / 'data'} --evaluate FILE"
    assert load_keypoints(tmp_path / "data", "h36m", "detected").num_joints == 17


def test_missing_cameras_and_frames_are_named(prepare, h36m, tmp_path):
    write_3d(tmp_path / "data", FRAMES + 1)
    with pytest.raises(DataError, match=r"Walking 1.*has 12 frames, and the 3D positions of S1 Walking 1 13"):
        prepare(h36m, dataset="h36m")
    (h36m / "S1" / f"Walking 1.{CAMERAS[2]}.mp4.npz").unlink()
    with pytest.raises(DataError, match=rf"cameras are missing: S1 Walking 1 {CAMERAS[2]}; detect in them"):
        find_h36m(h36m)
    with pytest.raises(DataError, match="holds no detections in Human3.6M's videos"):
        find_h36m(tmp_path / "data")


def test_spellings_of_the_same_sequence_are_one(h36m):
    assert find_h36m(h36m)[0].keys() == {("S1", "Walking 1"), ("S1", "WalkDog 1")}
    assert find_h36m(h36m / "S1")[0].keys() == find_h36m(h36m)[0].keys()
    for path in (h36m / "S1").glob("Walking 1*"):
        path.rename(path.with_name(path.name.replace("Walking 1.", "walking_1_").replace(".mp4", "")))
    shutil.copy(next((h36m / "S1").glob("WalkingDog*")), h36m / "S1" / f"Flying.{CAMERAS[0]}.json")
    found, others = find_h36m(h36m)
    assert found.keys() == {("S1", "Walking 1"), ("S1", "WalkDog 1")} and others == [f"S1/Flying.{CAMERAS[0]}.json"]
    assert dataset_of(h36m) == "h36m"


def test_humanevas_detections_are_cut_to_the_chunks_of_its_labels(prepare, tmp_path):
    folder, walked = tmp_path / "eva" / "S1", motion_of("body25")
    folder.mkdir(parents=True)
    labels = {"positions_3d": {"Train/S1": {"Walking 1 chunk0": np.zeros((4, 15, 3), np.float32)}},
              "frames": {"Train/S1": {"Walking 1 chunk0": (590, 594)}}}
    views = []
    for camera, offset in zip((1, 2, 3), frame_offsets("S1", "Walking 1"), strict=True):
        motion = np.repeat(walked[:1], 600 + offset, axis=0) + np.arange(600 + offset)[:, None, None] / 10
        write_openpose(folder / f"Walking_1_(C{camera})", people_of([motion]))
        views.append(motion[590 + offset : 594 + offset])
    with pytest.raises(DataError, match="data_3d_humaneva15.npz: no such file; .* prepare_data_humaneva.py -p PATH"):
        prepare(tmp_path / "eva")
    (tmp_path / "data").mkdir(exist_ok=True)
    np.savez(tmp_path / "data" / "data_3d_humaneva15.npz", **{key: np.array(value, dtype=object)
                                                              for key, value in labels.items()})
    content, lines = prepare(tmp_path / "eva", "--to", "coco", dataset="humaneva15")
    assert content["metadata"]["layout_name"] == "coco" and "run_s-agcn_HE_13.py -k clip" in lines[-1]
    for made, view in zip(content["positions_2d"]["Train/S1"]["Walking 1 chunk0"], views, strict=True):
        assert np.allclose(made[:, 5], view[:, 5], atol=1e-2)  # the left shoulder of both
    for flags in (["--person", 1], ["--size", "9x9"], ["--to", "h36m"]):
        with pytest.raises(UsageError, match=f"^{flags[0]} "):
            prepare(tmp_path / "eva", *flags)


# --- as processes ---

def test_the_script_ends_with_a_file_or_with_one_line(tmp_path):
    write_detectron(tmp_path / "clip.mp4.npz", people_of([motion_of("coco")]), (1000, 1000))
    done = run_script("prepare_data_2d.py", "-i", tmp_path / "clip.mp4.npz", "-o", "clip", "--data-dir", tmp_path)
    assert done.status == 0 and not done.err and (tmp_path / "data_2d_custom_clip.npz").is_file(), done.err
    (tmp_path / "cut.npz").write_bytes((tmp_path / "clip.mp4.npz").read_bytes()[:900])
    cut = run_script("prepare_data_2d.py", "-i", tmp_path / "cut.npz", "-o", "cut", "--data-dir", tmp_path)
    cut.assert_fails(3, "cut.npz: damaged or truncated")
    assert not (tmp_path / "data_2d_custom_cut.npz").exists()


@pytest.mark.parametrize("flags, words", [
    (["-o", "a/b"], "is a name, not a path"), (["-o", "x", "--size", "0x5"], "not a size such as 1920x1080"),
    (["-o", "x", "--size", "8x8", "--video", "a.mp4"], "--size does not apply to --video"),
    (["-o", "x", "--format", "yolo"], "invalid choice: 'yolo'"), (["-o", "x", "--fps", "0"], "not a positive number"),
])
def test_unusable_flags_end_with_status_2(monkeypatch, capsys, flags, words):
    monkeypatch.setattr("sys.argv", ["prepare_data_2d.py", "-i", "clip.npz", *flags])
    with pytest.raises((UsageError, SystemExit)) as caught:
        prepare_data_2d.get_args()
    assert words in str(caught.value) + capsys.readouterr().err
