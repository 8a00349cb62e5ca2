"""Shared modules of the pose suite.

Poses are arrays or tensors of shape (B, T, J, C) at every boundary:
B batch, T frames, J joints, V views, C channels (2 image coordinates or 3 space coordinates).
"""
import sys
from pathlib import Path


def _say_interrupted(kind, error, trace, usual=sys.excepthook):
    """One line for Ctrl-C, the usual traceback for anything else."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
    else:
        usual(kind, error, trace)


# For the second in which a script beside this folder imports; then `common.utils.run_script` takes Ctrl-C.
if Path(sys.argv[0]).absolute().parent == Path(__file__).absolute().parent.parent:
    sys.excepthook = _say_interrupted
