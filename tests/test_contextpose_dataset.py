"""The samples of ContextPose: which there are, what they show, and what is refused."""
import itertools
import os
import pickle
import zipfile

import h5py
import numpy as np
import pytest
from h36m_tree import FRAMES, labels_of

from common.contextpose.config import load_config
from common.contextpose.dataset import Human36MViews, limb_lengths
from common.contextpose.image import ERASED, ERASED_SIDE
from common.h36m_images import image_path, scale_box
from common.h36m_labels import LABELS, LIMB_LENGTHS, TABLE_DTYPE, make_cameras, write_labels
from common.h36m_raw import CAMERAS, SEQUENCES, SUBJECTS, pixel_camera, to_camera
from common.synthetic_h36m import demo_positions
from common.synthetic_images import render_background, render_person
from common.utils import DataError, UsageError


def configure(folder, *overrides, split="train"):
    """Settings for the data in a folder; those without a section are of the split."""
    overrides = [item if "." in item.partition("=")[0] else f"{split}.{item}" for item in overrides]
    labels = folder / "extra" / LABELS
    return load_config(None, [f"dataset.root={folder / 'processed'}", f"dataset.train_labels_path={labels}",
                              f"dataset.val_labels_path={labels}", "model.volume_net.use_gt_pelvis=true", *overrides])


def opened(folder, *overrides, split="train"):
    return Human36MViews(configure(folder, *overrides, split=split), split)


def write_many(folder, sequences, change=None):
    """Labels of {(subject, sequence): rows} random people, with images that are empty files."""
    rng, parts = np.random.default_rng(0), []
    for (subject, sequence), count in sequences.items():
        rows = np.zeros(count, dtype=TABLE_DTYPE)
        rows["subject_idx"], rows["action_idx"] = SUBJECTS.index(subject), SEQUENCES.index(sequence)
        rows["frame_idx"] = 64 * np.arange(count)
        rows["keypoints"] = rng.normal(0, 400, (count, 17, 3)) + [0, 0, 900]
        corners = rng.integers(-50, 600, (count, 4, 2))
        rows["bbox_by_camera_tlbr"] = np.concatenate([corners, corners + rng.integers(50, 400, (count, 4, 1))], axis=-1)
        parts.append(rows)
        for camera in CAMERAS:
            for frame in rows["frame_idx"]:
                path = image_path(folder / "processed", subject, sequence, camera, frame)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    labels = {"subject_names": list(SUBJECTS), "camera_names": list(CAMERAS), "action_names": list(SEQUENCES),
              "cameras": make_cameras(), "table": np.concatenate(parts)}
    if change:
        change(labels)
    write_labels(folder / "extra" / LABELS, labels)
    return labels["table"]


def write_skeletons(path, poses, indexes=None):
    path.write_bytes(pickle.dumps({"keypoints_3d": poses, "indexes": np.arange(len(poses)) if indexes is None
                                   else indexes}))


def project(points, projection):
    seen = np.c_[points.astype(np.float64), np.ones(len(points))] @ projection.T
    return seen[:, :2] / seen[:, 2:]


def test_projections_are_a_pinhole_camera_then_the_crop(made_h36m):
    dataset = opened(made_h36m, "scale_bbox=1.3", "model.image_shape=[96,128]", "max_n_views=4")
    labels = labels_of(made_h36m)
    keys = [(row, (3, 1)) for row in range(len(dataset))]
    found = dataset.projections(keys)
    assert found.shape == (len(keys), 2, 3, 4) and found.dtype == np.float64 and len(keys) > 2
    for (row, views), projections in zip(keys, found, strict=True):
        for view, projection in zip(views, projections, strict=True):
            known = pixel_camera(CAMERAS[view], dataset.subjects[row])
            seen = to_camera(dataset.keypoints[row].astype(np.float64), known)
            pixels = ((seen / seen[:, 2:]) @ known["K"].T)[:, :2]
            top, left, bottom, right = scale_box(labels["table"]["bbox_by_camera_tlbr"][row, view], 1.3)
            expected = (pixels - [left, top]) * [128 / (right - left), 96 / (bottom - top)]
            np.testing.assert_allclose(project(dataset.keypoints[row], projection), expected, atol=2e-2)
    np.testing.assert_allclose(dataset[keys[1]].projections, found[1], rtol=1e-5)


@pytest.mark.parametrize("crop", [True, False])
def test_true_joints_project_into_the_crop(made_h36m, crop):
    dataset = opened(made_h36m, f"crop={crop}", "model.image_shape=[200,200]")
    row, views = 1, (0, 2)
    sample = dataset[row, views]
    assert sample.images.shape == (2, 200, 200, 3) and sample.images.dtype == np.uint8 and sample.key == (row, views)
    assert sample.projections.dtype == sample.keypoints.dtype == sample.pelvis.dtype == np.float32
    np.testing.assert_allclose(sample.projections, dataset.projections([(row, views)])[0], rtol=1e-5)
    np.testing.assert_array_equal(sample.pelvis, dataset.keypoints[row, 6])
    for projection in sample.projections:
        pixels = project(sample.keypoints, projection)
        assert (pixels > 0).all() and (pixels < 200).all()
        extent = np.ptp(pixels, axis=0).max()
        assert extent > 120 if crop else 40 < extent < 120


def test_the_person_is_seen_where_the_joints_project(made_h36m):
    dataset = opened(made_h36m, "crop=false", "model.image_shape=[1000,1000]", "undistort_images=false", split="val")
    subject, camera = dataset.subjects[0], CAMERAS[1]
    image = dataset[0, (1,)].images[0].astype(float)
    room = render_background(subject, camera)
    mask = render_person(room.copy(), demo_positions(subject, "Walking-1", FRAMES)[0], subject, camera)
    changed = np.abs(image - room).mean(-1) > 12
    assert changed[mask].mean() > 0.8 and changed[~mask].mean() < 0.02
    pixels = np.round(project(dataset.keypoints[0], dataset.projections([(0, (1,))])[0, 0])).astype(int)
    spread = [mask[y - 8:y + 9, x - 8:x + 9].any() for x, y in pixels]  # the lens moves them by some pixels
    assert all(spread)


def test_erasing_fills_squares_round_the_true_joints_and_nothing_else(made_h36m):
    plain, erased = (opened(made_h36m, f"erase={value}")[0, (1,)] for value in ("false", "true"))
    inside = np.zeros(plain.images.shape[1:3], dtype=bool)
    for x, y in project(plain.keypoints, plain.projections[0].astype(np.float64))[ERASED]:
        left, top = np.round([x - ERASED_SIDE / 2, y - ERASED_SIDE / 2]).astype(int)
        inside[max(top, 0):top + ERASED_SIDE, max(left, 0):left + ERASED_SIDE] = True
    changed = (plain.images[0] != erased.images[0]).any(-1)
    assert not changed[~inside].any() and changed[inside].mean() > 0.9


def test_a_zip_file_gives_what_its_folder_gives(made_h36m, tmp_path):
    folder = opened(made_h36m)
    (tmp_path / "extra").symlink_to(made_h36m / "extra")
    for prefix, root in (("", "other.zip"), ("processed/", "processed"), ("other/", "other.zip")):
        with zipfile.ZipFile(tmp_path / f"{root.removesuffix('.zip')}.zip", "w") as archive:
            for path in sorted((made_h36m / "processed").rglob("*.jpg")):
                archive.write(path, prefix + path.relative_to(made_h36m / "processed").as_posix())
        zipped = opened(tmp_path, f"dataset.root={tmp_path / root}", "dataset.data_format=zip")
        zipped = pickle.loads(pickle.dumps(zipped))
        np.testing.assert_array_equal(zipped[1, (2,)].images, folder[1, (2,)].images)
    whole = (tmp_path / "other.zip").read_bytes()
    (tmp_path / "other.zip").write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"other\.zip: truncated"):
        opened(tmp_path, f"dataset.root={tmp_path / 'other.zip'}", "dataset.data_format=zip")
    with pytest.raises(DataError, match=r"none\.zip: no such zip file"):
        opened(tmp_path, f"dataset.root={tmp_path / 'none'}", "dataset.data_format=zip")


def test_a_zip_file_without_an_image_names_both(made_h36m, tmp_path):
    names = [path.relative_to(made_h36m / "processed").as_posix() for path in (made_h36m / "processed").rglob("*.jpg")]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            if "S1/Walking-1" in name and "55011271/img_000001" in name:
                continue
            archive.writestr(name, "no image")
    settings = f"dataset.root={tmp_path / 'a.zip'}", "dataset.data_format=zip"
    message = r"a\.zip: S1/Walking-1/imageSequence-undistorted/55011271/img_000001\.jpg: no such image"
    with pytest.raises(DataError, match=message):
        opened(made_h36m, *settings)
    with pytest.raises(DataError, match=r"a\.zip: S1/Eating-1/\S+/img_000001\.jpg: damaged, or no image"):
        opened(made_h36m, *settings, "ignore_cameras=[1]")[0, (0,)]


def test_missing_and_damaged_images_are_named(tmp_path):
    write_many(tmp_path, {("S1", "Walking-1"): 3})
    dataset = opened(tmp_path)
    first, second = (image_path(tmp_path / "processed", "S1", "Walking-1", CAMERAS[2], frame) for frame in (0, 64))
    with pytest.raises(DataError, match=r"58860488/img_000065\.jpg: damaged, or no image"):
        dataset[1, (2,)]
    second.unlink()
    with pytest.raises(DataError, match=r"58860488/img_000065\.jpg: no such image"):
        dataset[1, (2,)]
    first.unlink()
    with pytest.raises(DataError, match=r"58860488/img_000001\.jpg: no such image; .*prepare_data_h36m.py --images"):
        opened(tmp_path)
    assert len(opened(tmp_path, "ignore_cameras=[2]")) == 3


def lacking(view, rows=slice(None)):
    """A change of the labels: a view is missing in some rows."""
    def change(labels):
        labels["table"]["bbox_by_camera_tlbr"][rows, view] = 0
    return change


def test_a_view_that_is_missing_is_never_asked_for(tmp_path):
    write_many(tmp_path, {("S11", "Directions-2"): 3, ("S11", "Walking-1"): 2}, lacking(0, slice(3)))
    image_path(tmp_path / "processed", "S11", "Directions-2", CAMERAS[0], 0).unlink()
    one, two, four = (opened(tmp_path, f"max_n_views={number}", split="val") for number in (1, 2, 4))
    assert [one.views(row) for row in (0, 4)] == [(1, 2, 3), (0, 1, 2, 3)]
    assert one.keys() == [(row, (view,)) for row in range(5) for view in range(4) if row > 2 or view]
    assert len(two.keys()) == 3 * 3 + 2 * 6 and (2, (1, 3)) in two.keys() and (3, (0, 3)) in two.keys()
    assert four.keys() == [(row, (1, 2, 3)) for row in range(3)] + [(row, (0, 1, 2, 3)) for row in (3, 4)]
    least = opened(tmp_path, "min_n_views=4", "max_n_views=4", split="val")
    assert [row for row, _ in least.keys()] == [3, 4]
    for draw in ("true", "false"):
        dataset = opened(tmp_path, f"randomize_n_views={draw}", "max_n_views=3", "batch_size=1", split="val")
        for epoch in range(5):
            for row, views in itertools.chain(*dataset.plan(0, epoch)):
                assert set(views) <= set(dataset.views(row)) and views
    with pytest.raises(IndexError, match=r"row 0 has the views \(1, 2, 3\)"):
        one[0, (0, 1)]
    with pytest.raises(UsageError, match="no row has 4 views"):
        opened(tmp_path, "ignore_cameras=[1]", "min_n_views=4", "max_n_views=4", split="val")
    with pytest.raises(UsageError, match="cameras 0 to 3"):
        opened(tmp_path, "ignore_cameras=[4]", split="val")


WITH_DAMAGED = {("S9", "Greeting-1"): 5, ("S9", "Greeting-2"): 4, ("S9", "Waiting-1"): 2, ("S11", "Greeting-2"): 6}


@pytest.mark.parametrize("damaged, every", [(True, 1), (False, 1), (True, 3), (False, 3)])
def test_skeletons_of_the_split_or_of_the_rows_used_align(tmp_path, damaged, every):
    table = write_many(tmp_path, {("S1", "Walking-1"): 3} | WITH_DAMAGED)[3:]
    settings = [f"with_damaged_actions={damaged}", f"retain_every_n_frames_in_test={every}"]
    kept = np.flatnonzero(np.full(17, True) if damaged else np.r_[[True] * 5, [False] * 6, [True] * 6])
    dataset = opened(tmp_path, *settings, split="val")
    np.testing.assert_array_equal(dataset.keypoints, table["keypoints"][kept][::every])
    np.testing.assert_array_equal(dataset.pelvis, dataset.keypoints[:, 6])
    assert dataset.sequences[-1] == "Greeting-2" and dataset.actions[-1] == "Greeting" and dataset.subjects[-1] == "S11"
    rng, path = np.random.default_rng(0), tmp_path / "val.pkl"
    settings += [f"pred_results_path={path}", "model.volume_net.use_gt_pelvis=false"]
    for rows in (np.arange(17), kept, kept[::every]):
        order = rng.permutation(len(rows))
        write_skeletons(path, table["keypoints"][rows][order] + 1, order)
        np.testing.assert_array_equal(opened(tmp_path, *settings, split="val").pelvis, dataset.pelvis + 1)


def test_the_training_split_is_evaluated_with_the_settings_of_validation_and_its_own_skeletons(tmp_path):
    table = write_many(tmp_path, {("S1", "Walking-1"): 4, ("S9", "Walking-1"): 3})
    write_skeletons(tmp_path / "train.pkl", table["keypoints"][:4] + 2)
    config = configure(tmp_path, "train.pred_results_path=train.pkl", "val.retain_every_n_frames_in_test=2",
                       "model.volume_net.use_gt_pelvis=false", "val.max_n_views=2", "train.max_n_views=1")
    dataset = Human36MViews(config, "train", config.val, root=str(tmp_path))
    assert len(dataset) == 4 and len(dataset.keys()) == 4 * 6
    np.testing.assert_array_equal(dataset.pelvis, table["keypoints"][:4, 6] + 2)


@pytest.mark.parametrize("poses, indexes, message", [
    (np.zeros((7, 17, 3)), None, "holds 7 skeletons where the labels have 6 rows"),
    (np.zeros((6, 16, 3)), None, r"keypoints_3d is float64 of the shape \(6, 16, 3\)"),
    (np.zeros((6, 17, 3)), [0, 1, 2, 3, 4], r"indexes is int64 of the shape \(5,\), not int of \(6,\)"),
    (np.zeros((6, 17, 3)), [0, 1, 2, 2, 4, 5], "indexes has 2 twice.*, each once; predict.*val.max_n_views=4$"),
    (np.zeros((6, 17, 3)), [0, 0, 1, 1, 2, 2], "indexes has 0 twice.*, each once; predict.*val.max_n_views=4$"),
    (np.zeros((6, 17, 3)), [0, 1, 2, 4, 5, 6], "indexes lacks 3.*, each once$"),
    (np.zeros((6, 17, 3)), [1, 2, 3, 4, 5, 6], "indexes lacks 0"),
    (np.full((6, 17, 3), np.nan), None, "the pelvis of index 0 is not finite"),
    ([[0], [1, 2]], [0, 1], "keypoints_3d is no array")])
def test_skeletons_that_do_not_belong_to_the_labels_are_refused(tmp_path, poses, indexes, message):
    write_many(tmp_path, {("S1", "Walking-1"): 6})
    write_skeletons(tmp_path / "a.pkl", poses, indexes)
    with pytest.raises(DataError, match=rf"a\.pkl: {message}"):
        opened(tmp_path, f"pred_results_path={tmp_path / 'a.pkl'}", "model.volume_net.use_gt_pelvis=false")


@pytest.mark.parametrize("path, error", [("''", UsageError), ("none.pkl", DataError)])
def test_without_skeletons_the_two_ways_out_are_named(tmp_path, path, error):
    write_many(tmp_path, {("S1", "Walking-1"): 2})
    with pytest.raises(error, match="train.pred_results_path.*model.volume_net.use_gt_pelvis to true"):
        opened(tmp_path, f"pred_results_path={path}", "model.volume_net.use_gt_pelvis=false")


def setting(name, value, *place):
    """A change of the labels: a value in one of its arrays, or of all of it."""
    def change(labels):
        if place:
            labels[name][place[0]][place[1]] = value
        else:
            labels[name] = value
    return change


@pytest.mark.parametrize("change, message", [
    (lambda labels: labels.pop("cameras"), "has no cameras"),
    (setting("table", np.zeros((3, 5))), "table is no structured array"),
    (setting("table", np.zeros(3, dtype=TABLE_DTYPE[:-1])), "table has no bbox_by_camera_tlbr"),
    (setting("table", np.zeros(3, dtype=[*TABLE_DTYPE[:3], ("keypoints", "f4", (16, 3)), TABLE_DTYPE[4]])),
     r"keypoints in table is float32 of the shape \(16, 3\), not float of \(17, 3\)"),
    (setting("camera_names", ["a"]), r"cameras has the shape \(7, 4\), not \(7, 1\)"),
    (setting("table", 30, "action_idx", 1), "action_idx of row 1 is 30, of 30 names"),
    (setting("table", -1, "subject_idx", 0), "subject_idx of row 0 is -1"),
    (setting("table", np.nan, "keypoints", (2, 3)), r"keypoints are not finite in row 2 \(S1 Walking-1, frame 128\)"),
    (setting("table", (5, 5, 5, 9), "bbox_by_camera_tlbr", (0, 1)), r"a box has no area in row 0 "),
    (setting("table", (0, 0, 30000, 30000), "bbox_by_camera_tlbr", (1, 1)), "a box is larger than any image in row 1 "),
    (setting("cameras", np.inf, "t", (0, 2)), "camera 58860488 of S1 is no camera"),
    (setting("table", SUBJECTS.index("S9"), "subject_idx", slice(None)),
     "has no rows of S1, S5, S6, S7, S8, only of S9")])
def test_labels_of_another_layout_are_refused(tmp_path, change, message):
    write_many(tmp_path, {("S1", "Walking-1"): 3}, change)
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path)
    assert LABELS in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["min_n_views=0", "min_n_views=2", "num_workers=-1", "n_iters_per_epoch=0"])
def test_numbers_that_cannot_be_are_refused(tmp_path, value):
    with pytest.raises(UsageError, match=f"train.{value.partition('=')[0]} must be"):
        configure(tmp_path, value)


def test_a_scale_that_leaves_nothing_of_a_box_is_refused(tmp_path):
    write_many(tmp_path, {("S1", "Walking-1"): 3})
    with pytest.raises(UsageError, match="scale_bbox 0.001 leaves nothing"):
        opened(tmp_path, "scale_bbox=0.001")
    assert len(opened(tmp_path, "scale_bbox=0.001", "crop=false")) == 3


def test_joints_of_cmu_are_refused(tmp_path):
    with pytest.raises(UsageError, match="dataset.transfer_cmu_to_human36m is not supported: "):
        opened(tmp_path, "dataset.transfer_cmu_to_human36m=true")


def test_limb_lengths_are_read_and_checked(made_h36m, tmp_path):
    mean, std = limb_lengths(made_h36m / "extra" / LIMB_LENGTHS)
    assert mean.shape == std.shape == (17,) and mean.dtype == np.float32 and 50 < mean.min() < mean.max() < 700
    for values, message in ((np.ones(15), r"shapes \(15,\) and \(15,\)"), (np.zeros(16), "not more than 0"),
                            (np.full(17, np.nan), "not finite"), (None, "damaged, or without mean and std")):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            if values is not None:
                file["mean"] = file["std"] = values
        with pytest.raises(DataError, match=rf"a\.h5: .*{message}"):
            limb_lengths(tmp_path / "a.h5")
    os.truncate(tmp_path / "a.h5", 100)
    with pytest.raises(DataError, match=r"a\.h5: damaged"):
        limb_lengths(tmp_path / "a.h5")
    with pytest.raises(DataError, match="no such file of limb lengths"):
        limb_lengths(tmp_path / "none.h5")
