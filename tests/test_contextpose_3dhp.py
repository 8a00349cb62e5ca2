"""MPI-INF-3DHP's test sequences for ContextPose: cameras, boxes and joints of demo people, PCK of true poses."""
import functools
import pickle
import shutil
import sys
from unittest import mock

import h5py
import numpy as np
import pytest
from conftest import ROOT

import prepare_data_demo
from common.contextpose.config import load_config
from common.contextpose.evaluation import project_joints
from common.contextpose.mpi3dhp_images import BOX_SCALE, Mpi3dhpTestViews, boxes_round
from common.contextpose.samples import collate
from common.keypoints import (
    CONTEXTPOSE_17,
    CONTEXTPOSE_17_FROM_MPI_INF_3DHP,
    CONTEXTPOSE_17_NAMES,
    MPI_INF_3DHP_17,
    MPI_INF_3DHP_FROM_CONTEXTPOSE_17,
    MPI_INF_3DHP_NAMES,
)
from common.mpi3dhp_raw import read_test
from common.synthetic_raw import camera_of, write_mpi_inf_3dhp, write_test_annotation
from common.utils import DataError, UsageError

EXPERIMENT = ROOT / "experiments/mpi_inf_3dhp/eval/mpi_inf_3dhp_vol_softmax_single.yaml"
SIZE = 96


def config_of(folder, *overrides):
    return load_config(EXPERIMENT, [f"dataset.root={folder}", f"model.image_shape=[{SIZE}, {SIZE}]", *overrides])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two sequences of 24 frames, of which 2 are valid and have pictures."""
    folder = tmp_path_factory.mktemp("3dhp")
    write_mpi_inf_3dhp(folder, test_frames=24, subjects=(), test_sequences=("TS1", "TS5"), images=2)
    return folder


@pytest.fixture(scope="module")
def views(tree):
    return Mpi3dhpTestViews(config_of(tree))


@pytest.fixture
def copy(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "set")
    return tmp_path / "set"


def test_the_maps_are_inverse_and_keep_names_sides_and_root():
    back = [MPI_INF_3DHP_FROM_CONTEXTPOSE_17[joint] for joint in CONTEXTPOSE_17_FROM_MPI_INF_3DHP]
    assert back == list(range(17)) and sorted(MPI_INF_3DHP_FROM_CONTEXTPOSE_17) == back
    pairs = {name: CONTEXTPOSE_17_NAMES[joint]
             for name, joint in zip(MPI_INF_3DHP_NAMES, MPI_INF_3DHP_FROM_CONTEXTPOSE_17, strict=True)}
    assert {name: other for name, other in pairs.items() if name != other} == {
        "head_top": "head", "head": "nose", "spine": "belly"}
    left = [MPI_INF_3DHP_FROM_CONTEXTPOSE_17[joint] for joint in MPI_INF_3DHP_17.joints_left()]
    assert sorted(left) == sorted(CONTEXTPOSE_17.joints_left())
    assert MPI_INF_3DHP_FROM_CONTEXTPOSE_17[MPI_INF_3DHP_17.root()] == CONTEXTPOSE_17.root()


def test_true_poses_are_all_within_the_threshold(views):
    keys = views.keys()
    assert len(views) == 4 and keys == [(row, (0,)) for row in range(4)]
    metrics, text = views.report(views.keypoints, keys)
    assert metrics["pck"] == 100 and metrics["auc"] == pytest.approx(100 * 30 / 31)  # none is strictly below 0 mm
    assert metrics["mpjpe_mm"] < 1e-3 and metrics["frames"] == 4
    assert set(metrics["tables"]["sequences"]) == {"TS1", "TS5"} and "activities" in metrics["tables"]
    for words in ("PCK 100.0 %", "univ_annot3", "fitted to the ground truth",
                  "TS1 f 1500 1500 c 1024 1024 (0.0 px off)", "TS5 f 1680 1680 c 960 540",
                  "the true pelvis", f"{BOX_SCALE} times", "TS2, TS3, TS4, TS6 not there"):
        assert words in text, words
    moved = views.report(views.keypoints + np.float32([0, 400, 90]), keys)[0]
    assert moved["pck"] == 100 and moved["mpjpe_mm"] < 1e-3, "errors are relative to the pelvis"


def test_every_joint_is_scored_under_its_own_name(views):
    wrong = views.keypoints.copy()
    wrong[:, CONTEXTPOSE_17_NAMES.index("head"), 2] += 200
    wrong[:2, CONTEXTPOSE_17_NAMES.index("left_wrist"), 1] += 70
    result = views.report(wrong, views.keys())[0]["tables"]
    joints = result["all"]["joints"]
    assert joints["head_top"]["mpjpe"] == pytest.approx(200, abs=0.01)
    assert joints["left_wrist"]["mpjpe"] == pytest.approx(35, abs=0.01)
    assert sum(joint["mpjpe"] > 0.01 for joint in joints.values()) == 2
    assert result["all"]["groups"]["Head"]["pck"] == 0 and result["all"]["groups"]["Wrist"]["pck"] == 100
    assert result["sequences"]["TS5"]["joints"]["left_wrist"]["mpjpe"] < 0.01


def test_the_world_is_level_and_people_in_it_are_upright(views):
    upright = views.keypoints[:, CONTEXTPOSE_17_NAMES.index("head")] - views.keypoints[:, CONTEXTPOSE_17.root()]
    assert (upright[:, 2] > 500).all() and (np.abs(upright[:, :2]) < 300).all()
    assert (views.keypoints[..., 1] > 1000).all(), "in front of the camera"


def test_projections_land_on_the_2d_annotation_and_inside_the_crop(views, tree):
    shown = project_joints(views.keypoints, views.projections(views.keys()))
    true = []
    for name in ("TS1", "TS5"):
        sequence, _ = read_test(tree / name / "annot_data.mat", name)
        true.append(sequence["data_2d"][sequence["valid"]][:, CONTEXTPOSE_17_FROM_MPI_INF_3DHP])
    true = np.concatenate(true)
    boxes = boxes_round(true)
    sides = (boxes[:, 2] - boxes[:, 0])[:, None, None]
    np.testing.assert_allclose(shown, (true - boxes[:, None, [1, 0]]) * SIZE / sides, atol=0.05)
    extent = np.ptp(shown, axis=1).max(-1)
    np.testing.assert_allclose(extent, SIZE / BOX_SCALE, rtol=0.01)
    assert shown.min() > 0 and shown.max() < SIZE


def test_samples_show_the_person_where_the_joints_are(views):
    samples = [views[key] for key in views.keys()]
    batch = collate(samples)
    assert batch.images.shape == (4, 1, SIZE, SIZE, 3) and batch.projections.shape == (4, 1, 3, 4)
    assert batch.keys == views.keys()
    for sample, row in zip(samples, range(4), strict=True):
        assert sample.images.dtype == np.uint8 and sample.projections.dtype == sample.keypoints.dtype == np.float32
        assert np.array_equal(sample.pelvis, sample.keypoints[CONTEXTPOSE_17.root()])
        image = sample.images[0].astype(int)
        background = np.median(image[:, :3], axis=1)[:, None]  # the wall and the floor beside the person, row by row
        different = (np.abs(image - background).max(-1) > 40)
        columns, rows = project_joints(sample.keypoints[None], sample.projections[None])[0].round().astype(int).T
        assert different[rows, columns].mean() > 0.8, row
        assert different[:, :3].mean() < 0.2


def test_only_chosen_frames_are_keys_and_need_pictures(copy):
    sorted((copy / "TS5" / "imageSequence").iterdir())[1].unlink()
    views = Mpi3dhpTestViews(config_of(copy, "val.retain_every_n_frames_in_test=2"))
    assert views.keys() == [(0, (0,)), (2, (0,))]
    metrics, text = views.report(views.keypoints[[0, 2]], views.keys())
    assert metrics["pck"] == 100 and metrics["frames"] == 2 and "one of 2 valid frames" in text
    labels = views.labels(views.keys())
    assert labels["subjects"].tolist() == ["TS1", "TS5"] and labels["frames"].dtype.kind == "i"
    assert views._path(2).name == f"img_{labels['frames'][1] + 1:06d}.jpg"
    with pytest.raises(DataError, match=r"TS5/imageSequence/img_0000\d\d.jpg: missing; unpack"):
        Mpi3dhpTestViews(config_of(copy))


def test_settings_change_the_crop_and_its_camera_together(views, tree):
    wide = Mpi3dhpTestViews(config_of(tree, "val.scale_bbox=1.5", "val.erase=true"))
    whole = Mpi3dhpTestViews(config_of(tree, "val.crop=false"))
    keys = views.keys()
    middle = (SIZE - 1) / 2
    small, large = (project_joints(data.keypoints, data.projections(keys)) - middle for data in (wide, views))
    np.testing.assert_allclose(1.5 * small, large, atol=0.5)
    flat = project_joints(whole.keypoints, whole.projections(keys))
    assert np.ptp(flat, axis=1).max() < SIZE / 1.5 and flat.min() > 0
    assert whole[keys[0]].images.shape == wide[keys[0]].images.shape == (1, SIZE, SIZE, 3)


def test_the_centre_comes_from_the_truth_or_from_precalculated_skeletons_by_row(views, tree, tmp_path):
    path = tmp_path / "results.pkl"
    settings = [tree, "model.volume_net.use_gt_pelvis=false", f"val.pred_results_path={path}"]

    def write(content):
        path.write_bytes(pickle.dumps(content))

    with pytest.raises(UsageError, match="pred_results_path.*use_gt_pelvis"):
        Mpi3dhpTestViews(config_of(*settings[:2]))
    with pytest.raises(DataError, match="results.pkl: no such file"):
        Mpi3dhpTestViews(config_of(*settings))
    order = [2, 0, 3, 1]
    write({"keypoints_3d": views.keypoints[order] + 5, "indexes": np.array(order)})
    moved = Mpi3dhpTestViews(config_of(*settings))
    np.testing.assert_allclose(moved.pelvis, views.pelvis + 5)
    assert "the pelvis in" in moved.report(views.keypoints, views.keys())[1]
    write({"keypoints_3d": views.keypoints[:3], "indexes": np.arange(3)})
    with pytest.raises(DataError, match="3 skeletons where the labels have 4"):
        Mpi3dhpTestViews(config_of(*settings))
    for wrong in ([1, 2], {"keypoints_3d": np.zeros(3)}, print):
        write(wrong)
        with pytest.raises(DataError, match="results.pkl"):
            Mpi3dhpTestViews(config_of(*settings))


def test_what_is_missing_or_wrong_is_named(views, copy, tmp_path):
    with pytest.raises(DataError, match="TS1.*dataset.root"):
        Mpi3dhpTestViews(config_of(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="evaluation only"):
        views.plan(0)
    with pytest.raises(UsageError, match="one view"):
        views[0, (1,)]
    with pytest.raises(DataError, match="NaN or infinite values in 1 of 4"):
        views.report(np.where(np.arange(4)[:, None, None] == 1, np.nan, views.keypoints), views.keys())
    data = Mpi3dhpTestViews(config_of(copy))
    data._path(0).write_bytes(b"no picture")
    with pytest.raises(DataError, match="img_.*damaged"):
        data[0, (0,)]
    shutil.copy(data._path(2), data._path(0))
    with pytest.raises(DataError, match="is 1920 x 1080, but the pictures of TS1 are 2048 x 2048"):
        data[0, (0,)]
    shutil.rmtree(copy / "TS1" / "imageSequence")
    with pytest.raises(DataError, match="TS1/imageSequence/.*other pictures.*remove TS1"):
        Mpi3dhpTestViews(config_of(copy))


@pytest.mark.parametrize("settings, message", [
    (["dataset.data_format=zip"], r'dataset\.data_format does not apply.*set it to ""'),
    (["dataset.transfer_cmu_to_human36m=true"], r"dataset\.transfer_cmu_to_human36m does not apply.*set it to false"),
    (["val.ignore_cameras=[1]"], r"val\.ignore_cameras does not apply.*set it to \[\]"),
    (["val.undistort_images=false"], r"val\.undistort_images does not apply.*set it to true"),
    (["val.with_damaged_actions=false"], r"val\.with_damaged_actions does not apply.*set it to true"),
    (["val.max_n_views=2"], r"val\.max_n_views does not apply.*set it to 1"),
    (["val.max_n_views=2", "val.min_n_views=2"], r"val\.min_n_views does not apply.*set it to 1")])
def test_settings_that_ask_for_what_only_human36m_has_are_refused(tree, settings, message):
    with pytest.raises(UsageError, match=message):
        Mpi3dhpTestViews(config_of(tree, *settings))


def test_annotations_that_no_camera_fits_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    camera = camera_of("TS1")
    write_test_annotation(tmp_path / "TS1/annot_data.mat", rng.normal(0, 0.3, (3, 28, 3)), camera | {"rotation": np.eye(
        3)}, np.ones(3), np.ones(3, dtype=bool))
    with pytest.raises(DataError, match="annot_data.mat: (no camera|its valid frames hold)"):
        Mpi3dhpTestViews(config_of(tmp_path))


def test_real_frames_fit_a_camera_that_is_level(real_data, tmp_path):
    labels = np.load(real_data / "mpi_inf_3dhp_frames" / "labels_test.npz")
    content = (labels[key] for key in ("image", "keypoints_2d", "keypoints_3d_camera"))
    for image, pixels, poses in zip(*content, strict=True):
        (tmp_path / image[:3] / "imageSequence").mkdir(parents=True)
        shutil.copy(real_data / "mpi_inf_3dhp_frames" / image, tmp_path / image[:3] / "imageSequence/img_000001.jpg")
        with h5py.File(tmp_path / image[:3] / "annot_data.mat", "w") as file:
            file["annot2"], file["univ_annot3"] = pixels[None, None], 1000 * poses[None, None]
            file["valid_frame"] = np.ones((1, 1))
    data = Mpi3dhpTestViews(config_of(tmp_path))
    assert max(data.misfits.values()) < 1
    for K in data.cameras.values():
        np.testing.assert_allclose([K[0, 0], K[1, 1]], 1500, rtol=0.01)
    shown = project_joints(data.keypoints, data.projections(data.keys()))
    assert shown.min() > 0 and shown.max() < SIZE
    assert data[1, (0,)].images[0][:, -1].any() and not data[1, (0,)].images[0][:, 0].any(), "a black strip, outside"
    left, right = (CONTEXTPOSE_17_NAMES.index(name) for name in ("left_ankle", "right_ankle"))
    assert np.ptp(data.keypoints[[0, 1, 1], [left, left, right], 2]) < 20, "the feet that stand are on one level floor"


def demo(*flags):
    """Run prepare_data_demo.py in this process, for one training sequence and one test sequence."""
    few = functools.partial(write_mpi_inf_3dhp, subjects=("S1",), sequences=(1,), test_sequences=("TS5",))
    raw = {"3dhp": (*prepare_data_demo.RAW["3dhp"][:2], few, "prepare_data_3dhp.py --source")}
    with mock.patch.object(sys, "argv", ["prepare_data_demo.py", *map(str, flags)]):
        args = prepare_data_demo.get_args()
        with mock.patch.object(prepare_data_demo, "RAW", raw):
            prepare_data_demo.main(args)


def test_demo_trees_with_pictures_are_made_by_a_flag(tmp_path, capsys):
    folder = tmp_path / "raw"
    flags = ("--raw", "3dhp", "--frames", 6, "--output", folder)
    demo(*flags, "--images", 1)
    assert f"dataset.root {folder}" in capsys.readouterr().out
    views = Mpi3dhpTestViews(config_of(folder))
    assert len(views) == 1 and (folder / "S1" / "Seq1" / "annot.mat").exists()
    assert views[0, (0,)].images.any()
    demo(*flags, "--images", 1)
    assert "exists, kept" in capsys.readouterr().out
    with pytest.raises(DataError, match="other raw"):
        demo(*flags)
    with pytest.raises(UsageError, match="--images.*3dhp only"):
        demo("--raw", "h36m", "--images")
