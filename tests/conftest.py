"""Fixtures: tiny demo people, a hand-made HumanEva-like dataset, and scripts run as processes."""
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import h36m_tree
import numpy as np
import pytest
import warm_scripts

try:
    import fcntl
except ImportError:
    fcntl = None

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
# Files whose tests several processes share one by one; what their tests have in common is made once for all.
SPREAD = ("test_training.py", "test_3dhp.py", "test_scripts.py")
LONGEST = ("test_run_contextpose.py", "test_contextpose_training.py", "test_h36m_restart.py", "test_viewer.py",
           "test_export_onnx.py", "test_run_video.py")  # the others that take longest
TINY = ["-arc", "3,3", "-ch", "4", "-b", "64", "--no-tensorboard", "--device", "cpu"]


def pytest_configure():
    """Take Ctrl-C as a terminal's programs do: a job in the background ignores it, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Whole files go to one process each, and of those of SPREAD every test to any (`--dist loadgroup`).

    Long files come first and single tests last: at the end, no process waits for long for another.
    """
    items.sort(key=lambda item: (item.path.name in SPREAD, item.path.name not in LONGEST))
    for item in items:
        if item.path.name not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


class ScriptResult:
    """Exit status, stdout and stderr of a script."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def assert_fails(self, status, *words):
        """It ended with `status` and one line on stderr that holds all `words`."""
        assert self.status == status, (self.status, self.err, self.out)
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        for word in words:
            assert word in lines[0], f"{word!r} is not in {lines[0]!r}"


def script_environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore"}


def run_script(script, *arguments, cwd=None, launcher=(), timeout=300, fresh=False):
    """Run a script of the suite as a process; see `start`."""
    process = start([script, *arguments], launcher, cwd, fresh)
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        raise
    return ScriptResult(process.returncode, out, err)


def start(arguments, launcher=(), cwd=None, fresh=False):
    """A script of the suite as a process that runs on: a Popen with pipes, or what is used like one.

    Where it can be, the process is forked from one that has imported torch: a third of the CPU time. fresh=True: a
    Python of its own, for what a test says of imports, memory or the start.
    """
    script, *rest = map(str, arguments)
    command, environment = [*launcher, str(ROOT / script), *rest], script_environment()
    if not fresh and warm_scripts.are_supported() and template().can_start(command, environment):
        return template().start(command, cwd or ROOT, environment)
    return subprocess.Popen([sys.executable, *command], cwd=cwd or ROOT, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@functools.cache
def template():
    """The process that this pytest process has its scripts forked from."""
    return warm_scripts.Template(script_environment())


def assert_same_weights(first, second):
    """Two checkpoints, bare weights or training states, hold the same bits after the same epochs."""
    import torch

    from common import checkpoint

    contents = [checkpoint.load(path) for path in (first, second)]
    assert contents[0].get("epoch") == contents[1].get("epoch")
    weights, others = (checkpoint.model_state(content, first) for content in contents)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name


def made_once(tmp_path_factory, name, make):
    """The folder `name`, that make(folder) fills, once for all of the processes that share the tests among them."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / name, shared / f"{name}.done"
    with open(shared / f"{name}.lock", "w") as lock:
        if fcntl is None:  # Windows: every process makes its own
            folder, done = tmp_path_factory.mktemp(name), shared / "never"
        else:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(autouse=True)
def same_random_numbers_in_every_run():
    """What a test draws from torch does not depend on the tests that ran before it in its process."""
    if "torch" in sys.modules:  # else it will begin with a seed of its own, always the same
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory):
    """A folder with the npz files of a few demo people, 40 frames a sequence."""
    def make(folder):
        made = run_script("prepare_data_demo.py", "--output", folder, "--frames", 40, "--subjects", "S1,S5,S9,S11",
                          "--actions", "Walking,Waving")
        assert made.status == 0, made.err

    return made_once(tmp_path_factory, "demo", make)


@pytest.fixture(scope="session")
def humaneva_data(tmp_path_factory):
    """A folder with random HumanEva-15 sequences in the published layout: chunks of several lengths."""
    folder, rng = tmp_path_factory.mktemp("humaneva"), np.random.default_rng(0)
    lengths = {"Walking 1 chunk0": 21, "Walking 1 chunk2": 9, "Box 1 chunk0": 12, "Jog 1 chunk1": 1}
    subjects = ["Train/S1", "Train/S2", "Train/S3", "Validate/S1"]
    poses = {s: {a: rng.normal(0, 0.4, (n, 15, 3)).astype(np.float32) for a, n in lengths.items()} for s in subjects}
    views = {s: {a: [rng.uniform(0, 480, (n + 2, 15, 2)).astype(np.float32) for _ in range(3)]
                 for a, n in lengths.items()} for s in subjects}
    symmetry = [[2, 3, 4, 8, 9, 10], [5, 6, 7, 11, 12, 13]]
    np.savez_compressed(folder / "data_3d_humaneva15.npz", positions_3d=poses)
    np.savez_compressed(folder / "data_2d_humaneva15_gt.npz", positions_2d=views,
                        metadata={"layout_name": "humaneva15", "num_joints": 15, "keypoints_symmetry": symmetry})
    return folder


@pytest.fixture(scope="session")
def raw_h36m(tmp_path_factory):
    """A folder with the archives of a tiny raw Human3.6M; see `h36m_tree`."""
    return made_once(tmp_path_factory, "raw_h36m", h36m_tree.write_tree)


@pytest.fixture(scope="session")
def made_h36m(raw_h36m, tmp_path_factory):
    """What `prepare_data_h36m.py --images` makes of it."""
    return made_once(tmp_path_factory, "made_h36m", lambda folder: h36m_tree.prepare(raw_h36m, folder))


@pytest.fixture(scope="session")
def tiny_contextpose(made_h36m):
    """Settings, as `--set` takes them, of the smallest ContextPose on `made_h36m`."""
    labels = made_h36m / "extra" / h36m_tree.LABELS
    limbs = made_h36m / "extra" / h36m_tree.LIMB_LENGTHS
    return ["title=tiny", "vis_freq=0", "batch_output=false", "model.image_shape=[64, 64]",
            "model.backbone.num_layers=18", "model.volume_net.volume_size=8", "model.volume_net.use_gt_pelvis=true",
            f"dataset.root={made_h36m / 'processed'}", f"dataset.train_labels_path={labels}",
            f"dataset.val_labels_path={labels}", "train.batch_size=2", "train.num_workers=0", "val.num_workers=0",
            f"train.limb_length_path={limbs}", f"val.limb_length_path={limbs}"]


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data that the datasets' licences keep out of the project; skips without it."""
    folder = os.environ.get("POSE_REAL_DATA")
    if not folder:
        pytest.skip("POSE_REAL_DATA names no folder with real data")
    return Path(folder)
