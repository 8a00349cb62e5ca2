"""Miniature raw datasets: recordings of demo people in the files and with the properties of the real ones."""
import h5py
import numpy as np
import pytest
import scipy.io

from common import synthetic_raw
from common.keypoints import MPI_INF_3DHP_17
from common.mpi3dhp_dataset import JOINTS_OF_28, TEST_SEQUENCES, TRAINING_SEQUENCES
from common.synthetic_raw import NAMES_28, camera_space, pixels, recording, universal_scale, weights_28

FRAMES, TEST_FRAMES = 20, 23


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("3dhp")
    synthetic_raw.write_mpi_inf_3dhp(folder, FRAMES, TEST_FRAMES, subjects=("S2",), test_sequences=("TS1",))
    return folder


def test_only_what_is_asked_for_is_written(raw):
    files = [path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file()]
    assert sorted(files) == ["S2/Seq1/annot.mat", "S2/Seq2/annot.mat", "TS1/annot_data.mat"]


def test_every_joint_is_a_mean_of_joints_of_its_side():
    assert len(NAMES_28) == 28 and np.allclose(weights_28().sum(1), 1)
    for name, sources in synthetic_raw.MPI_INF_3DHP_28.items():
        for side, other in (("left", "right"), ("right", "left")):
            assert not name.startswith(side) or not any(source.startswith(other) for source in sources)


def every_view():
    """(name, camera, universal poses (60, 17, 3) in millimetres) of all sequences and cameras."""
    for name in (*TRAINING_SEQUENCES, *TEST_SEQUENCES):
        positions = recording(name, 60)[0]
        test = name in TEST_SEQUENCES
        for camera in [synthetic_raw.camera_of(name)] if test else synthetic_raw.training_cameras():
            yield name, camera, universal_scale(positions) * camera_space(positions, camera)[:, JOINTS_OF_28]


def test_people_are_well_inside_the_image_and_large_enough():
    for name, camera, poses in every_view():
        flat = pixels(poses, camera)
        assert flat.min() > 100 and (flat < np.array(camera["size"]) - 100).all(), name
        assert np.ptp(flat, axis=1).max(-1).mean() > 150 and poses[..., 2].min() > 1000


def test_the_walker_stands_upright_with_y_pointing_down():
    walker = camera_space(recording("TS1", 8)[0], synthetic_raw.camera_of("TS1"))[0, JOINTS_OF_28]
    assert (walker[[10, 13], 1] - walker[0, 1] > 1000).all()


def test_bones_keep_their_length_and_people_their_universal_height():
    for name, _, poses in every_view():
        for child, parent in MPI_INF_3DHP_17.bones():
            parent = parent if child else 16  # the top of the head moves with the head, which the neck carries
            assert np.ptp(np.linalg.norm(poses[:, child] - poses[:, parent], axis=-1)) < 0.5, name
        height = np.linalg.norm(poses[0, 9] - poses[0, 8]) + np.linalg.norm(
            np.diff(poses[0, [14, 15, 1]], axis=0), axis=-1).sum()
        assert height == pytest.approx(920, abs=20)


def test_a_recording_goes_on_where_it_was():
    root = recording("S4 Seq2", 400)[0][:, 4, :2]
    assert np.linalg.norm(np.diff(root, axis=0), axis=-1).max() < 0.15  # metres in 1/25 second
    assert np.abs(root).max() < 1.7


def test_people_and_seeds_differ():
    first = recording("S1 Seq1", 8)[0]
    assert np.array_equal(first, recording("S1 Seq1", 8)[0])
    assert np.abs(first - recording("S1 Seq1", 8, seed=1)[0]).max() > 0.02
    assert universal_scale(first) != pytest.approx(universal_scale(recording("S2 Seq1", 8)[0]), abs=1e-3)


def test_metric_and_universal_poses_project_to_the_same_pixels(raw):
    content = scipy.io.loadmat(raw / "S2" / "Seq2" / "annot.mat")
    for number, camera in enumerate(synthetic_raw.training_cameras()):
        for variable in ("annot3", "univ_annot3"):
            poses = content[variable][number, 0].reshape(FRAMES, 28, 3).astype(np.float64)
            flat = content["annot2"][number, 0].reshape(FRAMES, 28, 2)
            np.testing.assert_allclose(pixels(poses, camera), flat, atol=2e-3)
    assert content["frames"].shape == (FRAMES, 1) and content["cameras"].shape == (1, 14)


def test_test_files_are_matlab_7_3(raw):
    assert (raw / "TS1" / "annot_data.mat").read_bytes()[:10] == b"MATLAB 7.3"
    with h5py.File(raw / "TS1" / "annot_data.mat") as file:
        assert file.userblock_size == 512 and file["annot2"].attrs["MATLAB_class"] == b"double"
        assert file["univ_annot3"].shape == (TEST_FRAMES, 1, 17, 3) and file["valid_frame"].shape == (TEST_FRAMES, 1)


def test_somebody_who_rolls_on_the_floor_lies_on_it():
    positions, activity = recording("TS3", 200)
    lying = positions[activity == 5]
    assert 0.09 < lying[..., 2].min() and lying[..., 2].max() < 1.0
    assert positions[activity == 1][:, NAMES_28.index("head_top"), 2].min() > 1.2
