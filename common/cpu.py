"""What a CPU computes fast."""
import contextlib
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

# Numbers in the largest tensors of a block: 13 MB in float32. Smaller blocks keep two threads waiting for each other;
# from 32 MB on glibc asks the system for fresh memory every time.
BLOCK_NUMBERS = 2000 * 17 * 96


def is_traced():
    """Whether operations are being recorded, to be compiled or exported: only ordinary ones can be."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def blocks(windows, numbers, sharers=1):
    """Slices of a batch of `windows`, each of which has tensors of `numbers` numbers.

    sharers: threads that work on blocks of their own at the same time, in the same cache.
    """
    step = max(1, BLOCK_NUMBERS // sharers // numbers)
    return [slice(start, min(start + step, windows)) for start in range(0, windows, step)]


def in_threads(function, parts):
    """[function(part)] without gradients: each part in a thread of its own that computes alone.

    Threads that share every operation wait for each other at the end of each; threads that share the parts do not.
    """
    count = torch.get_num_threads()
    if count == 1 or len(parts) == 1:
        return [function(part) for part in parts]
    inference = torch.is_inference_mode_enabled()

    def call(part):
        with torch.no_grad(), torch.inference_mode() if inference else contextlib.nullcontext():
            return function(part)

    return list(_lone_threads(count).map(call, parts))


@functools.cache
def _lone_threads(count):
    """A pool of `count` threads in each of which torch computes with one thread."""
    pool = ThreadPoolExecutor(count, "lone", initializer=torch.set_num_threads, initargs=(1,))
    started = threading.Barrier(count + 1)
    for _ in range(count):
        pool.submit(started.wait)
    started.wait()
    # The number is kept for each thread, and once more for threads that begin later: that one is put right again.
    torch.set_num_threads(count)
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lone_threads.cache_clear)  # a fork has the pool but not its threads


def arithmetic_dtype(x):
    """The type to compute in: that of x, or under `torch.autocast("cpu", torch.bfloat16)` bfloat16 where it pays.

    A CPU without bfloat16 instructions converts every number before and after it computes: it is about four times
    slower than in float32, and float32 is what it gets here.
    """
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16 and has_bfloat16():
        return torch.bfloat16
    return x.dtype


@functools.cache
def has_bfloat16():
    """Whether the CPU multiplies bfloat16 numbers by instructions of its own."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in checks if hasattr(torch.cpu, name))
