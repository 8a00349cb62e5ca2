"""ONNX files: the same numbers as torch for every kind of network, what they tell of themselves, and refusals."""
import contextlib
import copy
import errno
import hashlib
import inspect
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import GOLDEN, ROOT, run_script
from plain_s_agcn import PlainS_AGCN

import export_onnx
from common import checkpoint, onnx_lifting
from common.contextpose.pairwise import _composed_sum, _sum_over_offsets
from common.keypoints import COCO_17, H36M_17, MPI_INF_3DHP_17
from common.onnx_export import Exportable, _differences, choose_exporter, write_onnx
from common.refinement import RefinedLifter
from common.s_agcn import S_AGCN
from common.safe_io import load_npz
from common.synthetic_detections import people_of, write_detectron
from common.synthetic_video import detected, motion_at
from common.utils import CheckpointError, DependencyError, SuiteError, UsageError, WriteError
from common.video import open_writer

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
DEMO = ROOT / "checkpoint" / "demo" / "16_detectron_pt_coco_9_supervised.bin"


def shaken(model):
    """With batch norms that do something, as after a training."""
    for name, tensor in model.state_dict().items():
        if name.endswith(("bn.weight", "bn.running_mean", "down.1.weight")):
            tensor.copy_(torch.randn(tensor.shape) * 0.1 + name.endswith("weight"))
    return model.eval()


def export(*arguments):
    export_onnx.main(export_onnx.get_args(list(map(str, arguments))))


def run(path, *inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})


def assert_gives_the_poses_of(model, path, x):
    """To 0.1 mm, or as near to float64 as torch's float32 is: random networks may make much of small differences."""
    with torch.no_grad():
        expected, exact = model(x), copy.deepcopy(model).double()(x.double())
    if not isinstance(expected, tuple):
        expected, exact = (expected,), (exact,)
    for array, tensor, reference in zip(run(path, x), expected, exact, strict=True):
        rounding = float((tensor - reference).abs().max())
        np.testing.assert_allclose(array, reference.numpy(), rtol=0, atol=max(1e-4, 10 * rounding))


def metadata(path):
    """What the file tells: text, or the values that are in JSON."""
    told = dict(onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map)
    for name in told.keys() - {"checkpoint_sha256", "refinement_sha256"}:
        with contextlib.suppress(ValueError):
            told[name] = json.loads(told[name])
    return told


# ---- GLA-GCN

VARIANTS = {  # name: (joints in, joints out, filter widths, settings, flags)
    "full": (17, 17, [3, 5], {"pose_sequence": True, "causal": True}, ["--causal", "--pose-sequence", "-arc", "3,5"]),
    "body25": (25, 17, [3, 3], {"input_layout": "body25"}, ["-k", "body25"]),
    "he13": (17, 15, [3, 3], {"dataset": "humaneva15_he13"}, ["-d", "humaneva15_he13"]),
    "humaneva20": (20, 20, [3], {"dataset": "humaneva20"}, []),
    "no_refine_4_351": (17, 17, [3, 9, 13], {"dataset": "mpi_inf_3dhp", "pose_sequence": True}, []),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_network_gives_the_poses_of_torch_for_any_batch(name, tmp_path):
    joints_in, joints_out, widths, settings, flags = VARIANTS[name]
    model = shaken(S_AGCN(joints_in, 2, joints_out, widths, channels=4, **settings))
    model.fast = False  # the operations that training and GPUs go through
    torch.save(model.state_dict(), tmp_path / f"{name}.pth")
    export("--evaluate", tmp_path / f"{name}.pth", *flags, tmp_path / "a.onnx")
    for batch in (1, 3):
        assert_gives_the_poses_of(model, tmp_path / "a.onnx", torch.randn(batch, math.prod(widths), joints_in, 2))


def test_a_released_checkpoint_gives_the_poses_of_the_plain_implementation(tmp_path):
    released = GOLDEN / "32_gt_27_supervised_epoch_5.bin"
    export("--evaluate", released, "-d", "humaneva15", tmp_path / "a.onnx")
    plain = PlainS_AGCN(15, 2, 15, [3, 3, 3], channels=32, dataset="humaneva15").eval()
    plain.load_state_dict(checkpoint.model_state(checkpoint.load(released), released))
    assert_gives_the_poses_of(plain, tmp_path / "a.onnx", torch.randn(2, 27, 15, 2))


def test_the_refinement_goes_with_its_lifter_from_one_file_or_two(tmp_path):
    model = RefinedLifter(17, 2, 17, [3, 3, 3], channels=4, dataset="mpi_inf_3dhp", pose_sequence=True,
                          root=MPI_INF_3DHP_17.root(), mm_per_unit=1)
    model.target_fc.weight.data *= 300  # poses of hundreds of mm
    weights = shaken(model).state_dict()
    whole = tmp_path / "3dhp_4_27_refine.bin"
    torch.save(weights, whole)
    args = export_onnx.get_args(["--evaluate", str(whole), "--frames", "27", str(tmp_path / "a.onnx")])
    loaded = onnx_lifting.load_lifter(whole, args)[0].state_dict()
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[name], weights[name]) for name in weights)
    refinement = {name: weights.pop(name) for name in list(weights) if name.startswith("refinement.")}
    torch.save(weights, tmp_path / "no_refine_4_27_refined.pth")
    torch.save({name.removeprefix("refinement."): value for name, value in refinement.items()},
               tmp_path / "refine_4_27.pth")
    export("--evaluate", tmp_path / "no_refine_4_27_refined.pth", "--refine", tmp_path / "a.onnx")
    x, cameras = torch.rand(3, 27, 17, 2) - 0.5, torch.rand(3, 9) + 1
    with torch.no_grad():
        expected = model(x, cameras)
    for array, tensor in zip(run(tmp_path / "a.onnx", x, cameras), expected, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=0.1)
    assert (expected[0] - expected[1]).abs().max() > 1  # the refinement does something
    told = metadata(tmp_path / "a.onnx")
    assert told["units"] == "mm" and told["intrinsics"].startswith("fx, fy, cx, cy")
    for role, name in (("checkpoint", "no_refine_4_27_refined.pth"), ("refinement", "refine_4_27.pth")):
        assert told[role] == name
        assert told[f"{role}_sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.skipif("dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters,
                    reason="this torch exports by TorchScript alone")
def test_a_torch_that_has_dropped_its_torchscript_exporter_exports_by_the_other(monkeypatch, tmp_path):
    pytest.importorskip("onnxscript")
    both = torch.onnx.export

    def later(*args, dynamo=True, **options):
        if not dynamo:
            raise ValueError("dynamo=False is no more")
        return both(*args, dynamo=True, **options)

    monkeypatch.setattr(torch.onnx, "export", later)
    with pytest.raises(UsageError, match="18 or more with --exporter dynamo, the only one of torch"):
        choose_exporter(opset=17)
    model = shaken(S_AGCN(20, 2, 20, [3], channels=4, dataset="humaneva20"))
    torch.save(model.state_dict(), tmp_path / "a.pth")
    export("--evaluate", tmp_path / "a.pth", tmp_path / "a.onnx")
    assert metadata(tmp_path / "a.onnx")["exported_by"].endswith("dynamo")
    for batch in (1, 4):
        assert_gives_the_poses_of(model, tmp_path / "a.onnx", torch.randn(batch, 3, 20, 2))


# ---- what a file tells, and how it is used without torch

@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "lifter.onnx"
    done = run_script("export_onnx.py", "--evaluate", DEMO, "-k", "coco", path)
    assert done.status == 0 and done.err == "", done.err
    assert "input keypoints_2d: (batch, 9, 17, 2)" in done.out and "output pose_3d: (batch, 1, 17, 3)" in done.out
    assert done.out.count("largest difference to torch on") == 4
    assert f"{path}: 0.1 MB, opset 17, IR version 8, written" in done.out
    return path


def test_the_file_tells_all_that_is_needed_to_use_it(lifter):
    told = metadata(lifter)
    assert told["joint_names"] == H36M_17.names() and told["parents"] == H36M_17.parents()
    assert told["joints_left"] == H36M_17.joints_left() and told["joints_right"] == H36M_17.joints_right()
    assert told["joint_names_2d"] == COCO_17.names() and told["joints_left_2d"] == COCO_17.joints_left()
    assert (told["window"], told["target_frame"], told["causal"], told["units"]) == (9, 4, False, "m")
    assert told["frames_per_second"] == 50 and told["dataset"] == "h36m" and told["root"] == "hip"
    assert told["checkpoint"] == DEMO.name and len(told["checkpoint_sha256"]) == 64
    import onnx

    model = onnx.load(lifter)
    assert str(ROOT) not in str(model.graph) and str(DEMO.parent) not in str(model.metadata_props)


def test_the_example_gives_the_poses_of_run_video_without_torch(lifter, tmp_path):
    size, frames = (100, 102), 12
    with open_writer(tmp_path / "clip.mp4", 25, *size) as writer:
        for number in range(frames):
            writer.write(np.full((size[1], size[0], 3), number, np.uint8))
    view = detected(motion_at(np.arange(frames) / 25), "coco") / 10
    write_detectron(tmp_path / "clip.npz", people_of([view]), size)
    made = run_script("run_video.py", tmp_path / "clip.mp4", "--detections", tmp_path / "clip.npz", "--evaluate", DEMO,
                      "--output", tmp_path / "a.gif", "--export", tmp_path / "torch.npz", "--viz-size", 1,
                      "--viz-limit", 1)
    assert made.status == 0, made.err
    made = run_script("prepare_data_2d.py", "-i", tmp_path / "clip.npz", "-o", "mine", "--video", tmp_path / "clip.mp4",
                      "--data-dir", tmp_path)
    assert made.status == 0, made.err
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    np.savez(tmp_path / "others.npz", **load_npz(tmp_path / "data_2d_custom_mine.npz")
             | {"joint_names_2d": H36M_17.names()})
    done, refused = (subprocess.run(
        [sys.executable, ROOT / "examples" / "lift_video_onnx.py", lifter, tmp_path / name, tmp_path / "poses.npz"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
        for name in ("data_2d_custom_mine.npz", "others.npz"))
    assert done.returncode == 0, done.stderr
    assert refused.returncode == 1 and "export it with -k" in refused.stderr
    with np.load(tmp_path / "poses.npz") as ours, np.load(tmp_path / "torch.npz") as theirs:
        assert ours["poses"].shape == (frames, 17, 3)
        np.testing.assert_allclose(ours["poses"], theirs["joints_camera"], atol=1e-4)


# ---- refusals

@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """State dicts of small networks whose files say nothing of themselves."""
    folder = tmp_path_factory.mktemp("bare")
    for name, (joints, dataset) in {"h36m.bin": (17, "h36m"), "he.bin": (15, "humaneva15"),
                                    "mpi.bin": (17, "mpi_inf_3dhp")}.items():
        model = S_AGCN(joints, 2, joints, [3, 3, 3], channels=4, dataset=dataset, pose_sequence=joints == 17)
        torch.save(model.state_dict(), folder / name)
    torch.save({"model_pos": model.state_dict(), "suite": {"architecture": {"dataset": ["h36m"]}}},
               folder / "strange.bin")
    torch.save({"backbone.conv1.weight": torch.zeros(2)}, folder / "contextpose.pth")
    return folder


@pytest.mark.parametrize("name, flags, error, words", [
    ("he.bin", [], UsageError, "-d humaneva15 .*-d humaneva15_he13"),
    ("he.bin", ["-d", "h36m"], CheckpointError, "15 joints, and h36m has 17"),
    ("mpi.bin", ["-d", "3dhp"], UsageError, "--frames 27 or 351"),
    ("mpi.bin", ["-d", "3dhp", "-k", "coco"], UsageError, "no map leads to them"),
    ("h36m.bin", ["--frames", "27"], UsageError, "filter widths, -arc"),
    ("h36m.bin", ["--refine"], UsageError, "mpi_inf_3dhp only"),
    ("h36m.bin", ["-arc", "3,3"], CheckpointError, "would fit with -arc 3,3,3"),
    ("h36m.bin", ["-k", "humaneva20"], CheckpointError, "no map from 20 input joints"),
    ("h36m.bin", ["--no-pose-sequence"], UsageError, "full model"),
    ("h36m.bin", ["--opset", "12"], UsageError, "17 or more"),
    ("h36m.bin", ["--opset", "17", "--exporter", "dynamo"], UsageError, "18 or more"),
    ("strange.bin", [], CheckpointError, "unknown dataset"),
    ("h36m.bin", ["--logdir", "logs"], UsageError, "--logdir does not apply without --config"),
    ("contextpose.pth", [], CheckpointError, "give its --config"),
    ("missing.bin", [], CheckpointError, "no checkpoint"),
])
def test_what_cannot_be_exported_is_refused_in_a_line_and_nothing_is_written(name, flags, error, words, bare, tmp_path):
    with pytest.raises(error, match=words):
        export("--evaluate", bare / name, *flags, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_written(monkeypatch, tmp_path, capsys):
    right = onnx_lifting.FoldedLifter.forward
    monkeypatch.setattr(onnx_lifting.FoldedLifter, "forward", lambda self, x: (right(self, x)[0] * 1.01,))
    (tmp_path / "a.onnx").write_text("the one before")
    with pytest.raises(SuiteError, match="not written: on random input, batch 3, its pose_3d differs"):
        export("--evaluate", DEMO, tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_text() == "the one before" and "written" not in capsys.readouterr().out


def test_what_float32_leaves_open_is_told_and_what_it_does_not_is_refused(tmp_path):
    model = shaken(S_AGCN(20, 2, 20, [3], channels=4, dataset="humaneva20"))
    model.fc.weight.data *= 1e5  # poses of kilometres: neither torch nor ONNX Runtime has them to 0.1 mm
    exportable = onnx_lifting.exportable(model, [DEMO])
    said = []
    write_onnx(tmp_path / "a.onnx", exportable, choose_exporter(), say=said.append)
    assert any("torch's own float32" in line for line in said)
    exportable.module.units[2].graph.mul_(1 + 1e-3)
    with pytest.raises(SuiteError, match="than rounding explains"):
        write_onnx(tmp_path / "b.onnx", exportable, choose_exporter())
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_the_rounding_of_one_window_is_judged_by_that_of_all():
    class Steep(torch.nn.Module):
        def forward(self, x):
            return torch.sin(1e4 * x)

    cases = [("one", (torch.zeros(1),)), ("many", (torch.linspace(0.1, 1, 99),))]  # one rounds to nothing, by chance
    exportable = Exportable(Steep(), {"x": ("n",)}, {"y": ("n",)}, {"y": "m"}, cases, Steep(), {})
    assert 1e-4 < exportable.rounding[0] < 5e-3  # 1e4 times float32's last digit, 6e-8 to 1.2e-7
    assert "to float64 1.0e-03" in _differences(exportable, cases[0][1], [np.full(1, 1e-3, np.float32)])
    with pytest.raises(ValueError, match="than rounding explains"):
        _differences(exportable, cases[0][1], [np.full(1, 0.1, np.float32)])


def test_what_the_exporter_prints_when_it_fails_does_not_show(capfd, tmp_path):
    with pytest.raises(SuiteError, match="not exported: .*opset"):
        export("--evaluate", DEMO, "--opset", 99, tmp_path / "a.onnx")
    assert len(capfd.readouterr().out.splitlines()) == 1  # which checkpoint it is


def test_a_full_disk_is_told_as_one(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", full)
    with pytest.raises(WriteError, match="a.onnx: could not be written .No space"):
        export("--evaluate", DEMO, "--exporter", "torchscript", tmp_path / "a.onnx")


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_without_its_libraries_the_export_says_how_to_install_them(module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match="pip install onnx onnxruntime"):
        export("--evaluate", DEMO, tmp_path / "a.onnx")


# ---- ContextPose

def test_the_recorded_sums_of_the_attention_are_those_that_share_memory():
    planes = torch.randn(2, 5, 3, 25, dtype=torch.float64)
    half = torch.rand(2, 5, 5, 5, dtype=torch.float64)
    kernel = torch.cat([half.flip(2)[:, :, :-1], half], dim=2)  # even in its second and third axes
    kernel = torch.cat([kernel.flip(3)[..., :-1], kernel], dim=3)
    torch.testing.assert_close(_composed_sum(planes, kernel), _sum_over_offsets(planes, kernel))


def test_contextpose_gives_the_joints_of_torch_for_any_batch_and_views(tmp_path):
    from common.contextpose.config import load_config
    from common.contextpose.model import ContextPose
    from common.onnx_contextpose import scene

    settings = ["model.image_shape=[32, 64]", "model.backbone.num_layers=18", "model.volume_net.volume_size=8",
                "model.volume_net.volume_multiplier=3", f"val.limb_length_path={tmp_path / 'limbs.h5'}"]
    import h5py

    with h5py.File(tmp_path / "limbs.h5", "w") as file:
        file["mean"], file["std"] = np.linspace(110, 450, 17), np.linspace(11, 25, 17)
    torch.manual_seed(0)
    model = ContextPose(load_config(None, settings), np.linspace(110, 450, 17), np.linspace(11, 25, 17)).eval()
    for name, weight in model.volume_net.named_parameters():
        if weight.ndim == 5 and ".convlist." not in name:
            torch.nn.init.kaiming_normal_(weight)  # initial ones are so small that attention would not count
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "config.yaml").write_text("title: tiny\n")
    export("--config", tmp_path / "config.yaml", *[part for one in settings for part in ("--set", one)], "--evaluate",
           tmp_path / "weights.pth", tmp_path / "a.onnx")
    projections, pelvis = scene((32, 64), 3)
    inputs = (torch.randn(3, 3, 3, 32, 64), projections.expand(3, -1, -1, -1), pelvis + torch.arange(3)[:, None])
    with torch.no_grad():
        expected = model(*inputs)
    joints, heatmaps = run(tmp_path / "a.onnx", *inputs)
    np.testing.assert_allclose(joints, expected.keypoints.numpy(), atol=0.05)
    np.testing.assert_allclose(heatmaps, expected.heatmaps.numpy(), atol=1e-6)
    assert expected.keypoints.std(dim=1).min() > 1  # the joints are at places of their own
    told = metadata(tmp_path / "a.onnx")
    assert told["network"] == "ContextPose" and told["joint_names"][16] == "nose" and told["units"] == "mm"
