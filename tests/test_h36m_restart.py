"""The preparation of Human3.6M's images as a run: killed, restarted, with damaged and hostile archives."""
import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import h5py
import numpy as np
import pytest
from cdflib.cdfwrite import CDF
from conftest import ROOT, run_script, script_environment, start
from h36m_tree import FRAMES, contents, labels_of, prepare

from common import h36m_images
from common.folders import only_run
from common.h36m_images import ANNOTATION, find_sources
from common.h36m_labels import LABELS, LIMB_LENGTHS
from common.h36m_raw import CAMERAS, SEQUENCES, SUBJECTS
from common.synthetic_h36m import CDF_FLOAT, demo_positions, write_cdf, write_h36m, write_masks
from common.utils import DataError, UsageError, WriteError


@pytest.fixture
def copy(raw_h36m, made_h36m, tmp_path):
    """(raw, output) that a test may change; everything is prepared."""
    for name, folder in (("raw", raw_h36m), ("out", made_h36m)):
        shutil.copytree(folder, tmp_path / name)
    return tmp_path / "raw", tmp_path / "out"


def repack(archive, changes, folder):
    """Rewrite an archive with `changes`, {end of a member's name: bytes, or None to leave it out}."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    for ending, content in changes.items():
        [path] = [path for path in folder.rglob("*") if path.name.endswith(ending)]
        path.unlink() if content is None else path.write_bytes(content)
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)


def test_a_second_run_does_nothing(raw_h36m, made_h36m, capsys):
    before = {path: path.stat().st_mtime_ns for path in made_h36m.rglob("*") if path.name != ".lock"}
    prepare(raw_h36m, made_h36m)
    assert {path: path.stat().st_mtime_ns for path in made_h36m.rglob("*") if path.name != ".lock"} == before
    assert "0 sequences made, 3 kept, 0 left out" in capsys.readouterr().out


def test_subjects_can_be_prepared_one_after_the_other(raw_h36m, made_h36m, tmp_path):
    prepare(raw_h36m, tmp_path, "--subjects", "S9")
    assert set(labels_of(tmp_path)["table"]["subject_idx"]) == {SUBJECTS.index("S9")}
    assert not (tmp_path / "extra" / LIMB_LENGTHS).exists()
    prepare(raw_h36m, tmp_path, "--subjects", "S1")
    assert contents(tmp_path) == contents(made_h36m)


def spoil_shapes(path):
    """Leave the settings of an annotation as they are, and its keypoints without one joint."""
    with np.load(path) as content:
        arrays = dict(content)
    np.savez(path, **arrays | {"keypoints": arrays["keypoints"][:, 1:]})


def test_what_is_lost_or_damaged_later_is_made_again(made_h36m, copy, capsys):
    source, output = copy
    sequence = output / "processed" / "S1" / "Eating-1"
    content = (sequence / ANNOTATION).read_bytes()
    lost = [lambda: next(sequence.rglob("img_000001.jpg")).unlink(),
            lambda: shutil.rmtree(sequence / "imageSequence-undistorted" / CAMERAS[2]),
            lambda: (sequence / ANNOTATION).write_bytes(content[:len(content) // 2]),
            lambda: (sequence / ANNOTATION).write_bytes(content.replace(b"boxes.npy", b"boxer.npy")),
            lambda: spoil_shapes(sequence / ANNOTATION),
            lambda: next(output.glob("extracted/Videos_S1/**/Eating*.mp4")).unlink()]
    for number, lose in enumerate(lost):
        lose()
        prepare(source, output)
        assert contents(output) == contents(made_h36m)
        made = 0 if number == 5 else 1
        assert f"{made} sequences made, {3 - made} kept, 0 left out" in capsys.readouterr().out


def test_what_a_killed_run_leaves_beside_its_files_goes(raw_h36m, made_h36m, copy):
    source, output = copy
    (output / "extra" / f".{LABELS[:-4]}.abc.tmp.npy").write_bytes(b"half")
    for folder in ("extracted/.Videos_S1.abc.making", "processed/S9/.old.Walking-1.abc.making"):
        (output / folder).mkdir()
        (output / folder / "half").touch()
    prepare(source, output)
    assert contents(output) == contents(made_h36m)


def test_a_full_disk_is_one_line_and_leaves_what_is_whole(raw_h36m, made_h36m, tmp_path, monkeypatch):
    def write(path, rgb):
        if "Walking-1" in str(path) and CAMERAS[2] in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_jpeg(path, rgb)

    write_jpeg = h36m_images.write_jpeg
    monkeypatch.setattr(h36m_images, "write_jpeg", write)
    with pytest.raises(WriteError, match="S1/Walking-1: could not be written .No space left on device.; free space"):
        prepare(raw_h36m, tmp_path, "--allow-missing")
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]
    expected = contents(made_h36m)
    assert all(expected[path] == content for path, content in contents(tmp_path).items())
    assert (tmp_path / "processed" / "S1" / "Eating-1" / ANNOTATION).exists()


def test_killed_at_any_moment_it_goes_on_to_the_same_result(raw_h36m, made_h36m, tmp_path):
    expected, rng = contents(made_h36m), np.random.default_rng()
    line = ["prepare_data_h36m.py", "--images", "--raw", raw_h36m, "--output", tmp_path]
    for jobs, seconds in ((1, rng.uniform(0.5, 2)), (2, rng.uniform(1, 3)), (1, rng.uniform(0.5, 2))):
        process = start([*line, "--jobs", jobs])
        time.sleep(seconds)
        process.kill()
        process.communicate()
        found = contents(tmp_path)
        visible = [path for path in found if not any(part.startswith(".") for part in path.split("/"))]
        assert all(found[path] == expected[path] for path in visible)
        sequences = {path.rsplit("/image", 1)[0] for path in visible if path.endswith(".jpg")}
        assert all({path for path in expected if path.startswith(name + "/")} <= set(found) for name in sequences)
    time.sleep(1.5)  # processes of the killed run end by themselves
    done = run_script(*line, "--jobs", 2)
    assert done.status == 0, done.err
    assert contents(tmp_path) == expected
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads /proc")
def test_no_process_outlives_a_killed_parent():
    code = ("import time; from common.parallel import run_all\n"
            "if __name__ == '__main__': list(run_all(time.sleep, [60, 60], 2))")
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=script_environment())
    children = f"/proc/{parent.pid}/task/{parent.pid}/children"
    deadline = time.time() + 60
    while len(pids := open(children).read().split()) < 3 and time.time() < deadline:  # two, and their tracker
        time.sleep(0.05)
    time.sleep(1)
    parent.kill()
    parent.wait()
    while any(map(alive, pids)) and time.time() < deadline:
        time.sleep(0.05)
    assert len(pids) == 3 and not any(map(alive, pids))


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads /proc")
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.15])
def test_ctrl_c_while_processes_start_prints_nothing_of_them(seconds):
    """A terminal sends it to all processes, also to one that has only begun to import."""
    code = ("import sys, time; from common.parallel import run_all\n"
            "if __name__ == '__main__':\n"
            "    try: list(run_all(time.sleep, [60, 60], 2))\n"
            "    except KeyboardInterrupt: sys.exit(130)")
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=script_environment(), text=True,
                              stderr=subprocess.PIPE, start_new_session=True)
    children = f"/proc/{parent.pid}/task/{parent.pid}/children"
    while len(pids := open(children).read().split()) < 3 and parent.poll() is None:
        time.sleep(0.001)
    time.sleep(seconds)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.communicate(timeout=100) == (None, "") and parent.returncode == 130
    deadline = time.time() + 60
    while any(map(alive, pids)) and time.time() < deadline:  # their tracker ends a moment after the parent
        time.sleep(0.01)
    assert not any(map(alive, pids))


def alive(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
    return False


def hostile(kind):
    member = tarfile.TarInfo("S9/Videos/Walking 1.54138969.mp4")
    if kind in ("../evil.mp4", "S9/../../evil.mp4", "/tmp/evil.mp4", "S9\\..\\evil.mp4", "C:/evil.mp4"):
        member.name = kind
    else:
        member.type = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "device": tarfile.CHRTYPE,
                       "pipe": tarfile.FIFOTYPE}[kind]
        member.linkname = "/etc/passwd"
    return member


@pytest.mark.parametrize("kind", ["../evil.mp4", "S9/../../evil.mp4", "/tmp/evil.mp4", "S9\\..\\evil.mp4",
                                  "C:/evil.mp4", "symlink", "hardlink", "device", "pipe"])
def test_a_hostile_archive_is_refused_and_leaves_nothing(raw_h36m, tmp_path, kind):
    source, output = tmp_path / "raw", tmp_path / "out"
    source.mkdir()
    with tarfile.open(source / "Videos_S9.tgz", "w:gz") as tar:
        tar.add(raw_h36m / "Poses_D3_Positions_S9.tgz", "S9/Videos/first.mp4")
        tar.addfile(hostile(kind))
    with pytest.raises(DataError, match=r"Videos_S9.tgz: refused: its member .* (points outside|is a link)"):
        prepare(source, output, "--allow-missing")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"Videos_S9.tgz", ".lock"}


VIDEO, MASKS = "Walking 1.55011271.mp4", "Walking 1.58860488.mat"


def write_records(path, values):
    """Write values (records, frames, N) as the variable `Pose` of a CDF file."""
    file = CDF(str(path))
    file.write_var({"Variable": "Pose", "Data_Type": CDF_FLOAT, "Num_Elements": 1, "Rec_Vary": True, "Compress": 0,
                    "Dim_Sizes": list(values.shape[1:])}, var_data=values.astype(np.float32))
    file.close()


def damaged(kind, raw_h36m, folder):
    """(archive, changes, words of the message) of one way in which a sequence of S9 can be damaged."""
    poses = demo_positions("S9", "Walking-1", FRAMES)
    if kind == "cdf cut":
        write_cdf(folder / "a.cdf", poses.reshape(FRAMES, -1))
        return "Poses_D3_Positions_S9.tgz", {"1.cdf": (folder / "a.cdf").read_bytes()[:900]}, "Walking 1.cdf: damaged"
    if kind == "not finite":
        poses[4, 7] = np.nan
        write_cdf(folder / "a.cdf", poses.reshape(FRAMES, -1))
        return ("Poses_D3_Positions_S9.tgz", {"1.cdf": (folder / "a.cdf").read_bytes()},
                "Walking 1.cdf: not finite at frame 4")
    if kind == "no cdf":
        return "Poses_D3_Positions_S9.tgz", {"1.cdf": None}, "no file of Poses_D3_Positions in the archives"
    if kind == "video cut":
        with tarfile.open(raw_h36m / "Videos_S9.tgz") as tar:
            content = tar.extractfile(f"S9/Videos/{VIDEO}").read()
        return "Videos_S9.tgz", {VIDEO: content[:len(content) * 7 // 8]}, f"{VIDEO}: is truncated"
    if kind == "codec":
        with tarfile.open(raw_h36m / "Videos_S9.tgz") as tar:
            content = bytearray(tar.extractfile(f"S9/Videos/{VIDEO}").read())
        place = content.index(b"stsd") + 16
        content[place:place + 4] = b"none"
        return "Videos_S9.tgz", {VIDEO: content}, f"{VIDEO}: is damaged or of an unknown codec"
    if kind == "two records":
        write_records(folder / "a.cdf", np.stack([poses.reshape(FRAMES, -1)] * 2))
        return ("Poses_D3_Positions_S9.tgz", {"1.cdf": (folder / "a.cdf").read_bytes()},
                rf"Walking 1.cdf: Pose has the shape (2, {FRAMES}, 96)")
    if kind == "small masks":
        write_masks(folder / "a.mat", [np.ones((30, 40), dtype=bool)] * FRAMES)
        return ("Segments_mat_gt_bb_S9.tgz", {MASKS: (folder / "a.mat").read_bytes()},
                f"{MASKS}: the mask of frame 0 has the shape (40, 30), not (1000, 1000)")
    if kind == "no references":
        with h5py.File(folder / "a.mat", "w") as file:
            file.create_dataset("Masks", (1, FRAMES), dtype=h5py.ref_dtype)
        return "Segments_mat_gt_bb_S9.tgz", {MASKS: (folder / "a.mat").read_bytes()}, f"{MASKS}: damaged"
    if kind == "no video":
        return "Videos_S9.tgz", {VIDEO: None}, "no file of Videos 55011271 in the archives"
    if kind == "no masks":
        write_masks(folder / "a.mat", [])
        return "Segments_mat_gt_bb_S9.tgz", {MASKS: (folder / "a.mat").read_bytes()}, f"{MASKS}: ends after 0 masks"
    return "Segments_mat_gt_bb_S9.tgz", {MASKS: b"MATLAB 7.3"}, f"{MASKS}: damaged or truncated"


@pytest.mark.parametrize("kind", ["cdf cut", "two records", "not finite", "no cdf", "video cut", "codec", "no video",
                                  "no masks", "small masks", "no references", "masks cut"])
def test_a_damaged_sequence_is_named_and_left_out(raw_h36m, copy, tmp_path, kind, capsys):
    source, output = copy
    archive, changes, words = damaged(kind, raw_h36m, tmp_path)
    repack(source / archive, changes, tmp_path / "members")
    with pytest.raises(DataError, match="1 sequences are damaged or missing and were left out: S9 Walking-1; mend"):
        prepare(source, output)
    warning = capsys.readouterr().out.splitlines()[-1]
    assert warning.startswith("WARNING: S9 Walking-1 is left out: ") and words in warning
    assert set(labels_of(output)["table"]["subject_idx"]) == {SUBJECTS.index("S1")}


def test_the_status_of_damage_is_3_unless_it_is_allowed(copy, tmp_path):
    source, output = copy
    repack(source / "Videos_S9.tgz", {VIDEO: None}, tmp_path / "members")
    line = ["prepare_data_h36m.py", "--images", "--raw", source, "--output", output, "--jobs", 2]
    run_script(*line).assert_fails(3, "S9 Walking-1", "--allow-missing")
    allowed = run_script(*line, "--allow-missing")
    assert allowed.status == 0 and not allowed.err and "S9 Walking-1 is left out" in allowed.out


def test_a_truncated_archive_is_named_each_time_and_mended_by_a_whole_one(raw_h36m, made_h36m, copy):
    source, output = copy
    content = (source / "Videos_S1.tgz").read_bytes()
    (source / "Videos_S1.tgz").write_bytes(content[:len(content) * 2 // 3])
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 sequences .*: S1 Walking-1; damaged archives: .*Videos_S1.tgz; mend"):
            prepare(source, output)
        assert (output / "processed" / "S1" / "Eating-1" / ANNOTATION).exists()
        assert set(labels_of(output)["table"]["action_idx"]) == {SEQUENCES.index(name) for name in
                                                                 ("Eating-1", "Walking-1")}
    shutil.copy2(raw_h36m / "Videos_S1.tgz", source)
    prepare(source, output)
    assert contents(output) == contents(made_h36m)


def test_the_view_that_its_owners_give_out_broken_is_not_asked_for(tmp_path):
    missing = ("Videos", CAMERAS[0]), ("Segments_mat_gt_bb", CAMERAS[0])
    assert not set(missing) & set(find_sources(tmp_path, "S11", "Directions-2"))
    assert set(missing) <= set(find_sources(tmp_path, "S11", "Directions-1"))
    write_h36m(tmp_path / "raw", 1, subjects=("S11",), sequences=("Directions-2",))
    prepare(tmp_path / "raw", tmp_path / "out")
    [boxes] = labels_of(tmp_path / "out")["table"]["bbox_by_camera_tlbr"]
    assert not boxes[0].any() and (boxes[1:, 2] > boxes[1:, 0]).all()
    pictures = {path.parent.name for path in (tmp_path / "out").rglob("*.jpg")}
    assert pictures == set(CAMERAS[1:])


@pytest.mark.parametrize("flags, error, words", [
    (("--subjects", "S7"), DataError, "no archives of S7"), (("--subjects", "S2"), UsageError, "unknown subject 'S2'"),
    (("--subjects", ","), UsageError, "names nothing")])
def test_subjects_that_are_not_there_are_refused(raw_h36m, tmp_path, flags, error, words):
    with pytest.raises(error, match=re.escape(words)):
        prepare(raw_h36m, tmp_path, *flags)


def test_ctrl_c_ends_all_processes_and_leaves_nothing_half_written(raw_h36m, made_h36m, tmp_path):
    process = start(["prepare_data_h36m.py", "--images", "--raw", raw_h36m, "--output", tmp_path, "--jobs", 2])
    while not list(tmp_path.glob("processed/*/.*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(100) == 130
    process.communicate()
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]
    assert set(contents(tmp_path)) < set(contents(made_h36m))


def test_two_runs_do_not_write_into_one_folder(raw_h36m, tmp_path):
    with only_run(tmp_path), pytest.raises(DataError, match="another run is writing into it"):
        prepare(raw_h36m, tmp_path)


def test_what_is_to_be_prepared_must_be_said(tmp_path):
    run_script("prepare_data_h36m.py", "--raw", tmp_path).assert_fails(2, "--images")
    run_script("prepare_data_h36m.py", "--images", "--raw", tmp_path / "none").assert_fails(3, "no such folder")
