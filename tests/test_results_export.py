"""`results.py export` as a process: files of other programs out of files of results."""
import csv

import numpy as np
import pytest
from conftest import run_script

from common.export import Prediction, read_prediction, write_prediction
from common.keypoints import H36M_17


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A file of results with the world, the camera's space and ground truth."""
    joints = np.cumsum(np.random.default_rng(0).normal(0, 0.05, (2, 12, 17, 3)), axis=1)
    path = tmp_path_factory.mktemp("results") / "walk.npz"
    write_prediction(path, Prediction(joints[0], H36M_17, 50, ground_truth=joints[1],
                                      joints_camera=joints[0][..., [1, 2, 0]] + 4, source={"subject": "S9"}))
    return path


def export(*arguments):
    return run_script("results.py", "export", *arguments)


def test_bvh_says_where_it_is_and_how_well_it_fits(results, tmp_path):
    root = {}
    for unit in ("m", "cm"):
        done = export(results, tmp_path / f"{unit}.bvh", "--bvh-unit", unit)
        assert done.status == 0, done.err
        assert f"12 frames written to {tmp_path / unit}.bvh" in done.out
        assert f"unit {unit};" in done.out and "95th percentile" in done.out and "varies most" in done.out
        last = (tmp_path / f"{unit}.bvh").read_text().splitlines()[-1]
        root[unit] = np.array(last.split()[:3], dtype=float)
    np.testing.assert_allclose(root["cm"], 100 * root["m"], atol=1e-3)


@pytest.mark.parametrize("kind", ["one-euro", "savgol"])
def test_smoothing_is_done_said_and_remembered(kind, results, tmp_path):
    done = export(results, tmp_path / "a.json", "--smooth", kind)
    assert done.status == 0, done.err
    assert "jitter" in done.out and "lag" in done.out and "MPJPE" in done.out
    before, after = read_prediction(results), read_prediction(tmp_path / "a.json")
    assert after.source == {"subject": "S9", "smoothing": kind}
    assert np.diff(after.joints, 2, axis=0).std() < 0.8 * np.diff(before.joints, 2, axis=0).std()


def test_csv_in_the_frame_of_the_camera(results, tmp_path):
    done = export(results, tmp_path / "a.csv", "--frame", "camera")
    assert done.status == 0, done.err
    assert "x right, y down" in done.out and "ground truth" in done.out
    with open(tmp_path / "a.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    np.testing.assert_allclose([float(last[f"head_{axis}_m"]) for axis in "xyz"],
                               read_prediction(results).joints_camera[-1, 10], atol=1e-6)


@pytest.mark.parametrize("arguments, status, words", [
    (["a.csv", "--bvh-unit", "cm"], 2, ["--bvh-unit", ".csv"]),
    (["a.trc", "--frame", "camera"], 2, ["--frame", ".trc", ".csv"]),
    (["a.xlsx"], 2, ["a.xlsx", ".csv"]),
    (["a.csv", "--smooth", "median"], 2, ["median", "savgol"]),
])
def test_what_does_not_apply_is_refused_with_the_reason(arguments, status, words, results, tmp_path):
    export(results, tmp_path / arguments[0], *arguments[1:]).assert_fails(status, *words)
    assert not list(tmp_path.iterdir())


def test_the_file_that_is_read_is_not_written_over(results):
    before = results.read_bytes()
    export(results, results.parent / "." / results.name).assert_fails(2, results.name, "another name")
    assert results.read_bytes() == before


def test_a_bare_array_as_videopose3d_exports_it_is_refused_with_what_to_do(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 17, 3), np.float32))
    export(tmp_path / "a.npy", tmp_path / "a.bvh").assert_fails(3, "a.npy", "--viz-export FILE.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_frame_that_a_file_does_not_hold_is_refused(results, tmp_path):
    export(results, tmp_path / "camera.npz", "--frame", "camera")
    assert read_prediction(tmp_path / "camera.npz").frame == "camera"
    export(tmp_path / "camera.npz", tmp_path / "a.csv", "--frame", "world").assert_fails(3, "camera.npz", "world")
    assert [path.name for path in tmp_path.iterdir()] == ["camera.npz"]
