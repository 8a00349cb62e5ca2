"""Runs of run_contextpose.py: their folders, and the rates of their epochs."""
import collections
from types import SimpleNamespace

import pytest
import torch

from common.contextpose.optimisers import Schedule
from common.contextpose.recipe import _to_go_on_with
from common.contextpose.runs import find_run, new_run


def test_the_newest_run_of_a_title_is_found_and_a_new_one_never_takes_its_place(tmp_path):
    assert find_run(tmp_path, "a") is None
    runs = [new_run(tmp_path, title) for title in ("a", "a", "ab")]
    assert len({run.path for run in runs}) == 3
    odd = "a/b: \0" + 300 * "c"
    made = new_run(tmp_path, odd)
    made.save(0, {"w": torch.zeros(1)}, {})
    assert find_run(tmp_path, odd).path == made.path
    for run in runs[:2]:
        run.save(0, {"w": torch.zeros(1)}, {})
    runs[2].save(7, {"w": torch.zeros(1)}, {})
    assert find_run(tmp_path, "a").path == runs[1].path
    runs[0].save(1, {"w": torch.zeros(1)}, {})
    assert find_run(tmp_path, "a").newest() == runs[0].checkpoint(1)
    (runs[0].checkpoint(1) / "optimizer.pth").unlink()
    assert runs[0].newest() == runs[0].checkpoint(0)
    assert find_run(runs[1].path, "whatever").path == runs[1].path


def test_a_restart_by_torchrun_goes_on_with_the_run_of_its_launch_alone(tmp_path):
    def chosen(fresh, restarted, launch):
        return _to_go_on_with(SimpleNamespace(fresh=fresh), SimpleNamespace(logdir=tmp_path, title="a"),
                              SimpleNamespace(restarted=restarted, launch=launch))

    run = new_run(tmp_path, "a")
    run.save(0, {"w": torch.zeros(1)}, {"suite": {"launch": "first"}})
    for launch in ("first", "second"):
        assert chosen(False, False, launch) == chosen(False, True, launch) == run.newest()
        assert chosen(True, False, launch) is None
    assert chosen(True, True, "first") == run.newest()
    assert chosen(True, True, "second") is None
    run.save(0, {"w": torch.zeros(1)}, {})  # as published: it tells no launch
    assert chosen(True, True, "first") is None


def test_rates_fall_at_the_milestones_as_torchs_scheduler_has_them():
    def optimizer():
        return torch.optim.Adam([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.1)])

    ours, theirs = optimizer(), optimizer()
    schedule = Schedule(ours, [2, 3], 0.5)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(theirs, [2, 3], 0.5)
    for epoch in range(5):
        schedule.set_epoch(epoch)
        assert [g["lr"] for g in ours.param_groups] == pytest.approx([g["lr"] for g in theirs.param_groups])
        saved = {name: value for name, value in scheduler.state_dict().items() if name in schedule.state_dict()}
        assert saved == schedule.state_dict() and isinstance(saved["milestones"], collections.Counter)
        theirs.step()
        scheduler.step()
