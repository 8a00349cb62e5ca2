"""CSV, TRC and C3D: other readers find the joints, at their times, in the units and axes that are promised."""
import csv

import numpy as np
import pytest

from common import export_tables
from common.export import Prediction, write_prediction
from common.export_tables import write_c3d, write_csv, write_trc, y_up
from common.keypoints import H36M_17
from common.skeleton import Skeleton
from common.utils import DataError

UNEVEN = np.array([7.0, 7.1, 7.9, 8.5])  # seconds: 2 frames a second in the mean


def poses(frames=4, **more):
    return Prediction(np.random.default_rng(0).normal(size=(frames, 17, 3)), H36M_17, 29.97, **more)


def test_csv_has_one_named_column_for_each_coordinate_and_keeps_uneven_times(tmp_path):
    prediction = poses(times=UNEVEN)
    assert "z up" in write_csv(tmp_path / "a.csv", prediction)[0]
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["0", "1", "2", "3"]
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], UNEVEN - 7)
    for joint, name in enumerate(H36M_17.names()):
        found = [[float(row[f"{name}_{axis}_m"]) for axis in "xyz"] for row in rows]
        np.testing.assert_allclose(found, prediction.joints[:, joint], atol=1e-6)
    assert len(rows[0]) == 2 + 17 * 3


def test_csv_quotes_names_that_hold_its_separator(tmp_path):
    write_csv(tmp_path / "a.csv", Prediction(np.ones((1, 1, 3)), Skeleton([-1], [], [], ['a, "b"']), 50))
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        assert next(csv.reader(file))[2] == 'a, "b"_x_m'


def test_trc_is_laid_out_as_opensim_reads_it(tmp_path):
    prediction = poses()
    write_trc(tmp_path / "a.trc", prediction)
    lines = [line.split("\t") for line in (tmp_path / "a.trc").read_text().split("\n")]
    assert lines[0][:3] == ["PathFileType", "4", "(X/Y/Z)"]
    assert dict(zip(lines[1], lines[2], strict=True)) == {
        "DataRate": "29.97", "CameraRate": "29.97", "NumFrames": "4", "NumMarkers": "17", "Units": "mm",
        "OrigDataRate": "29.97", "OrigDataStartFrame": "1", "OrigNumFrames": "4"}
    assert lines[3][:2] == ["Frame#", "Time"] and lines[3][2::3] == H36M_17.names()
    assert set(lines[3][3::3] + lines[3][4::3]) == {""}
    assert lines[4][:6] == ["", "", "X1", "Y1", "Z1", "X2"] and lines[4][-1] == "Z17" and lines[5] == [""]
    rows = np.array(lines[6:10], dtype=float)
    assert lines[10:] == [[""]]
    np.testing.assert_array_equal(rows[:, 0], [1, 2, 3, 4])
    np.testing.assert_allclose(rows[:, 1], np.arange(4) / 29.97, atol=1e-6)
    x, y, z = np.moveaxis(rows[:, 2:].reshape(4, 17, 3) / 1000, -1, 0)
    np.testing.assert_allclose(np.stack([x, -z, y], axis=-1), prediction.joints, atol=1e-6)


def test_y_up_is_a_rotation():
    axes = y_up(np.eye(3))
    assert np.linalg.det(axes) == 1
    np.testing.assert_array_equal(y_up(np.array([0, 0, 1])), [0, 1, 0])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3))


def test_ezc3d_reads_points_labels_rate_and_units(tmp_path):
    ezc3d = pytest.importorskip("ezc3d")
    prediction = poses()
    assert "z up" in write_c3d(tmp_path / "a.c3d", prediction)[-1]
    file = ezc3d.c3d(str(tmp_path / "a.c3d"))
    point = {name: entry["value"] for name, entry in file["parameters"]["POINT"].items() if name != "__METADATA__"}
    assert point["LABELS"] == H36M_17.names() and point["UNITS"] == ["mm"]
    assert (point["X_SCREEN"], point["Y_SCREEN"]) == (["+X"], ["+Z"])
    np.testing.assert_allclose(point["RATE"], 29.97, rtol=1e-6)
    found = file["data"]["points"]  # (4, J, T)
    np.testing.assert_allclose(found[:3].transpose(2, 1, 0), 1000 * prediction.joints, rtol=1e-5, atol=1e-3)


def test_more_frames_than_a_c3d_can_count_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("ezc3d")
    monkeypatch.setattr(export_tables, "C3D_FRAMES", 3)
    with pytest.raises(DataError, match=r"a\.c3d: C3D holds at most 3 frames, not 4"):
        write_prediction(tmp_path / "a.c3d", poses())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_trc, write_c3d])
def test_formats_of_one_rate_say_that_uneven_frames_were_resampled(write, tmp_path):
    if write is write_c3d:
        pytest.importorskip("ezc3d")
    assert "brought to 2 a second" in write(tmp_path / f"a.{write.__name__[-3:]}", poses(times=UNEVEN))[0]
    assert "uneven" not in write(tmp_path / f"b.{write.__name__[-3:]}", poses(times=7 + np.arange(4) / 30))[0]


def test_people_whose_root_is_always_zero_stand_on_the_ground(tmp_path):
    prediction = poses(5, frame="camera", root_path="origin")
    assert any("height 0" in line for line in write_trc(tmp_path / "a.trc", prediction))
    rows = np.array([line.split("\t")[2:] for line in (tmp_path / "a.trc").read_text().splitlines()[6:]], dtype=float)
    found, down = rows.reshape(5, 17, 3) / 1000, prediction.joints[..., 1]
    np.testing.assert_allclose(found[..., 1], down.max() - down, atol=1e-6)
    np.testing.assert_allclose(found[..., 0], prediction.joints[..., 0], atol=1e-6)


def test_trc_of_a_camera_stands_upright(tmp_path):
    prediction = poses(1, frame="camera")
    assert "taken as level" in write_trc(tmp_path / "a.trc", prediction)[0]
    row = np.array((tmp_path / "a.trc").read_text().splitlines()[-1].split("\t")[2:5], dtype=float)
    np.testing.assert_allclose(row / 1000, prediction.joints[0, 0] * [1, -1, -1], atol=1e-6)


def test_a_pause_is_filled_and_does_not_thin_the_frames_around_it(tmp_path):
    prediction = poses(60, times=np.arange(60) / 10 + np.where(np.arange(60) < 20, 0, 4.0))
    assert "brought to 10 a second" in write_trc(tmp_path / "a.trc", prediction)[0]
    rows = [line.split("\t") for line in (tmp_path / "a.trc").read_text().splitlines()[6:]]
    assert len(rows) == 100
    found = np.array([[row[2], row[4]] for row in rows], dtype=float) / 1000  # x and, upside down, y of the first joint
    for frame, row in ((19, 19), (20, 60), (59, 99)):
        np.testing.assert_allclose(found[row], prediction.joints[frame, 0, :2] * [1, -1], atol=1e-6)
