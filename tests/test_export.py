"""The results file: what is written is read again, by anybody; what is damaged is refused in one line."""
import json
import pickle
import sys
import warnings
import zipfile
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from common.export import (
    Prediction,
    check_export,
    export_prediction,
    read_prediction,
    results_paths,
    write_prediction,
)
from common.keypoints import COCO_17, H36M_17
from common.skeleton import Skeleton
from common.utils import DataError, DependencyError, UsageError, WriteError


def made(frames=5, **changes):
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(3, frames, 17, 3)).astype(np.float32)
    pixels = rng.uniform(0, 1000, (frames, 17, 2))
    pixels[0, 3] = np.nan
    return replace(Prediction(poses[0], H36M_17, 50, "world", "ground truth", {"subject": "S9", "action": "Gehen ü 走"},
                              np.cumsum(rng.uniform(0.1, 1, frames)), poses[1], poses[2], pixels, COCO_17, (640, 480),
                              {"boxes": rng.integers(0, 9, (frames, 4)), "names": ["a", "ü"], "gap": [1.5, np.nan]}),
                   **changes)


def test_errors_count_where_the_network_put_the_root_if_its_path_is_that_of_the_truth():
    on_true_path, by_itself = made(), made(root_path="predicted")
    for prediction, origin in ((on_true_path, on_true_path.ground_truth), (by_itself, by_itself.joints)):
        expected = [[1000 * np.sqrt(sum((a - o - b + r) ** 2)) for a, b in zip(joints, truth, strict=True)]
                    for joints, truth, o, r in zip(prediction.joints, prediction.ground_truth, origin[:, 0],
                                                   prediction.ground_truth[:, 0], strict=True)]
        np.testing.assert_allclose(prediction.errors_mm(), expected, rtol=1e-5, atol=1e-3)
    assert on_true_path.errors_mm()[:, 0].min() > 1 and not by_itself.errors_mm()[:, 0].any()


def assert_same(found, expected, tolerance=0):
    for field in fields(Prediction):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, Skeleton):
            assert one.names() == other.names() and one.parents() == other.parents()
        elif field.name == "extra":
            assert one.keys() == other.keys()
            for name in other:
                np.testing.assert_array_equal(one[name], other[name])
        elif isinstance(other, np.ndarray):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
        else:
            assert one == other, field.name


@pytest.mark.parametrize("suffix", [".npz", ".json", ".JSON"])
@pytest.mark.parametrize("prediction", [
    made(), made(1), made(times=None, joints_camera=None, ground_truth=None, keypoints_2d=None, skeleton_2d=None,
                      size=None, extra={}, source={}), made(frame="camera", joints_camera=None, skeleton_2d=None)])
def test_what_is_written_is_read_again(suffix, prediction, tmp_path):
    path = tmp_path / "new folder" / f"a{suffix}"
    assert write_prediction(path, prediction) == []
    found = read_prediction(path)
    assert_same(found, prediction, 0 if suffix == ".npz" else 1e-6)
    assert found.skeleton.joints_left() == H36M_17.joints_left()
    again = path.with_name("b.npz")
    write_prediction(again, found)
    assert_same(read_prediction(again), found)
    assert sorted(path.parent.iterdir()) == [path, again]


def test_an_npz_needs_nothing_but_numpy_and_a_json_nothing_at_all(tmp_path):
    prediction = made()
    write_prediction(tmp_path / "a.npz", prediction)
    write_prediction(tmp_path / "a.json", prediction)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as poses:
        np.testing.assert_array_equal(poses["joints"], prediction.joints)
        np.testing.assert_array_equal(poses["keypoints_3d_world"], prediction.joints)
        for name in ("keypoints_3d", "keypoints_3d_camera", "joints_camera"):
            np.testing.assert_array_equal(poses[name], prediction.joints_camera)
        assert poses["joint_names"].tolist() == content["joint_names"] == H36M_17.names()
        assert (poses["units"], poses["axes"], poses["fps"]) == ("m", "z up", 50) == (
            content["units"], content["axes"], content["fps"])
        assert "y down" in str(poses["axes_camera"]) and "y down" in content["axes_camera"]
        assert json.loads(str(poses["source"])) == content["source"] == prediction.source
    assert content["keypoints_2d"][0][3] == [None, None] and content["size"] == [640, 480]


def test_a_json_that_is_written_in_pieces_is_the_same(tmp_path, monkeypatch):
    write_prediction(tmp_path / "whole.json", made(7))
    monkeypatch.setattr("common.plain_values.BLOCK", 3)
    write_prediction(tmp_path / "pieces.json", made(7))
    assert (tmp_path / "pieces.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert json.loads((tmp_path / "whole.json").read_bytes())["times"] == np.round(made(7).times, 6).tolist()


def test_frames_that_are_cut_keep_their_times():
    whole = made(9)
    part = whole.cut(np.arange(9)[2::3], 50 / 3)
    np.testing.assert_array_equal(part.joints, whole.joints[[2, 5, 8]])
    np.testing.assert_array_equal(part.keypoints_2d, whole.keypoints_2d[[2, 5, 8]])
    np.testing.assert_allclose(part.seconds(), whole.seconds()[[2, 5, 8]] - whole.seconds()[2])
    even = made(9, times=None).cut(np.arange(9)[2::3], 50 / 3)
    np.testing.assert_allclose(even.seconds(), [0, 3 / 50, 6 / 50])


def test_a_results_file_is_left_in_every_case(tmp_path):
    for output, export, names in (("a.mp4", "b.npz", ["b.npz"]), ("a.mp4", "b.JSON", ["b.JSON"]),
                                  ("a.mp4", None, ["a.results.npz"]), (None, "c.bvh", ["c.results.npz", "c.bvh"]),
                                  ("a.html", "b.csv", ["a.results.npz", "b.csv"])):
        paths = results_paths(output and tmp_path / "x" / output, export and tmp_path / export)
        assert [path.name for path in paths] == names
        assert paths[0].parent == (tmp_path / "x" if output and names[0].startswith("a") else tmp_path)


def test_what_a_writer_notices_is_printed(tmp_path, monkeypatch, capsys):
    def write_bvh(path, prediction):
        path.write_text("HIERARCHY")
        return [f"{len(prediction)} frames fitted"]

    monkeypatch.setitem(sys.modules, "common.export_bvh", SimpleNamespace(write_bvh=write_bvh))
    export_prediction(made(), [tmp_path / "a.bvh", tmp_path / "a.npz"])
    assert capsys.readouterr().out.splitlines() == [
        f"3D coordinates of 5 frames written to {tmp_path / 'a.bvh'}", "INFO: 5 frames fitted",
        f"3D coordinates of 5 frames written to {tmp_path / 'a.npz'}"]
    with pytest.raises(DataError, match=r"only \.npz and \.json"):
        read_prediction(tmp_path / "a.bvh")


@pytest.mark.parametrize(("name", "words"), [("a.npy", r"a\.npz.*keypoints_3d"), ("a", "none"), ("a.txt", r"\.trc")])
def test_other_suffixes_are_refused_with_those_there_are(name, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        write_prediction(tmp_path / name, made())
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_export(tmp_path / "folder.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.npz"]


@pytest.mark.parametrize("fps", [1e-9, 1 / 3600, 30000 / 1001, 1e9])
def test_any_rate_survives_both_files(fps, tmp_path):
    for name in ("a.npz", "a.json"):
        write_prediction(tmp_path / name, made(fps=fps))
        assert read_prediction(tmp_path / name).fps == fps


def test_a_missing_library_is_told_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ezc3d", None)
    with pytest.raises(DependencyError, match="pip install ezc3d"):
        check_export(tmp_path / "a.c3d")


@pytest.mark.parametrize(("changes", "words"), [
    ({"joints": np.zeros((5, 16, 3))}, "joints of shape"), ({"joints": np.zeros((0, 17, 3))}, "at least one"),
    ({"ground_truth": np.zeros((4, 17, 3))}, "ground_truth of shape"), ({"joints": np.full((5, 17, 3), 1e300)}, "NaN"),
    ({"fps": 0}, "frames per second"), ({"fps": np.nan}, "frames per second"), ({"frame": "moon"}, "moon"),
    ({"root_path": "lost"}, "lost"), ({"times": np.zeros(5)}, "ascending"), ({"size": (0, 3)}, "size"),
    ({"keypoints_2d": np.zeros((5, 17))}, "keypoints_2d"), ({"keypoints_2d": np.zeros((5, 4, 2))}, "keypoints_2d"),
    ({"keypoints_2d": np.full((5, 17, 2), np.inf)}, "infinite"),
])
def test_what_is_no_prediction_is_none(changes, words):
    with pytest.raises(ValueError, match=words):
        made(**changes)


@pytest.mark.parametrize("suffix", [".npz", ".json", ".csv", ".bvh", ".trc", ".c3d"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(suffix, tmp_path):
    resource = pytest.importorskip("resource")  # not on Windows
    if suffix == ".c3d":
        pytest.importorskip("ezc3d")
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))  # bytes of any file that is written from here on
    try:
        with pytest.raises(WriteError, match=f"a{suffix}: could not be written"):
            write_prediction(path, made(30))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("extra", [{"parents": np.arange(3)}, {"source": "me"}, {"keypoints_3d": [1]},
                                   {"a": np.array([{}])}, {"a": b"x"}])
def test_what_cannot_be_stored_leaves_no_file(extra, tmp_path):
    for suffix in (".npz", ".json"):
        with pytest.raises(ValueError, match="key of the file|numbers or text"):
            write_prediction(tmp_path / f"a{suffix}", made(extra=extra))
    assert not list(tmp_path.iterdir())


# ---- files of anybody

ENDLESS = [0] * 17
WRONG = [
    ("joints", None), ("joints", []), ("joints", "x"), ("joints", [[1, 2], [3]]), ("joints", {}), ("joints", [[None]]),
    ("joints", np.full((5, 17, 3), 1e30)), ("joints", np.zeros((0, 17, 3))), ("joints", np.zeros((5, 17, 3), complex)),
    ("joints", np.full((5, 17, 3), np.nan)), ("format", 7), ("version", "new"), ("version", [1, 2]), ("version", 99),
    ("version", float("nan")), ("fps", None), ("fps", -1), ("fps", [1, 2]), ("fps", 10**400), ("frame", "moon"),
    ("frame", 3), ("root_path", ["x"] * 9), ("units", "mm"), ("units", ["m", "m"]), ("times", [5, 4, 3, 2, 1]),
    ("times", "now"), ("parents", ENDLESS), ("parents", [-1, *[2, 1] * 8]), ("parents", [-1] * 17),
    ("parents", [-1, 99, *[0] * 15]), ("parents", [-1, 0.5, *[0] * 15]), ("parents", []), ("parents", None),
    ("parents", [-1, *range(200_000)]), ("joint_names", []), ("joint_names", ["a"] * 17), ("joint_names", 5),
    ("joint_names", [" ", *H36M_17.names()[1:]]), ("joint_names", ["a\nb", *H36M_17.names()[1:]]),
    ("joint_names", [["a"]] * 17), ("joint_names", list(range(17))), ("joints_left", [1, 1]), ("joints_left", [99]),
    ("joints_left", "left"), ("joints_right", None), ("ground_truth", np.zeros((5, 17, 2))), ("size", [1]),
    ("size", 7), ("size", ["a", "b"]), ("size", [0, 4]), ("keypoints_2d", np.zeros((4, 17, 2))), ("keypoints_2d", 3),
    ("keypoints_2d", np.zeros((5, 3, 2))), ("joint_names_2d", ["a"]), ("parents_2d", [[-1]]), ("source", "{"),
    ("source", 5), ("axes", "y up"), ("axes", 3), ("source", "[]"),
    ("source", "[" * 100_000), ("names", [{}]), ("names", [[1], [1, 2]]),
]


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key} {str(value)[:20]}" for key, value in WRONG])
@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_wrong_values_are_refused_in_one_line(suffix, key, value, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_prediction(path, made())
    if suffix == ".json":
        if isinstance(value, np.ndarray) and value.dtype.kind == "c":
            value = "complex"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: plain(value)}))
    else:
        try:
            value = np.asarray(value)
        except ValueError:
            value = np.array(value, dtype=object)  # of several lengths
        with np.load(path) as content:
            np.savez(path, **dict(content) | {key: value})
    assert_refused(path)


def assert_refused(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as refused:
            read_prediction(path)
    assert str(refused.value).startswith(f"{path}: ") and len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < len(str(path)) + 400


def test_results_are_told_by_content_whatever_they_are_called(tmp_path):
    for name in ("a.npz", "a.json"):
        write_prediction(tmp_path / name, made())
        (tmp_path / name).rename(tmp_path / "results")
        np.testing.assert_allclose(read_prediction(tmp_path / "results").joints, made().joints, atol=1e-6)


def test_every_missing_key_is_named_or_not_needed(tmp_path):
    path, spare = tmp_path / "a.json", {
        "times", "axes", "axes_camera", "joints_camera", "ground_truth", "keypoints_2d", "size", "parents_2d", "boxes",
        "names", "gap"}
    write_prediction(path, made())
    content = json.loads(path.read_text())
    for key in content:
        path.write_text(json.dumps({name: value for name, value in content.items() if name != key}))
        if key in spare:
            read_prediction(path)
        else:
            with pytest.raises(DataError, match="no file of predicted poses" if key == "format" else f"'{key}'"):
                read_prediction(path)


def test_flipped_and_missing_bytes_are_refused_or_change_a_number(tmp_path):
    rng = np.random.default_rng(1)
    for suffix, rounds in ((".npz", 60), (".json", 150)):
        path = tmp_path / f"a{suffix}"
        write_prediction(path, made(2))
        whole, refused = path.read_bytes(), 0
        for turn in range(rounds):
            content = bytearray(whole)
            for place in rng.integers(len(content), size=1 + turn % 3):
                content[place] = rng.integers(256)
            path.write_bytes(content[:rng.integers(len(content))] if turn % 5 == 0 else content)
            try:
                assert read_prediction(path).joints.shape[1:] == (17, 3)
            except DataError as error:
                assert len(str(error).splitlines()) == 1
                refused += 1
        assert refused > rounds / 4


class Hostile:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def test_hostile_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, format="3d-human-pose", version=1, joints=np.array(Hostile(), dtype=object))
    assert_refused(path)
    path.write_bytes(pickle.dumps(Hostile()))
    assert_refused(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(DataError, match="no file of predicted poses"):
        read_prediction(path)
    write_prediction(path, made())
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "huge.npz", "w") as huge:
        for name in archive.namelist():
            with huge.open(name, "w") as member:
                if name != "joints.npy":
                    member.write(archive.read(name))
                else:  # more numbers than there is memory for, says the header
                    np.lib.format.write_array_header_1_0(
                        member, {"descr": "<f4", "fortran_order": False, "shape": (10**15, 17, 3)})
    assert_refused(tmp_path / "huge.npz")
    for name in ("gone.npz", "gone.json", "gone.bvh", "gone"):
        assert_refused(tmp_path / name)
    (tmp_path / "folder.json").mkdir()
    assert_refused(tmp_path / "folder.json")
    for text in ("", "[]", "7", "{", "[" * 100_000, '{"format": 1e999}', "\ufeff{}"):
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        assert_refused(tmp_path / "a.json")


def test_files_of_earlier_versions_are_told_to_be_exported_again(tmp_path):
    np.savez(tmp_path / "a.npz", keypoints_3d=np.zeros((2, 17, 3)), keypoints_3d_world=np.zeros((2, 17, 3)), fps=50)
    (tmp_path / "a.json").write_text(json.dumps({"units": "mm", "predictions": [{"image": "a.png"}]}))
    for name in ("a.npz", "a.json"):
        with pytest.raises(DataError, match=r"earlier version.*export it again"):
            read_prediction(tmp_path / name)


def test_a_file_of_a_later_version_says_so(tmp_path):
    write_prediction(tmp_path / "a.json", made())
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(DataError, match="version 2.*update"):
        read_prediction(tmp_path / "a.json")
