"""The script that makes the demo data, run as a process at a tiny size."""
import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import prepare_data_demo
from common.h36m_dataset import h36m_cameras
from common.h36m_raw import ARCHIVES, archive_name
from common.keypoints import COCO_17, H36M_17, H36M_KEPT
from common.safe_io import load_npz
from common.synthetic import make_motion, project_views
from common.synthetic_h36m import write_h36m
from common.synthetic_layouts import detector_joints

ROOT = Path(__file__).resolve().parent.parent
FILES = ["data_3d_demo.npz", "data_2d_demo_gt.npz", "data_2d_demo_detected.npz", "data_2d_demo_detectron_pt_coco.npz"]
TINY = ("--frames", "12", "--subjects", "S1,S9", "--actions", "Walking,Jumping 1", "--seed", "4")


def run(*arguments):
    command = [sys.executable, str(ROOT / "prepare_data_demo.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    done = run("--output", folder, *TINY)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_all_files_are_written_and_the_next_command_is_named(made):
    folder, output = made
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert all(name in output for name in FILES)
    assert f"run_s-agcn.py -d demo -k gt --data-dir {folder}" in output


def test_positions_are_the_motion_of_the_named_sequences(made):
    positions = load_npz(made[0] / FILES[0])["positions_3d"]
    assert list(positions) == ["S1", "S9"]
    assert list(positions["S9"]) == ["Walking", "Walking 1", "Jumping 1"]
    expected = make_motion("S9", "Walking 1", 12, seed=4)
    assert positions["S9"]["Walking 1"].dtype == np.float32
    assert np.array_equal(positions["S9"]["Walking 1"], expected)


@pytest.mark.parametrize("name", FILES[1:])
def test_keypoints_have_videopose3d_layout(made, name):
    content = load_npz(made[0] / name)
    metadata, skeleton = content["metadata"], COCO_17 if "coco" in name else H36M_17
    assert metadata["layout_name"] == ("coco" if "coco" in name else "h36m") and metadata["num_joints"] == 17
    assert metadata["keypoints_symmetry"] == [skeleton.joints_left(), skeleton.joints_right()]
    for actions in content["positions_2d"].values():
        for views in actions.values():
            assert [(view.shape, view.dtype) for view in views] == [((12, 17, 2), np.float32)] * 4


def test_true_keypoints_are_projections_and_detections_lie_near_them(made):
    true, detected, coco = (load_npz(made[0] / name)["positions_2d"]["S1"]["Walking"] for name in FILES[1:])
    positions = load_npz(made[0] / FILES[0])["positions_3d"]["S1"]["Walking"]
    expected = project_views(positions[:, H36M_KEPT], h36m_cameras("S1"))
    faces = project_views(detector_joints(positions, "coco"), h36m_cameras("S1"))
    for view in range(4):
        assert np.array_equal(true[view], expected[view])
        for found, seen in ((detected, true), (coco, faces)):
            assert 1 < np.median(np.linalg.norm(found[view] - seen[view], axis=-1)) < 15


def test_the_same_settings_again_keep_the_files(made):
    before = {name: (made[0] / name).stat().st_mtime_ns for name in FILES}
    again = run("--output", made[0], *TINY)
    assert again.returncode == 0 and "exists, kept; --force writes it anew" in again.stdout
    assert before == {name: (made[0] / name).stat().st_mtime_ns for name in FILES}


def test_other_settings_are_refused_until_forced(made, tmp_path):
    refused = run("--output", made[0], *TINY[2:], "--frames", "13")
    assert refused.returncode == 3 and "other frames" in refused.stderr and "--force" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    (tmp_path / FILES[0]).write_bytes(b"something else")
    assert run("--output", tmp_path, *TINY).returncode == 3
    forced = run("--data-dir", tmp_path, *TINY, "--force")
    assert forced.returncode == 0
    assert load_npz(tmp_path / FILES[0])["positions_3d"]["S1"]["Walking"].shape == (12, 32, 3)


@pytest.mark.parametrize("flags, named", [(("--actions", "Flying"), "SittingDown"), (("--subjects", "S2"), "S11"),
                                          (("--frames", "0"), "--frames"), (("--seed", "-1"), "--seed")])
def test_unusable_flags_end_with_status_2_and_say_what_is_possible(tmp_path, flags, named):
    refused = run("--output", tmp_path / "none", *flags)
    assert refused.returncode == 2
    assert named in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "none").exists()


RAW = ("--raw", "3dhp", "--frames", "3")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "raw"
    done = run(*RAW, "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_raw_dataset_is_written_whole_and_the_next_command_is_named(raw):
    files = sorted(path.relative_to(raw[0]).as_posix() for path in times(raw[0]))
    training = [f"S{subject}/Seq{number}/annot.mat" for subject in range(1, 9) for number in (1, 2)]
    assert files == sorted([*training, *(f"TS{number}/annot_data.mat" for number in range(1, 7)), "demo.npz"])
    assert raw[1].splitlines()[-1] == f"next: python prepare_data_3dhp.py --source {raw[0]}"
    assert list(raw[0].parent.iterdir()) == [raw[0]]


def test_a_raw_dataset_is_kept_until_it_is_forced_with_other_settings(raw):
    before = times(raw[0])
    again = run(*RAW, "--output", raw[0])
    assert again.returncode == 0 and "exists, kept" in again.stdout and times(raw[0]) == before
    refused = run(*RAW, "--output", raw[0], "--seed", 1)
    assert refused.returncode == 3 and "other seed; --force" in refused.stderr and times(raw[0]) == before
    forced = run(*RAW, "--output", raw[0], "--seed", 1, "--force")
    assert forced.returncode == 0 and all(changed != before[path] for path, changed in times(raw[0]).items())


def test_a_raw_human36m_is_written_as_archives_and_the_next_command_is_named(tmp_path, monkeypatch, capsys):
    folder, frames, _, reader = prepare_data_demo.RAW["h36m"]
    one = functools.partial(write_h36m, subjects=("S1",), sequences=("Walking-1",))  # seven people take half a minute
    monkeypatch.setitem(prepare_data_demo.RAW, "h36m", (folder, frames, one, reader))
    monkeypatch.setattr("sys.argv", ["prepare_data_demo.py", "--raw", "h36m", "--frames", "1", "--output",
                                     str(tmp_path / "raw")])
    prepare_data_demo.main(prepare_data_demo.get_args())
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: python prepare_data_h36m.py --images --raw {tmp_path / 'raw'}"
    assert {path.name for path in times(tmp_path / "raw")} == {*(archive_name(kind, "S1") for kind in ARCHIVES),
                                                               "demo.npz"}


@pytest.mark.parametrize("kind, files", [
    ("h36m-cdf", {"Poses_D3_Positions_S1.tgz", "Poses_D3_Positions_S11.tgz"}), ("h36m-zip", {"h36m.zip"}),
    ("humaneva", {"Train/S1/Walking_1.mat", "S1/Walking_1_(C1).avi.npz"}),
    ("video", {"walking.mp4", "walking.mp4.npz", "openpose/walking_000000000001_keypoints.json", "coco.json"}),
])
def test_other_originals_are_written_and_their_reader_is_named(tmp_path, monkeypatch, capsys, kind, files):
    monkeypatch.setattr("sys.argv", ["prepare_data_demo.py", "--raw", kind, "--frames", "2", "--output",
                                     str(tmp_path / "raw")])
    prepare_data_demo.main(prepare_data_demo.get_args())
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: python ") and str(tmp_path / "raw") in last and "{" not in last
    assert files <= {path.relative_to(tmp_path / "raw").as_posix() for path in times(tmp_path / "raw")}


def test_files_of_others_are_never_written_over(tmp_path):
    (tmp_path / "S1" / "Seq1").mkdir(parents=True)
    real = tmp_path / "S1" / "Seq1" / "annot.mat"
    real.write_bytes(b"a recording")
    refused = run(*RAW, "--output", tmp_path, "--force")
    assert refused.returncode == 3 and "other files than demo people" in refused.stderr
    assert list(times(tmp_path)) == [real] and real.read_bytes() == b"a recording"


@pytest.mark.parametrize("flags, named", [(("--subjects", "S1"), "--subjects does not apply"),
                                          (("--actions", "Walking"), "--actions does not apply")])
def test_flags_that_a_raw_dataset_has_no_use_for_are_refused(tmp_path, flags, named):
    refused = run(*RAW, "--output", tmp_path / "none", *flags)
    assert refused.returncode == 2 and named in refused.stderr and not (tmp_path / "none").exists()
