"""Human3.6M's positions, as miniatures of demo people in all their formats, and what the preparation makes of them."""
import functools
import gzip
import shutil
import sys
import tarfile
import zipfile
from unittest import mock

import numpy as np
import pytest
from conftest import run_script
from h36m_positions_runs import FRAMES, S1, prepare, refused

import prepare_data_h36m
from common.camera import camera_to_world
from common.h36m_dataset import h36m_cameras
from common.h36m_positions import make_arrays
from common.h36m_raw import CAMERAS, SEQUENCES, SUBJECTS, npz_name, pixel_camera, to_pixels
from common.h36m_run import FILES
from common.keypoints import H36M_17, H36M_KEPT
from common.pose_data import fetch, load_dataset, load_keypoints
from common.safe_io import load_npz
from common.synthetic_h36m import demo_positions, write_cdf
from common.synthetic_h36m_poses import write_h36m_positions
from common.utils import DependencyError, UsageError, WriteError

SOURCES = {"cdf": ("cdf", False), "cdf packed": ("cdf", True), "mat": ("mat", False), "archive": ("archive", False)}
NAMES = {subject: [npz_name(subject, sequence) for sequence in SEQUENCES
                   if (subject, sequence) != ("S11", "Directions-2")] for subject in SUBJECTS}
POSE_FOLDER = "S1/MyPoseFeatures/D3_Positions"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """{name in `SOURCES`: the whole dataset in that form}."""
    folder = tmp_path_factory.mktemp("h36m")
    with mock.patch("common.synthetic_h36m_poses.demo_positions", functools.cache(demo_positions)):
        for name, (source, packed) in SOURCES.items():
            write_h36m_positions(folder / name, source, FRAMES, packed=packed)
    return {name: folder / name for name in SOURCES} | {"archive": folder / "archive" / "h36m.zip"}


@pytest.fixture(scope="module")
def made(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npz")
    prepare(raw["cdf"], folder)
    return folder


@pytest.fixture
def s1(raw, tmp_path):
    """A folder with S1 alone, that a test may change."""
    shutil.copytree(raw["cdf"] / "S1", tmp_path / "raw" / "S1")
    return tmp_path / "raw"


@pytest.mark.parametrize("name", list(SOURCES)[1:])
def test_every_source_gives_the_same_files(raw, made, tmp_path, name):
    prepare(raw[name], tmp_path, source=SOURCES[name][0])
    for file in FILES:
        assert (tmp_path / file).read_bytes() == (made / file).read_bytes()


def test_the_files_hold_the_motion_that_made_them(made):
    positions, keypoints = (load_npz(made / file) for file in FILES)
    assert {subject: list(actions) for subject, actions in positions["positions_3d"].items()} == NAMES
    assert {subject: list(actions) for subject, actions in keypoints["positions_2d"].items()} == NAMES
    assert keypoints["metadata"] == {"layout_name": "h36m", "num_joints": 17,
                                     "keypoints_symmetry": [H36M_17.joints_left(), H36M_17.joints_right()]}
    for subject, sequence in (("S1", "Eating-1"), ("S1", "TakingPhoto-2"), ("S5", "WalkingDog-1")):
        name, motion = npz_name(subject, sequence), demo_positions(subject, sequence, FRAMES)
        poses, views = (content[subject][name] for content in (positions["positions_3d"], keypoints["positions_2d"]))
        assert poses.dtype == np.float32 and np.array_equal(poses, (motion / np.float64(1000)).astype(np.float32))
        for camera, view in zip(CAMERAS, views, strict=True):
            assert view.dtype == np.float32
            np.testing.assert_allclose(view, to_pixels(motion[:, H36M_KEPT], pixel_camera(camera, subject)), atol=5e-4)


def test_names_are_those_that_users_know(made):
    names = load_npz(made / FILES[0])["positions_3d"]
    assert {"Photo", "Photo 1", "WalkDog", "WalkTogether 1", "Eating 2"} <= set(names["S1"])
    assert "Directions" not in names["S11"] and "Directions 1" in names["S11"] and len(names["S9"]) == 30


def test_projections_land_on_the_labels_of_real_frames(real_data):
    labels = np.load(real_data / "h36m_frames" / "labels.npz")
    for image, pixels, seen in zip(labels["image"], labels["keypoints_2d"], labels["keypoints_3d_camera"], strict=True):
        subject, number = str(image).split("_")[0], CAMERAS.index(str(image).split(".")[1].split("_")[0])
        camera, poses = h36m_cameras(subject)[number], np.zeros((1, 32, 3), dtype=np.float32)
        poses[0, H36M_KEPT] = camera_to_world(seen, camera["orientation"], camera["translation"])
        views = make_arrays({subject: {"Walking": poses}})[1]["positions_2d"].item()
        np.testing.assert_allclose(views[subject]["Walking"][number][0], pixels, atol=1e-3)


def test_training_loads_the_files(made):
    keypoints = load_keypoints(made, "h36m", "gt")
    dataset = load_dataset(made, "h36m", keypoints)
    assert len(fetch(dataset, keypoints, SUBJECTS)) == 4 * 209
    [first, *_] = fetch(dataset, keypoints, ["S11"], ["Directions"])
    assert first.action == "Directions 1" and first.positions.shape == (FRAMES, 17, 3)


def move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    return target


def rename_all(folder, change):
    for path in sorted(folder.rglob("*.cdf")):
        path.rename(path.with_name(change(path.name)))


def packed(folder, archive, place=""):
    """Pack `folder` as a .tgz under the name `place`; the folder goes."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, place)
    shutil.rmtree(folder)
    return archive


def unpacked(archive):
    """The archive as browsers may save it: unpacked, under its name."""
    archive.write_bytes(gzip.decompress(archive.read_bytes()))
    return archive


def zipped(folder, archive):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


def link(folder, name):
    name.parent.mkdir()
    name.symlink_to(folder)
    (name.parent / "round").symlink_to(name.parent)
    return name


FORMS = {
    "folder above": lambda raw: move(raw / "S1", raw / "data" / "h36m" / "S1").parents[2],
    "subject's folder": lambda raw: raw / "S1",
    "folder of the files": lambda raw: raw / POSE_FOLDER,
    "files side by side": lambda raw: move(raw / POSE_FOLDER, raw / "files"),
    "underscores": lambda raw: rename_all(raw, lambda name: name.replace(" ", "_")) or raw,
    "abbreviated": lambda raw: rename_all(raw, lambda name: name.replace("Taking", "").replace("kingD", "kD")) or raw,
    "written out": lambda raw: rename_all(raw, lambda name: name.replace("WalkTog", "WalkingTog")) or raw,
    "upper case": lambda raw: rename_all(raw, lambda name: name.replace(".cdf", ".CDF")) or raw,
    "S1.tgz": lambda raw: packed(raw / "S1", raw / "S1.tgz", "S1"),
    "S1.tgz in a folder": lambda raw: packed(raw / "S1", raw / "S1.tgz", "./S1").parent,
    "S1.tgz without a folder S1": lambda raw: packed(raw / "S1/MyPoseFeatures", raw / "S1.tgz", "MyPoseFeatures"),
    "saved twice": lambda raw: packed(raw / "S1", raw / "Poses_D3_Positions_S1 (1).tgz", "S1").parent,
    "archive of another name": lambda raw: packed(raw / "S1", raw / "backup_s3.tgz", "h36m/S1"),
    "tar": lambda raw: unpacked(packed(raw / "S1", raw / "S1.tgz", "S1")),
    "zip": lambda raw: zipped(raw / "S1", raw / "S1.zip"),
    "link": lambda raw: link(raw / "S1", raw.parent / "links" / "S1").parent,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_dataset_is_taken_as_people_have_it(s1, made, tmp_path, form):
    [positions, _] = prepare(FORMS[form](s1), tmp_path / "out", *S1)
    expected = load_npz(made / FILES[0])["positions_3d"]["S1"]
    assert list(positions["positions_3d"]) == ["S1"] and list(positions["positions_3d"]["S1"]) == list(expected)
    assert all(np.array_equal(poses, expected[name]) for name, poses in positions["positions_3d"]["S1"].items())


def test_the_folder_extracted_from_the_archive_is_taken_too(raw, s1, tmp_path):
    with zipfile.ZipFile(raw["archive"]) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if "/S1/" in name])
    for path in sorted((tmp_path / "h36m").rglob("*_1.h5")):
        path.rename(path.with_name(path.name.replace("_", " ")))
    prepare(tmp_path / "h36m", tmp_path / "a", *S1, source="archive")
    prepare(s1, tmp_path / "b", *S1)
    assert (tmp_path / "a" / FILES[1]).read_bytes() == (tmp_path / "b" / FILES[1]).read_bytes()


def test_other_files_of_the_same_names_do_not_count(s1, made, tmp_path, capsys):
    folder = s1 / POSE_FOLDER
    for other, numbers in {"D3_Angles": 78, "RawAngles": 78, "D3_Positions_mono": 96, "D3_Positions_mono_universal": 96,
                           "D2_Positions": 64, "Unknown": 96}.items():
        for name in ("Walking 1.cdf", "Walking 1.54138969.cdf", "Walking 3.cdf"):
            write_cdf(folder.parent / other / name, np.ones((FRAMES, numbers)))
    for name in ("_ALL.cdf", "_ALL 1.cdf", "._Walking 1.cdf", ".DS_Store", "notes.txt"):
        (folder / name).write_bytes(b"x")
    shutil.copytree(folder, s1 / "__MACOSX" / POSE_FOLDER)
    for name in ("Walking 3.cdf", "Dancing.cdf"):
        (folder / name).write_bytes(b"x")
    [positions, _] = prepare(s1, tmp_path / "out", *S1)
    expected = load_npz(made / FILES[0])["positions_3d"]["S1"]
    assert np.array_equal(positions["positions_3d"]["S1"]["Walking 1"], expected["Walking 1"])
    [notice] = [line for line in capsys.readouterr().out.splitlines() if "S1 Dancing" in line]
    assert notice.startswith("INFO: not among the dataset's sequences") and "S1 Walking 3" in notice


def test_where_no_folder_says_what_a_file_holds_its_shape_does(s1, tmp_path):
    files = move(s1 / POSE_FOLDER, s1 / "S1" / "b")
    write_cdf(s1 / "S1" / "a" / "Walking 1.cdf", np.ones((FRAMES, 78)))
    prepare(s1, tmp_path / "out", *S1)
    (files / "Walking 1.cdf").unlink()
    assert "a/Walking 1.cdf: Pose has the shape (1, 3, 78)" in refused(s1, tmp_path / "none", *S1)


def test_two_files_of_one_sequence_may_only_hold_the_same(s1, tmp_path):
    folder = s1 / POSE_FOLDER
    shutil.copy(folder / "Walking 1.cdf", folder / "Walking_1.cdf")
    prepare(s1, tmp_path / "out", *S1)
    shutil.copy(folder / "Walking.cdf", folder / "Walking_1.cdf")
    message = refused(s1, tmp_path / "none", *S1, "--allow-missing")
    assert "S1 Walking 1: two files" in message and "/Walking 1.cdf" in message and "/Walking_1.cdf" in message


def test_an_archive_beside_its_folder_is_only_read_for_what_is_missing(raw, s1, made, tmp_path, capsys):
    shutil.copy(raw["cdf packed"] / "Poses_D3_Positions_S1.tgz", s1)
    for archive in ("Poses_D3_Positions_mono_S1.tgz", "Videos_S1.tgz"):
        (s1 / archive).write_bytes(b"never opened")
    prepare(s1, tmp_path / "a", *S1)
    [notice] = [line for line in capsys.readouterr().out.splitlines() if "INFO: not read" in line]
    assert notice.endswith(f": {s1 / 'Poses_D3_Positions_S1.tgz'}")
    (s1 / POSE_FOLDER / "Walking 1.cdf").unlink()
    prepare(s1, tmp_path / "b", *S1)
    assert (tmp_path / "a" / FILES[0]).read_bytes() == (tmp_path / "b" / FILES[0]).read_bytes()


def test_what_is_missing_is_named_and_nothing_is_written(s1, tmp_path, capsys):
    """In the line of the error, and all of it above where that is too long."""
    folder = s1 / POSE_FOLDER
    move(folder / "Walking 1.cdf", folder.parent / "Other" / "Walking 1.cdf")
    message = refused(s1, tmp_path / "none", *S1)
    assert "1 of 30 sequences are missing: S1 Walking 1; " in message and "--allow-missing" in message
    message = refused(s1, tmp_path / "none")
    assert "180 of 209 sequences are missing: S1 Walking 1, S5 (all 30), S6 (all 30)" in message
    assert "S9 (all 30), S11 (all 29); put them" in message
    for path in sorted(folder.glob("S*.cdf")):
        shutil.move(path, folder.parent / "Other")
    assert "S1 Walking 1 and 6 more; " in refused(s1, tmp_path / "none")
    assert "missing: S1 Smoking 1\n" in capsys.readouterr().out
    [positions, keypoints] = prepare(s1, tmp_path / "out", "--allow-missing")
    assert list(keypoints["positions_2d"]) == ["S1"] and len(positions["positions_3d"]["S1"]) == 23
    assert "WARNING: " in capsys.readouterr().out
    message = refused(s1, tmp_path / "out", "--subjects", ",".join(SUBJECTS[:6]), "--allow-missing")
    assert "was made with other subjects; --force" in message


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", None])
def test_damaged_files_are_named_and_left_out_if_allowed(s1, tmp_path, content, capsys):
    for name in ("Walking 1.cdf", "Eating.cdf"):
        path = s1 / POSE_FOLDER / name
        path.write_bytes(path.read_bytes()[:900] if content is None else content)
    message = refused(s1, tmp_path / "none", *S1)
    assert f"{s1 / POSE_FOLDER / 'Eating.cdf'}: damaged or truncated" in message and "1 others" in message
    assert "S1 Walking 1: " in capsys.readouterr().out
    [positions, _] = prepare(s1, tmp_path / "out", *S1, "--allow-missing")
    assert len(positions["positions_3d"]["S1"]) == 28
    prepare(s1, tmp_path / "out", *S1, "--allow-missing")
    assert "exists, kept" in capsys.readouterr().out


def test_an_interrupted_run_leaves_nothing(raw, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for place in ("h36m_positions.read_positions", "h36m_run.make_arrays", "prepared.np.savez_compressed"):
        monkeypatch.setattr(f"common.{place}", mock.Mock(side_effect=KeyboardInterrupt))
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(KeyboardInterrupt):
            prepare(raw["cdf packed"], tmp_path / "out", *S1)
        assert list(tmp_path.rglob("*")) == [tmp_path / "out"]
        monkeypatch.undo()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_full_disk_leaves_neither_file(raw, tmp_path, monkeypatch):
    def write(file, **arrays):
        if "data_2d" in str(file.name):  # the rest of a temporary name is random
            raise OSError(28, "No space left on device")
        save(file, **arrays)

    save = np.savez_compressed
    monkeypatch.setattr("common.prepared.np.savez_compressed", write)
    (tmp_path / "out").mkdir()
    message = refused(raw["cdf"], tmp_path / "out", *S1, error=WriteError)
    assert message.startswith(f"{tmp_path / 'out' / FILES[1]}: could not be written (No space left")


def test_the_same_again_is_kept_and_anything_else_refused_until_forced(raw, tmp_path, capsys):
    output = tmp_path / "out"
    prepare(raw["cdf"], output, *S1)
    before = {name: (output / name).stat().st_mtime_ns for name in FILES}
    prepare(raw["mat"], output, *S1, source="mat")
    assert "exists, kept; --force writes it anew" in capsys.readouterr().out
    assert before == {name: (output / name).stat().st_mtime_ns for name in FILES}
    assert "other subjects; --force" in refused(raw["cdf"], output, "--subjects", "S9")
    np.savez(output / FILES[1], positions_2d=np.ones(3))
    assert "not a file of this script; --force" in refused(raw["cdf"], output, *S1)
    [positions, keypoints] = prepare(raw["cdf"], output, "--subjects", "S9,S5", "--force")
    assert list(positions["positions_3d"]) == list(keypoints["positions_2d"]) == ["S5", "S9"]
    assert "INFO: only S5, S9 of 7 subjects" in capsys.readouterr().out


@pytest.mark.parametrize("flags, words", [
    (("--images", "--force", "--raw", "x"), "--force applies to positions only"), (("--images",), "needs --raw"),
    (("--from-source", "x", "--jobs", "2"), "--jobs applies to --images only"), (("--force",), "say what to prepare"),
    (("--from-archive", "x", "--raw", "y"), "--raw applies"), (("--from-source", "x", "--subjects", "S2"), "'S2'")])
def test_flags_that_do_not_fit_together_are_refused(flags, words):
    with mock.patch.object(sys, "argv", ["prepare_data_h36m.py", *flags]), pytest.raises(UsageError, match=words):
        prepare_data_h36m.get_args()


@pytest.mark.parametrize("source, library", [("cdf", "cdflib"), ("archive", "h5py")])
def test_a_library_that_is_missing_is_named(raw, tmp_path, monkeypatch, source, library):
    monkeypatch.setitem(sys.modules, library, None)
    message = refused(raw[source], tmp_path / "none", error=DependencyError, source=source)
    assert f"pip install {library}" in message


def test_a_place_without_positions_says_what_is_looked_for(raw, tmp_path):
    message = refused(raw["mat"], tmp_path / "none")
    assert "such as S1/MyPoseFeatures/D3_Positions/Walking 1.cdf" in message and "what --from-source reads" in message
    single = raw["cdf"] / POSE_FOLDER / "Walking.cdf"
    assert f"{single}: is a single file" in refused(single, tmp_path / "none")
    assert "no such file or folder" in refused(tmp_path / "nowhere", tmp_path / "none")
    write_cdf(tmp_path / "files" / "Walking 1.cdf", np.ones((FRAMES, 96)))
    assert "Walking 1.cdf is: name its folder S1" in refused(tmp_path / "files", tmp_path / "none")


def test_it_runs_from_any_folder_and_names_the_next_command(raw, made, tmp_path):
    done = run_script("prepare_data_h36m.py", "--from-archive", raw["archive"], cwd=tmp_path)
    assert done.status == 0 and not done.err, done.err
    assert done.out.splitlines()[-1] == "next: python run_s-agcn.py -k gt"
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "data", *(f"data/{name}" for name in sorted(FILES))]
    assert (tmp_path / "data" / FILES[0]).read_bytes() == (made / FILES[0]).read_bytes()
    run_script("prepare_data_h36m.py", "--from-source-cdf", tmp_path, "--from-source", tmp_path).assert_fails(
        2, "not allowed with")
