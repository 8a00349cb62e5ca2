"""Several processes, started by torchrun or torch.distributed.launch: gloo on CPUs, NCCL on CUDA GPUs."""
import importlib
import os
import secrets
import time
from pathlib import Path

import torch
import torch.distributed as dist

from common.utils import UsageError

TIMEOUT = 600  # seconds that processes wait for each other at the start


class Processes:
    """This process among the others: `rank`, `world_size`, and the few exchanges that the recipes need.

    With one process every method does the obvious thing without a process group.
    """

    def __init__(self, device="auto"):
        self.rank = int(os.environ.get("RANK", 0))
        self.world_size = int(os.environ.get("WORLD_SIZE", 1))
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))
        run_id = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        self.device = pick_device(device, self.local_rank, allow_mps=self.world_size == 1)
        if self.world_size > 1 and not dist.is_initialized():
            _load_before_the_group()
            store, rank, size = next(dist.rendezvous("env://"))
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo",
                                    store=_own_part(store, rank, size), rank=rank, world_size=size)
        self.restarted = self.any(restarts > 0)  # by torchrun, after a worker died
        # The same for all restarts of one launch: torchrun's id, or where it gives none its process.
        self.launch = self.gather(run_id if run_id != "none" else _parent())[0]

    @property
    def is_main(self):
        return self.rank == 0

    def broadcast(self, tensors):
        """Give every process rank 0's values of these tensors."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, 0)

    def average_gradients(self, model):
        """Replace every gradient by its mean over the processes.

        DistributedDataParallel orders its buckets anew after the first step: three or more processes would then add up
        in another order after a resume, and end with other weights. One sum of all gradients is always the same.
        """
        if self.world_size == 1:
            return
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world_size
        parts = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(gradient)
                                         for part, gradient in zip(parts, gradients, strict=True)])

    def gather(self, value):
        """What every process passed, in the order of ranks, on every process."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def share(self, value):
        """Rank 0's value, on every process."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0)
        return values[0]

    def any(self, flag):
        """Whether `flag` is true in any process."""
        if self.world_size == 1:
            return bool(flag)
        tensor = torch.tensor([int(bool(flag))], device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return bool(tensor.item())

    def barrier(self):
        if self.world_size > 1:
            dist.barrier()

    def close(self):
        """Leave the group, and end its threads: one that is left aborts a process that ends just then."""
        if dist.is_initialized():
            # These drop the tensors of the last exchange and need Python's lock for it, which torch 2.4 holds while it
            # waits for their end: neither would ever go on. While this thread sleeps, they have it.
            time.sleep(0.1)
            dist.destroy_process_group()


def _load_before_the_group():
    """Import what would keep the process group alive for good if it were imported while there is one.

    Its functions take the group as it is then for a default argument, and every optimizer imports it. A group that
    outlives `destroy_process_group` keeps its threads, and one of them that is not done with the last exchange when
    Python ends is ended by Python within C++: "terminate called without an active exception", SIGABRT.
    """
    importlib.import_module("torch.distributed.nn.functional")


def _own_part(store, rank, size):
    """A part of `store` that no earlier processes have written to.

    torchrun keeps its store over restarts, with the addresses of workers that have died, and its agents on several
    nodes count restarts apart: so rank 0 names the part, to everybody who asks now.
    """
    own = secrets.token_hex(8)
    deadline = time.monotonic() + TIMEOUT
    if rank == 0:
        waiting = set(range(1, size))
        while waiting and time.monotonic() < deadline:
            for other in list(waiting):
                if store.check([f"greeting/{other}"]):
                    store.set(f"answer/{store.get(f'greeting/{other}').decode()}", own)
                if store.check([f"thanks/{own}/{other}"]):
                    waiting.remove(other)
            time.sleep(0.01)
        return dist.PrefixStore(own, store)
    while not store.check([f"answer/{own}"]) and time.monotonic() < deadline:
        store.set(f"greeting/{rank}", own)
        time.sleep(0.05)
    part = store.get(f"answer/{own}").decode()
    store.set(f"thanks/{part}/{rank}", "")
    return dist.PrefixStore(part, store)


def _parent():
    """The process that started this one, told from others that had its number before where the system tells."""
    number = os.getppid()
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return f"process {number}"
    return f"process {number}, started at {status.rpartition(')')[2].split()[19]}"


def pick_device(name, local_rank=0, allow_mps=True):
    """The torch device for `auto`, `cpu`, `cuda` or `mps`. Raises UsageError where it is not there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available() and allow_mps
    if name == "mps" and not allow_mps:
        raise UsageError("--device mps runs in one process; start without torchrun or use --device cpu")
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise UsageError(f"--device {name}: this torch finds no such GPU here; use --device cpu, without --gpu")
    if name == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UsageError(f"process {local_rank} has no GPU: {torch.cuda.device_count()} found"
                             "; start fewer processes")
        torch.cuda.set_device(local_rank)
        # TF32 would move errors by hundredths of a millimetre: float32 means float32, and speed is --amp bf16's.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        return torch.device("cuda", local_rank)
    return torch.device(name)
