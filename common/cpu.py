"""What a CPU computes fast."""
import functools

import torch

# Numbers in the largest tensors of a block: 13 MB in float32. Smaller blocks keep two threads waiting for each other;
# from 32 MB on glibc asks the system for fresh memory every time.
BLOCK_NUMBERS = 2000 * 17 * 96


def blocks(windows, numbers):
    """Slices of a batch of `windows`, each of which has tensors of `numbers` numbers."""
    step = max(1, BLOCK_NUMBERS // numbers)
    return [slice(start, min(start + step, windows)) for start in range(0, windows, step)]


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
