"""Batches out of worker processes: the same as without, and no process or traceback is left behind."""
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from conftest import ROOT, script_environment
from test_contextpose_dataset import opened

from common.contextpose.loading import Loader
from common.contextpose.samples import Sample
from common.parallel import without_interrupt
from common.utils import DataError, SuiteError

PARENT = """
import multiprocessing, sys, time
sys.path[:0] = ["tests", "."]
from test_contextpose_loading import Signalled, Loader
if __name__ == "__main__":
    print("starting", flush=True)
    try:
        for batch in Loader(Signalled(), 2, "cpu").epoch([[(row, (0,))] for row in range(99)]):
            print(len(batch.keys), *[child.pid for child in multiprocessing.active_children()], flush=True)
            time.sleep(60)
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""


class Signalled:
    """Samples that say which process made them; to make row -1 kills it, and all others send it a Ctrl-C."""

    def __getitem__(self, key):
        os.kill(os.getpid(), signal.SIGKILL if key[0] < 0 else signal.SIGINT)
        pid = np.full((1, 1, 1, 3), os.getpid() % 251, dtype=np.uint8)
        return Sample(pid, np.zeros((1, 3, 4), np.float32), np.zeros((17, 3), np.float32), np.zeros(3, np.float32), key)


def workers():
    return set(multiprocessing.active_children())


def ended(before, seconds=60):
    """Whether all workers but these end in time."""
    until = time.monotonic() + seconds
    while workers() - before and time.monotonic() < until:
        time.sleep(0.05)
    return not workers() - before


def runs(pid):
    """Whether a process runs: one that has ended and that nobody has asked for is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_give_the_batches_of_one_process_and_stay_for_the_next_epoch(made_h36m):
    dataset, before = opened(made_h36m, "batch_size=2", "model.image_shape=[32,32]", "max_n_views=2"), workers()
    alone, several = Loader(dataset, 0, "cpu"), Loader(dataset, 2, "cpu")
    state, started = torch.get_rng_state(), None
    for epoch, skip in ((0, 0), (1, 1)):
        plan = dataset.plan(0, epoch)
        expected = list(alone.epoch(plan, desc="alone"))
        assert [batch.keys for batch in expected] == plan and len(plan) > 2
        found = list(several.epoch(plan, skip=skip))
        assert 0 < several.waiting <= several.total and 0 < several.waited_share() <= 1
        for batch, other in zip(found, expected[skip:], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(batch[:4], other[:4], strict=True))
            assert batch.keys == other.keys and batch.images.shape[2:] == (32, 32, 3)
        assert len(workers() - before) == 2 and started in (None, workers() - before)
        started = workers() - before
    assert torch.equal(torch.get_rng_state(), state)  # the random numbers of training do not depend on reading
    several.close()
    assert ended(before)


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_image_is_named_in_one_line_whoever_reads_it(made_h36m, tmp_path, number):
    shutil.copytree(made_h36m, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("extracted", "*Sequence"))
    for path in tmp_path.glob("processed/S1/Walking-1/*/60457274/*.jpg"):
        path.write_bytes(path.read_bytes()[:40])
    dataset, before = opened(tmp_path, "model.image_shape=[32,32]"), workers()
    loader, walking = Loader(dataset, number, "cpu"), int(np.argmax(dataset.sequences == "Walking-1"))
    batches = [[(0, (0,))], [(0, (1,)), (walking, (3,))], [(0, (2,))]]
    seen = []
    with pytest.raises(DataError, match=r"60457274/img_000001\.jpg: damaged, or no image") as caught:
        seen += loader.epoch(batches)
    assert "\n" not in str(caught.value) and ended(before)
    assert [batch.keys for batch in loader.epoch(batches[:1])] == batches[:1]  # it goes on with what is whole
    loader.close()
    assert ended(before)


def test_there_are_no_more_workers_than_batches_and_none_stays_behind_a_break():
    loader, before = Loader(Signalled(), 3, "cpu"), workers()
    assert list(loader.epoch([])) == [] and workers() == before
    batches = loader.epoch([[(0, (0,))]])
    assert next(batches).keys == [(0, (0,))] and len(workers() - before) == 1  # and Ctrl-C ends it not
    batches.close()
    assert ended(before)


def test_a_worker_that_is_killed_is_an_error_with_a_remedy():
    loader, before = Loader(Signalled(), 1, "cpu"), workers()
    with pytest.raises(SuiteError, match="was killed.*lower num_workers"):
        list(loader.epoch([[(0, (0,))], [(-1, (0,))]]))
    assert ended(before)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
def test_workers_end_with_a_parent_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, env=script_environment(), text=True,
                              stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == "starting\n"
        _, *children = map(int, parent.stdout.readline().split())
        assert len(children) == 2 and all(map(runs, children))
    finally:
        parent.kill()
        parent.wait()
    until = time.monotonic() + 60
    while any(map(runs, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(runs, children))


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Ctrl-C cannot be held back here")
def test_ctrl_c_while_workers_start_is_answered_by_one_process():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, env=script_environment(), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert parent.stdout.readline() == "starting\n"
        time.sleep(0.5)  # the server of the workers imports what they need
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.communicate(timeout=100) == ("", "interrupted\n")
    finally:
        parent.kill()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Ctrl-C cannot be held back here")
def test_ctrl_c_is_held_back_in_all_threads_and_comes_at_the_end():
    other, reached = threading.Event(), []
    thread = threading.Thread(target=other.wait)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            with without_interrupt():
                os.kill(os.getpid(), signal.SIGINT)  # blocked here, so that the other thread takes it
                time.sleep(0.05)
                reached.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    finally:
        other.set()
        thread.join()
    assert reached == [True] and signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
