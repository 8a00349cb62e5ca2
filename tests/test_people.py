"""Who is who in 2D detections, who the main person is, and what becomes of frames and joints that were not found."""
import numpy as np
import pytest
from detected import moved, read_person, walk, without

from common.detections import read_detections
from common.synthetic_detections import people_of, write_detectron, write_mmpose
from common.synthetic_detections import write_coco_results as write_coco
from common.utils import UsageError


@pytest.fixture(scope="module")
def motion():
    return walk()


@pytest.fixture(scope="module")
def long_motion():
    return walk(200)


def crowd(name, motion):
    """Motions of several people, the first of whom is the main person."""
    frames, middle = len(motion), motion.mean(axis=1)
    time = np.arange(frames)
    beside = moved(motion[::-1], 0.7, middle + [280, 0])
    passing = moved(motion, 1.5, np.c_[np.linspace(-300, 1300, frames), np.full(frames, 500)])
    passing = without(passing, slice(0, 70), slice(130, frames))
    giant = without(moved(motion, 4, middle), slice(0, 90), slice(91, frames))
    crossing = moved(motion[::-1], 0.95, middle + np.c_[(time - 100) * 6.0, np.zeros(frames)])
    crossing = without(crossing, slice(0, 30), slice(170, frames))
    lingering = without(moved(motion, 2.3, middle + [300, 0]), slice(0, 70), slice(130, frames))
    return {"a smaller one": [motion, beside],
            "a far larger one who lingers": [motion, lingering],
            "a larger one who passes": [motion, passing],
            "a giant in one frame": [without(motion, 90), giant],
            "one who crosses": [motion, crossing],
            "one who crosses behind": [without(motion, slice(92, 108)), crossing],
            "one who stays while the main is away": [without(motion, slice(60, 110)), beside],
            "all of them": [motion, beside, passing, giant, crossing]}[name]


@pytest.mark.parametrize("name", ["a smaller one", "a larger one who passes", "a far larger one who lingers",
                                  "a giant in one frame", "one who crosses", "one who crosses behind",
                                  "one who stays while the main is away", "all of them"])
def test_the_main_person_is_never_mistaken_for(tmp_path, long_motion, name):
    motions = crowd(name, long_motion)
    write_detectron(tmp_path / "clip.npz", people_of(motions, seed=3))
    keypoints, notices = read_person(tmp_path / "clip.npz")
    found = np.isfinite(motions[0]).all(axis=(1, 2))
    assert np.allclose(keypoints[found], long_motion[found], atol=1e-3)
    assert f"{len(motions)} people were found" in notices[0]


def test_people_are_numbered_in_the_order_of_appearance(tmp_path, long_motion):
    motions = crowd("a larger one who passes", long_motion)
    write_detectron(tmp_path / "clip.npz", people_of(motions))
    keypoints, _ = read_person(tmp_path / "clip.npz", person=1)
    assert np.allclose(keypoints[70:130], motions[1][70:130], atol=1e-3)
    assert np.allclose(keypoints[0], motions[1][70], atol=1e-3)  # ends are held
    with pytest.raises(UsageError, match=r"--person 2: .* 0 \(200 frames, \d+ pixels high\), 1 \(60 frames"):
        read_person(tmp_path / "clip.npz", person=2)


def test_of_two_detections_of_one_person_the_better_is_taken(tmp_path, motion):
    people = people_of([motion])
    for frame in people[5:]:
        joints, scores, box, _ = frame[0]
        frame.insert(0, (joints + 8, scores * 0.5, box + 8, None))
    write_detectron(tmp_path / "clip.npz", people)
    keypoints, notices = read_person(tmp_path / "clip.npz")
    assert np.allclose(keypoints, motion, atol=1e-3) and not notices


def test_a_track_whose_id_changed_goes_on(tmp_path, long_motion):
    people = people_of([without(long_motion, slice(100, 105)), moved(long_motion, 0.8, long_motion[:, 0] + [300, 0])],
                       ids=[1, 2], seed=0)
    for frame, entries in enumerate(people):
        people[frame] = [(*entry[:3], 9 if entry[3] == 1 and frame > 100 else entry[3]) for entry in entries]
    write_mmpose(tmp_path / "a.json", people)
    keypoints, notices = read_person(tmp_path / "a.json")
    assert "1, 9 is taken" in notices[0] and np.allclose(keypoints[105:], long_motion[105:], atol=1e-3)
    assert np.allclose(read_person(tmp_path / "a.json", person=9)[0][:105], long_motion[105], atol=1e-3)


def test_ids_that_two_people_exchange_do_not_lead_to_the_other(tmp_path, long_motion):
    small = moved(long_motion, 0.5, long_motion[:, 0] + [300, 0])
    people = people_of([long_motion, small], ids=[1, 2], seed=0)
    for frame, entries in enumerate(people):
        people[frame] = [(*entry[:3], 3 - entry[3] if frame >= 80 else entry[3]) for entry in entries]
    write_mmpose(tmp_path / "a.json", people)
    keypoints, notices = read_person(tmp_path / "a.json")
    assert np.allclose(keypoints, long_motion, atol=1e-3) and "2 people were found" in notices[0]
    assert "1, 2 is taken" in notices[0]
    asked = read_person(tmp_path / "a.json", person=2)[0]  # who asks for an id is given what the file says
    assert np.allclose(asked[:80], small[:80], atol=1e-3) and np.allclose(asked[80:], long_motion[80:], atol=1e-3)


def test_ids_that_name_two_people_of_a_frame_are_not_used(tmp_path, motion):
    write_mmpose(tmp_path / "a.json", people_of([motion, moved(motion, 0.8, motion[:, 0] + [300, 0])], ids=[4, 4]))
    found = read_detections(tmp_path / "a.json")
    assert found.ids is None and "track ids" in found.notices[0]


# --- gaps ---

def test_joints_never_found_lie_on_their_parents_and_are_named(tmp_path, motion):
    motion = motion.copy()
    motion[:, [13, 15]] = np.nan  # the left knee and ankle
    write_coco(tmp_path / "a.json", people_of([motion]))
    keypoints, notices = read_person(tmp_path / "a.json")
    assert np.allclose(keypoints[:, [13, 15]], motion[:, [11, 11]], atol=1e-3)
    assert "left_knee, left_ankle" in notices[0] and len(notices) == 1


def test_a_person_who_is_mostly_missing_is_warned_of(tmp_path, motion):
    write_detectron(tmp_path / "clip.npz", people_of([without(motion, slice(0, 30))]))
    keypoints, notices = read_person(tmp_path / "clip.npz")
    assert np.allclose(keypoints[:30], motion[30], atol=1e-3)
    assert notices[0].startswith("WARNING: ") and "30 of 40 frames (at most 30 in a row)" in notices[0]
