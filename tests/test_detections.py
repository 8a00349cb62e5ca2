"""2D detections: every detector's files give back the motion that made them, and broken ones a line that names them."""
import io
import json
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest
from detected import FRAMES, moved, read_person, walk, without

from common.detections import FORMATS, person_keypoints, read_detections
from common.keypoints import COCO_17_NAMES
from common.synthetic_detections import (
    LAYOUT_OF,
    WRITERS,
    one_person,
    people_of,
    write_alphapose,
    write_detectron,
    write_mmpose,
    write_openpose,
)
from common.synthetic_detections import write_coco_results as write_coco
from common.utils import DataError, SuiteError, UsageError


@pytest.fixture(scope="module")
def motion():
    return walk()


def write(folder, file_format, people, **options):
    path = folder / {"detectron": "clip.mp4.npz", "openpose": "clip"}.get(file_format, f"clip_{file_format}.json")
    WRITERS[file_format](path, people, **options)
    return path


def entries_of(array):
    """An object array of these frames."""
    made = np.empty(len(array), dtype=object)
    made[:] = array
    return made


# --- formats ---

@pytest.mark.parametrize("file_format", WRITERS)
def test_a_detectors_files_give_back_the_motion_and_its_gaps(tmp_path, file_format):
    layout = LAYOUT_OF[file_format]
    motion = without(walk(layout=layout), slice(10, 14))
    motion[20, 3] = np.nan
    path = write(tmp_path, file_format, people_of([motion]))
    found = read_detections(path)
    assert (found.layout, found.frames, found.file_format) == (layout, FRAMES, file_format)
    present = np.flatnonzero(np.isfinite(motion).any(axis=(1, 2)))
    assert np.array_equal(found.frame, present) and found.keypoints.dtype == np.float32
    assert np.allclose(found.keypoints, motion[present], atol=1e-3, equal_nan=True)
    assert found.scores[0, 0] == np.float32(0.9) and found.scores[found.frame == 20][0, 3] == 0
    boxes = [one_person(motion[frame])[2] for frame in present]
    if file_format in ("detectron", "alphapose", "mmpose"):
        assert np.allclose(found.boxes, boxes, atol=0.01)
    keypoints, notices = person_keypoints(found)
    assert keypoints.shape == motion.shape and np.isfinite(keypoints).all()
    assert np.allclose(keypoints[present][:10], motion[:10], atol=1e-3)
    expected = motion[9] + (motion[14] - motion[9]) * 2 / 5
    assert np.allclose(keypoints[11], expected, atol=1e-3)
    assert np.allclose(keypoints[20, 3], (motion[19, 3] + motion[21, 3]) / 2, atol=1e-3)
    assert len(notices) == 2 and "4 of 40 frames (at most 4 in a row)" in notices[0] and "1 joint pos" in notices[1]


@pytest.mark.parametrize("file_format", WRITERS)
def test_all_formats_agree_on_people_and_ids(tmp_path, file_format):
    layout = LAYOUT_OF[file_format]
    motion = walk(layout=layout)
    other = moved(motion, 0.6, motion.mean(axis=1) + [300, 0])
    people = people_of([other, motion], ids=[3, 7], seed=0)
    found = read_detections(write(tmp_path, file_format, people))
    keypoints, notices = person_keypoints(found)
    assert np.allclose(keypoints, motion, atol=1e-3)
    if file_format == "detectron":  # which knows no tracks
        assert found.ids is None
        return
    assert found.ids.tolist() == [entry[3] for frame in people for entry in frame] and "7 is taken" in notices[0]
    assert np.allclose(person_keypoints(found, 3)[0], other, atol=1e-3)
    with pytest.raises(UsageError, match=r"--person 0: .* 3 \(40 frames, \d+ pixels high\), 7 \(40 frames"):
        person_keypoints(found, 0)


def test_detectron_arrays_in_other_packings_are_the_same(tmp_path, motion):
    rows = np.stack([motion[..., 0], motion[..., 1], motion[..., 0] * 0 + 5, motion[..., 0] * 0 + 0.7], axis=1)
    soft = np.concatenate([rows + 9, rows[:, :2]], axis=1)
    packed = {
        "classes": entries_of([[[], row[None]] for row in rows]),
        "lists of people": entries_of([[[], [row]] for row in rows]),
        "joints first": entries_of([[[], row.T[None]] for row in rows]),
        "three rows": entries_of([[[], row[[0, 1, 3]].T[None]] for row in rows]),
        "soft maximum": entries_of([[[], row[None]] for row in soft]),
        "regular": rows[:, None],
        "more classes": entries_of([[[], row[None], []] for row in rows]),
    }
    for name, keypoints in packed.items():
        np.savez(tmp_path / "clip.npz", keypoints=keypoints)
        found = read_detections(tmp_path / "clip.npz")
        assert np.allclose(found.keypoints, motion, atol=1e-3), name
        assert found.size is None and np.allclose(found.boxes[:, :2], motion.min(axis=1), atol=1e-3)
    nobody = entries_of([None, [], [[], []], [None, None], *packed["classes"]])
    np.savez(tmp_path / "clip.npz", keypoints=nobody, metadata=np.array({"w": 640, "h": np.int64(480)}, dtype=object))
    found = read_detections(tmp_path / "clip.npz")
    assert found.frame[0] == 4 and found.frames == FRAMES + 4 and found.size == (640, 480)


class Python2Pickler(pickle._Pickler):
    """Writes texts and bytes as Python 2 does, which has one kind of both."""

    def save_text(self, text):
        text = text.encode() if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)

    dispatch = {**pickle._Pickler.dispatch, str: save_text, bytes: save_text}


def test_detectron_files_of_python_2_are_the_same(tmp_path, motion):
    rows = np.stack([motion[..., 0], motion[..., 1], motion[..., 0] * 0 + 5, motion[..., 0] * 0 + 0.7], axis=1)
    arrays = {"keypoints": entries_of([[[], [row]] for row in rows]),
              "metadata": np.array({"w": np.int64(640), "h": 480}, dtype=object)}
    with zipfile.ZipFile(tmp_path / "clip.npz", "w") as archive:
        for name, array in arrays.items():
            stream = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "|O", "fortran_order": False, "shape": array.shape})
            Python2Pickler(stream, 2).dump(array)
            archive.writestr(f"{name}.npy", stream.getvalue().replace(b"numpy._core", b"numpy.core"))
    found = read_detections(tmp_path / "clip.npz")
    assert np.allclose(found.keypoints, motion, atol=1e-3) and found.size == (640, 480)


def test_openposes_18_joints_and_alphaposes_136_are_those_of_known_layouts(tmp_path, motion):
    names = ("nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip "
             "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear").split()
    order = [COCO_17_NAMES.index(name) if name != "neck" else 0 for name in names]
    write_openpose(tmp_path / "clip", people_of([motion[:, order]]))
    found = read_detections(tmp_path / "clip")
    assert found.layout == "coco" and np.allclose(found.keypoints, motion, atol=1e-3)
    whole = np.concatenate([walk(layout="halpe26"), np.ones((FRAMES, 110, 2))], axis=1)
    write_alphapose(tmp_path / "a.json", people_of([whole]))
    found = read_detections(tmp_path / "a.json")
    assert found.layout == "halpe26" and np.allclose(found.keypoints, whole[:, :26], atol=1e-3)


def test_alphapose_by_image_is_read(tmp_path, motion):
    content = {f"{frame}.jpg": {"version": "AlphaPose v0.3", "people": [
        {"pose_keypoints_2d": [*np.c_[pose, np.ones(17)].ravel()]}]} for frame, pose in enumerate(motion.tolist())}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert np.allclose(read_detections(tmp_path / "a.json").keypoints, motion, atol=1e-3)


def test_coco_annotations_tell_the_size_and_other_categories_are_left_out(tmp_path, motion):
    images = [{"id": 1000 + frame, "file_name": f"{frame:06d}.jpg", "width": 640, "height": 480}
              for frame in range(FRAMES)]
    people = [{"image_id": 1000 + frame, "category_id": 1, "keypoints": [*np.c_[pose, np.full(17, 2)].ravel()]}
              for frame, pose in enumerate(motion[:30])]
    other = {"image_id": 1000, "category_id": 2, "keypoints": [1.0] * 51}
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": [*people, other]}))
    found = read_detections(tmp_path / "a.json")
    assert (found.frames, found.size, found.file_format) == (FRAMES, (640, 480), "coco")
    assert np.allclose(found.keypoints, motion[:30], atol=1e-3)


# --- layouts ---

def test_names_of_joints_tell_layouts_of_the_same_number_apart(tmp_path):
    write_mmpose(tmp_path / "a.json", people_of([walk(layout="h36m")]), layout="h36m")
    assert read_detections(tmp_path / "a.json").layout == "h36m"
    write_coco(tmp_path / "b.json", people_of([walk(layout="h36m")]))
    assert read_detections(tmp_path / "b.json").layout == "coco"
    assert read_detections(tmp_path / "b.json", layout="h36m").layout == "h36m"
    with pytest.raises(UsageError, match="has 17 joints, the layout body25 has 25"):
        read_detections(tmp_path / "b.json", layout="body25")
    with pytest.raises(UsageError, match="unknown layout 'x'; choose from h36m"):
        read_detections(tmp_path / "b.json", layout="x")


def test_unknown_layouts_are_refused_with_the_known_ones(tmp_path, motion):
    write_coco(tmp_path / "a.json", people_of([motion[:, :14]]))
    with pytest.raises(DataError, match=r"14 joints are of no known layout: h36m \(17\), coco \(17\)"):
        read_detections(tmp_path / "a.json")
    write_mmpose(tmp_path / "b.json", people_of([motion]), layout="coco")
    content = json.loads((tmp_path / "b.json").read_text())
    content["meta_info"]["keypoint_id2name"]["0"] = "tail"
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="tail.* no known layout: h36m"):
        read_detections(tmp_path / "b.json")


# --- frame numbers ---

@pytest.mark.parametrize("writer, options, frames, first, said", [
    (write_alphapose, {"first": 0}, None, 0, False),
    (write_alphapose, {"first": 1}, None, 1, True),  # frame 0 has nobody
    (write_alphapose, {"first": 1, "image": "frame_{:06d}.jpg"}, None, 0, True),
    (write_alphapose, {"first": 1}, FRAMES, 0, False),
    (write_coco, {"first": 1}, None, 1, True),
    (write_coco, {"first": 1}, FRAMES, 0, False),
    (write_coco, {"first": 1}, FRAMES + 9, 1, True),
    (write_mmpose, {"first": 0}, None, 0, False),
    (write_mmpose, {"first": 1}, None, 0, False),
    (write_openpose, {"first": 0}, None, 0, False),
    (write_openpose, {"first": 12}, None, 0, True),
    (write_openpose, {"first": 12}, FRAMES + 12, 12, True),
    (write_openpose, {"first": 1}, FRAMES, 0, False),
])
def test_frames_are_counted_from_0(tmp_path, motion, writer, options, frames, first, said):
    writer(tmp_path / "a.json", people_of([motion]), **options)
    found = read_detections(tmp_path / "a.json", frames=frames)
    assert found.frame[0] == first and found.frames == (frames or first + FRAMES)
    assert bool(found.notices) == said


def test_the_first_frames_number_can_be_given_and_the_videos_length_is_kept(tmp_path, motion):
    write_coco(tmp_path / "a.json", people_of([motion]), first=1)
    assert read_detections(tmp_path / "a.json", first_frame=1).frame[0] == 0
    with pytest.raises(UsageError, match="--first-frame 2: .* frame number 1"):
        read_detections(tmp_path / "a.json", first_frame=2)
    with pytest.raises(DataError, match=r"last frame is number 40 .*the video has 39 frames"):
        read_detections(tmp_path / "a.json", frames=39)


def test_missing_openpose_files_are_missing_frames(tmp_path, motion):
    write_openpose(tmp_path / "clip", people_of([motion]))
    (tmp_path / "clip" / "clip_000000000007_keypoints.json").unlink()
    keypoints, notices = read_person(tmp_path / "clip")
    assert np.allclose(keypoints[7], (motion[6] + motion[8]) / 2, atol=1e-3) and "1 of 40 frames" in notices[0]
    (tmp_path / "clip" / "other_000000000007_keypoints.json").write_text('{"people": []}')
    with pytest.raises(DataError, match="frames of several videos"):
        read_detections(tmp_path / "clip")


# --- broken files ---

def test_absurd_coordinates_are_joints_not_found(tmp_path, motion):
    wrong = motion.astype(np.float64)
    wrong[3, 2], wrong[5, 2, 0], wrong[7, 2], wrong[9, 2] = np.inf, -1e30, 0, np.nan
    people = people_of([wrong])
    people[7][0][1][2] = 0
    write_detectron(tmp_path / "clip.npz", people)
    found = read_detections(tmp_path / "clip.npz")
    assert np.flatnonzero(np.isnan(found.keypoints).any(axis=(1, 2))).tolist() == [3, 5, 7, 9]
    assert np.isfinite(person_keypoints(found)[0]).all()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "CLIP.MOV"])
def test_the_video_itself_is_told_from_its_detections(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(DataError, match=f"{name}: is a video, and not what a 2D detector found in it"):
        read_detections(tmp_path / name)


def coco_entry(**changes):
    return [{"image_id": 0, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 17, "score": 0.5} | changes]


@pytest.mark.parametrize("content, words", [
    ("", "truncated, or not JSON"), ("[1, 2", "truncated, or not JSON"), ("[" * 100_000, "nested too deeply"),
    ("[]", "holds no detection at all"), ("{}", "none of the known formats: detectron"), ("3", "known formats"),
    ('{"people": []}', "one frame of OpenPose's"), ("[" + "9" * 5000 + "]", "not JSON"),
    (coco_entry(keypoints=[1.0] * 50), "frame 0: keypoints are 50 numbers"),
    (coco_entry(keypoints=[True] * 51), "frame 0: keypoints are not a list of numbers"),
    (coco_entry(keypoints=["1"] * 51), "frame 0: keypoints are not a list of numbers"),
    (coco_entry(keypoints=[10**400] * 51), "hundreds of digits"),
    (coco_entry(image_id=2**63), "entry 0: image_id is 9223372036854775808"),
    (coco_entry(image_id=10**12), "more than 1,000,000 frames"), (coco_entry(image_id=True), "image_id is True"),
    (coco_entry(image_id=-1), "image_id is -1"), (coco_entry(image_id="x.jpg"), "'x.jpg' holds no frame number"),
    (coco_entry(track_id=10**30), "the id of a person"), (coco_entry(bbox=[1, 2, 3]), "a box of 3 numbers"),
    (coco_entry(keypoints=[0.0] * 51), "holds no detection at all"), (coco_entry() * 201, "201 people in one frame"),
    (coco_entry() + coco_entry(image_id=1, keypoints=[1.0] * 48), "frame 1: keypoints are 48 numbers, not 51"),
    ([{"frame_id": 3, "instances": [{"keypoints": [[1, 2], [3]]}]}], "frame 3: an instance without"),
    ([{"frame_id": 3, "instances": [{"keypoints": [[1, 2]], "keypoint_scores": []}]}], "one for each joint"),
    ([{"frame_id": 3, "instances": [{"keypoints": [[1, 2, 3]], "keypoint_scores": [1]}]}], "three coordinates"),
    ([{"frame_id": 3, "instances": 5}], "list of frames"),
])
def test_broken_json_is_one_line_that_names_file_and_place(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_detections(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("arrays, words", [
    ({"positions_2d": np.zeros(1)}, "prepared already"), ({"a": np.zeros(1)}, "none of the known formats"),
    ({"keypoints": np.zeros(())}, "not a list of frames"), ({"keypoints": np.array(["x"])}, "frame 0"),
    ({"keypoints": entries_of([[[], np.zeros((1, 4, 5))]])}, "frame 0: keypoints are (1, 4, 5)"),
    ({"keypoints": entries_of([[[], np.ones((1, 4, 17), bool)]])}, "frame 0: keypoints are not an array of numbers"),
    ({"keypoints": entries_of([[[], [[1], [2, 3]]]])}, "frame 0: keypoints are not an array of numbers"),
    ({"keypoints": entries_of([[[], []]])}, "no detection at all in 1 frames"),
    ({"keypoints": np.ones((3, 1, 4, 17)), "boxes": np.ones((2, 1, 5))}, "boxes of 2 frames and keypoints of 3"),
    ({"keypoints": np.ones((3, 2, 4, 17)), "boxes": np.ones((3, 1, 5))}, "frame 0: boxes are (1, 5), and 2 people"),
    ({"keypoints": np.ones((3, 1, 4, 17)), "metadata": np.array({"w": 0, "h": "x"}, dtype=object)}, "gives the size"),
])
def test_broken_detectron_files_are_one_line_that_names_file_and_frame(tmp_path, arrays, words):
    np.savez(tmp_path / "clip.npz", **arrays)
    with pytest.raises(DataError) as caught:
        read_detections(tmp_path / "clip.npz")
    assert words in str(caught.value) and "clip.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_every_truncation_or_flip_is_read_or_refused_in_one_line(tmp_path, motion):
    rng = random.Random(0)
    for name in ("detectron", "alphapose", "mmpose", "coco"):
        path = write(tmp_path, name, people_of([walk(3, LAYOUT_OF[name])]))
        whole = path.read_bytes()
        for _ in range(30):
            damaged = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
            for _ in range(rng.choice([0, 1, 9])):
                if damaged:
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            path.write_bytes(damaged)
            try:
                assert np.isfinite(read_person(path)[0]).all()
            except SuiteError as error:
                assert str(path) in str(error) and "\n" not in str(error)


def test_files_without_anybody_are_said_to_be_empty(tmp_path):
    for content in ([{"image_id": 0, "category_id": 2, "keypoints": [1, 2, 1] * 17}],
                    {"instance_info": [{"frame_id": 1, "instances": []}]}, {"instance_info": []}, []):
        (tmp_path / "a.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match="holds no detection at all"):
            read_detections(tmp_path / "a.json")


def test_another_format_than_the_one_named_is_refused(tmp_path, motion):
    people = people_of([motion])
    paths = {name: write(tmp_path, name, people) for name in WRITERS}
    for named in FORMATS[1:]:
        for real, path in paths.items():
            if named != real and {named, real} != {"alphapose", "coco"}:
                with pytest.raises(DataError, match="known formats|OpenPose|damaged|not JSON"):
                    read_detections(path, named)
    with pytest.raises(UsageError, match="unknown format 'x'; choose from auto, detectron"):
        read_detections(tmp_path, "x")
    with pytest.raises(DataError, match="no such file or folder"):
        read_detections(tmp_path / "none")
