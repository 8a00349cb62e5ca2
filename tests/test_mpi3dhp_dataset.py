"""MPI-INF-3DHP's npz files, as published, as prepared, and broken."""
import numpy as np
import pytest

from common.mpi3dhp_dataset import load_test, load_training
from common.utils import DataError


def poses(frames=6, seed=0):
    rng = np.random.default_rng(seed)
    return {"data_2d": rng.uniform(0, 2048, (frames, 17, 2)), "data_3d": rng.normal(0, 500, (frames, 17, 3))}


def save(folder, kind, data):
    np.savez(folder / f"data_{kind}_3dhp.npz", data=np.array(data, dtype=object))
    return folder


def test_training_files_give_root_relative_millimetres_per_sequence_and_camera(tmp_path):
    views = {str(camera): poses(seed=camera) for camera in (0, 4)}
    views["4"]["data_2d"] = np.concatenate([views["4"]["data_2d"], np.ones((6, 17, 1))], -1)  # with confidences
    save(tmp_path, "train", {"S1 Seq1": [views, 25], "S8 Seq2": [{2: poses(4)}, 50]})
    first, second, third = load_training(tmp_path)
    assert (first.subject, first.action, second.camera_index, third.subject, len(third)) == ("S1", "Seq1", 1, "S8", 4)
    truth = views["0"]["data_3d"]
    np.testing.assert_allclose(first.positions, truth - truth[:, 14:15], atol=1e-3)
    np.testing.assert_allclose(first.positions + first.trajectory, truth, atol=1e-3)
    np.testing.assert_allclose(first.keypoints, views["0"]["data_2d"] / 1024 - 1, atol=1e-6)
    assert first.positions.dtype == first.keypoints.dtype == np.float32
    thinned = load_training(tmp_path, subset=0.5, downsample=2)
    assert [len(sequence) for sequence in thinned] == [2, 2, 1]


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 6)])
@pytest.mark.parametrize("dtype", [bool, np.float64, np.uint8])
def test_test_files_tell_which_frames_count_whatever_the_shape_of_their_labels(tmp_path, shape, dtype):
    valid = np.array([1, 0, 1, 1, 0, 1], bool)
    wide = {**poses(), "valid": valid.astype(dtype).reshape(shape), "activity": np.arange(6.0).reshape(shape)}
    save(tmp_path, "test", {"TS5": wide})
    (sequence,) = load_test(tmp_path)
    np.testing.assert_array_equal(sequence.scored_frames(), [0, 2, 3, 5])
    truth = wide["data_3d"] - wide["data_3d"][:, 14:15]
    np.testing.assert_array_equal(sequence.target(), truth[valid])  # in the precision of the file
    np.testing.assert_array_equal(sequence.activity, np.arange(6))
    np.testing.assert_allclose(sequence.keypoints, wide["data_2d"] / 960 - [1, 1080 / 1920], atol=1e-6)  # 1920 x 1080


def test_dictionaries_that_numpy_wrapped_are_taken_out(tmp_path):
    wrapped = np.array({**poses(), "valid": np.ones(6)}, dtype=object)
    save(tmp_path, "test", {"TS1": wrapped})
    save(tmp_path, "train", {"S1 Seq1": [np.array({"0": np.array(poses(), dtype=object)}, dtype=object), 25]})
    assert len(load_test(tmp_path)[0]) == len(load_training(tmp_path)[0]) == 6


def test_downsampling_thins_labels_and_poses_alike(tmp_path):
    whole = {**poses(9), "valid": np.arange(9) != 4, "activity": np.arange(9) % 7}
    save(tmp_path, "test", {"TS1": whole})
    (sequence,) = load_test(tmp_path, downsample=2)
    np.testing.assert_array_equal(sequence.activity, [0, 2, 4, 6, 1])
    np.testing.assert_array_equal(sequence.activity[sequence.valid], [0, 2, 6, 1])


def test_frames_that_do_not_count_may_hold_anything_in_3d_but_not_in_2d(tmp_path):
    sequence = {**poses(), "valid": np.arange(6) > 0}
    sequence["data_3d"][0] = np.nan
    save(tmp_path, "test", {"TS1": sequence})
    assert len(load_test(tmp_path)[0].target()) == 5
    sequence["data_2d"][0, 3] = np.inf
    save(tmp_path, "test", {"TS1": sequence})
    with pytest.raises(DataError, match="data_2d holds NaN or infinite values .first in frame 0"):
        load_test(tmp_path)


def changed(key, value):
    return {**poses(), "valid": np.ones(6), key: value}


@pytest.mark.parametrize(("content", "words"), [
    ({}, "no `data`"),
    ({"TS1": None}, "data_2d"),
    ({"TS1": {"data_2d": np.zeros((6, 17, 2))}}, "data_3d"),
    ({"TS9": changed("valid", np.ones(6))}, "TS9 is no test sequence"),
    ({"TS1": changed("data_3d", np.zeros((6, 16, 3)))}, r"\(6, 16, 3\)"),
    ({"TS1": changed("data_3d", np.zeros((6, 17, 3), int))}, "floats"),
    ({"TS1": changed("data_2d", np.zeros((5, 17, 2)))}, "data_2d has 5 frames, data_3d has 6"),
    ({"TS1": changed("data_2d", "pixels")}, "str"),
    ({"TS1": changed("data_3d", np.full((6, 17, 3), np.nan))}, "first in frame 0"),
    ({"TS1": changed("valid", np.ones(5))}, r"`valid` is \(5,\)"),
    ({"TS1": changed("valid", None)}, "no `valid`"),
    ({"TS1": changed("valid", np.full(6, np.nan))}, "`valid` holds nan"),
    ({"TS1": changed("activity", np.full(6, 8))}, "`activity` holds 8"),
    ({"TS1": changed("data_3d", np.full((6, 17, 3), [1e300, np.inf, 0]))}, "first in frame 0"),
    ({"TS1": np.array(3)}, "data_2d"),
    ({"TS1": changed("valid", np.zeros(6))}, "no valid frames"),
    ({"TS1": changed("activity", np.array(list("abcdef")))}, "`activity`"),
    ({"TS1": {"data_2d": np.zeros((0, 17, 2)), "data_3d": np.zeros((0, 17, 3)), "valid": np.zeros(0)}}, "no frames"),
], ids=str)
def test_a_broken_test_file_is_named_with_its_sequence(tmp_path, content, words):
    save(tmp_path, "test", content)
    with pytest.raises(DataError, match=words) as caught:
        load_test(tmp_path)
    assert "data_test_3dhp.npz" in str(caught.value)


@pytest.mark.parametrize(("content", "words"), [
    ({"S1 Seq1": poses()}, "S1 Seq1 is not"),
    ({"S1 Seq1": [{}, 25]}, "S1 Seq1 is not"),
    ({"S1 Seq1": np.array(3)}, "S1 Seq1 is not"),
    ({"S1 Seq1": [{"0": {**poses(), "data_3d": np.full((6, 17, 3), 1e300)}}, 25]}, "camera 0.*first in frame 0"),
    ({"S1 Seq1": [{"0": poses(), "1": {}}, 25]}, "S1 Seq1 camera 1"),
    ({"S1 Seq1": [{"0": {**poses(), "data_2d": np.full((6, 17, 2), np.nan)}}, 25]}, "camera 0.*frame 0"),
], ids=str)
def test_a_broken_training_file_is_named_with_its_sequence_and_camera(tmp_path, content, words):
    save(tmp_path, "train", content)
    with pytest.raises(DataError, match=words):
        load_training(tmp_path)


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match="prepare_data_3dhp.py"):
        load_training(tmp_path)


def test_a_file_that_holds_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return eval, ("1/0",)

    np.savez(tmp_path / "data_test_3dhp.npz", data=np.array({"TS1": Evil()}, dtype=object))
    with pytest.raises(DataError, match="refused"):
        load_test(tmp_path)
