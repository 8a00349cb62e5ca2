"""How speed and memory are measured: side by side, and as the peak of a process."""
import os
import statistics
import sys
import time
from pathlib import Path


def paired(plain, ours, repeats, per=1):
    """Run both alternately, once to warm up: medians in ms / per, and the median of the paired ratios."""
    times = []
    for _ in range(repeats + 1):
        pair = []
        for side in (plain, ours):
            start = time.perf_counter()
            side()
            pair.append((time.perf_counter() - start) * 1e3 / per)
        times.append(pair)
    plain_ms, ours_ms = zip(*times[1:], strict=True)
    ratios = [a / b for a, b in zip(plain_ms, ours_ms, strict=True)]
    return {"plain": statistics.median(plain_ms), "ours": statistics.median(ours_ms), "unit": "ms a window",
            "ratio": statistics.median(ratios), "ratios": ratios}


def peak_gigabytes():
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux the figure below begins with that of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e6
    import resource  # there is none on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform != "darwin" else 1e9)


def allocator():
    """The allocator settings that both sides run under."""
    names = [name for name in sorted(os.environ) if name.startswith(("MALLOC_", "LD_PRELOAD", "GLIBC_TUNABLES"))]
    return " ".join(f"{name}={os.environ[name]}" for name in names) or "default"
