"""Several processes: what they leave behind when they have ended their group."""
import os
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, script_environment

# An optimizer imports torch._dynamo, whose imports take the process group as it is for default arguments.
RANK = """
import os
import torch
from common.distributed import Processes
processes = Processes("cpu")
weight = torch.nn.Parameter(torch.zeros(3))
optimizer = torch.optim.Adam([weight])
weight.sum().backward()
optimizer.step()
assert processes.gather(processes.rank) == [0, 1]
threads = lambda: {open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")}
before = threads()
processes.close()
print(*(any("gloo" in name for name in names) for names in (before, threads())))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads /proc")
def test_a_closed_group_leaves_no_thread_that_python_would_end_within_cpp():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [subprocess.Popen([sys.executable, "-c", RANK], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                              env={**script_environment(), **place, "RANK": str(rank), "LOCAL_RANK": str(rank)})
             for rank in range(2)]
    said = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks)
    if said == ["False False\n"] * 2:
        pytest.skip("this torch does not name its threads")
    assert said == ["True False\n"] * 2
