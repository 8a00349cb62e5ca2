import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from conftest import GOLDEN, run_script
from test_safe_io import Hostile

from common import checkpoint
from common.s_agcn import S_AGCN
from common.utils import CheckpointError, WriteError

RELEASED = GOLDEN / "32_gt_27_supervised_epoch_5.bin"


def network(widths=(3, 3, 3), channels=32, dataset="humaneva15", joints=15, **kwargs):
    return S_AGCN(joints, 2, joints, list(widths), channels=channels, dataset=dataset, **kwargs)


def test_a_released_checkpoint_loads_with_its_random_state_and_fits():
    content = checkpoint.load(RELEASED)
    assert content["epoch"] == 5 and isinstance(content["random_state"], np.random.RandomState)
    model = network()
    checkpoint.load_into(model, content, RELEASED)
    name = "layers_tcngcn.3.tcn1.conv.weight"
    assert torch.equal(model.state_dict()[name], content["model_pos"][f"module.{name}"])


def renamed_pickle(source, target, old, new):
    """A copy of a checkpoint whose pickle names one module otherwise."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as copy:
        for name in whole.namelist():
            data = whole.read(name)
            copy.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


def test_random_states_pickled_by_numpy_1_load(tmp_path):
    renamed_pickle(RELEASED, tmp_path / "old.bin", b"numpy._core.multiarray", b"numpy.core.multiarray")
    old, new = checkpoint.load(tmp_path / "old.bin"), checkpoint.load(RELEASED)
    assert old["random_state"].randint(1000) == new["random_state"].randint(1000)


@pytest.mark.parametrize("state", [
    {"weight": torch.zeros(2)},
    {"model_pos": {"module.weight": torch.zeros(2)}},
    {"state_dict": {"_orig_mod.module.weight": torch.zeros(2)}},
])
def test_every_wrapping_gives_the_bare_state_dict(state):
    assert list(checkpoint.model_state(state, "x.bin")) == ["weight"]


@pytest.mark.parametrize("content", [
    lambda trap: {"model_pos": Hostile(trap)},
    lambda trap: {"model_pos": {}, "optimizer": [Hostile(trap)]},
    lambda trap: torch.nn.Linear(2, 2),
], ids=["hostile", "hostile in a list", "a module"])
def test_anything_but_tensors_containers_and_numpy_data_is_refused(tmp_path, content):
    torch.save(content(tmp_path / "trap"), tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match="a.bin: refused: it holds") as caught:
        checkpoint.load(tmp_path / "a.bin")
    assert not (tmp_path / "trap").exists() and "\n" not in str(caught.value)


def test_a_bare_hostile_pickle_is_refused(tmp_path):
    (tmp_path / "a.bin").write_bytes(pickle.dumps({"model_pos": Hostile(tmp_path / "trap")}))
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "a.bin")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(tmp_path, share):
    (tmp_path / "a.bin").write_bytes(RELEASED.read_bytes())
    os.truncate(tmp_path / "a.bin", int(RELEASED.stat().st_size * share))
    with pytest.raises(CheckpointError, match="a.bin: damaged"):
        checkpoint.load(tmp_path / "a.bin")


@pytest.mark.parametrize("model,flag", [
    (lambda: network(channels=96), "-ch 32"),
    (lambda: network(widths=(3, 3)), "-arc 3,3,3"),
    (lambda: network(dataset="h36m", joints=17), "-d humaneva15"),
    (lambda: network(pose_sequence=True), "--no-pose-sequence"),
])
def test_a_mismatch_names_keys_shapes_and_the_flag_that_fits(model, flag):
    with pytest.raises(CheckpointError, match="weights of another network") as caught:
        checkpoint.load_into(model(), checkpoint.load(RELEASED), "x.bin")
    message = str(caught.value)
    assert flag in message and "x.bin" in message and ("[" in message or "missing" in message or "not in" in message)


def test_weights_with_nan_are_refused():
    model = network()
    state = model.state_dict()
    state["fc.weight"] = state["fc.weight"] * np.nan
    with pytest.raises(CheckpointError, match="fc.weight holds NaN"):
        checkpoint.load_into(network(), {"model_pos": state}, "x.bin")


def test_a_name_is_looked_for_as_a_path_then_in_the_folders_and_all_are_listed(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.bin").touch()
    assert checkpoint.find("x.bin", [tmp_path / "a", tmp_path / "b"]) == tmp_path / "b" / "x.bin"
    assert checkpoint.find(tmp_path / "b" / "x.bin", []) == tmp_path / "b" / "x.bin"
    with pytest.raises(CheckpointError) as caught:
        checkpoint.find("y.bin", [tmp_path / "a", tmp_path / "b"])
    places = ("y.bin", tmp_path / "a" / "y.bin", tmp_path / "b" / "y.bin")
    assert all(str(place) in str(caught.value) for place in places)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    checkpoint.save(path, {"value": 1})

    def full_disk(content, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(WriteError, match="No space left on device"):
        checkpoint.save(path, {"value": 2})
    assert checkpoint.load(path) == {"value": 1}
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_script_ends_with_4_on_checkpoints_that_are_missing_or_unfit(demo_data, tmp_path):
    common = ["run_s-agcn.py", "-d", "demo", "--data-dir", demo_data, "-arc", "3,3", "-c", tmp_path, "--evaluate"]
    run_script(*common, "none.bin").assert_fails(4, "none.bin", str(tmp_path), "checkpoint")
    run_script(*common, RELEASED).assert_fails(4, "weights of another network", "-ch 32", "-d humaneva15")
