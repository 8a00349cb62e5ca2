"""Errors with their exit status, progress bars, seeds and atomic writing."""
import contextlib
import importlib
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np


class SuiteError(Exception):
    """A mistake the user can mend: one line that names what is wrong and what to do."""

    exit_status = 1


class UsageError(SuiteError):
    """Flags that do not exist, do not fit together or do not apply here."""

    exit_status = 2


class DataError(SuiteError):
    """Data that is missing, damaged or of the wrong shape."""

    exit_status = 3


class CheckpointError(SuiteError):
    """A checkpoint that is missing, damaged, hostile or of another network."""

    exit_status = 4


class DependencyError(SuiteError):
    """An optional library is not installed; the message holds the pip line."""

    exit_status = 5


class WriteError(SuiteError):
    """A file could not be written: a full disk, no permission."""

    exit_status = 3


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: what was to be saved is saved, the exit status is 130."""


INTERRUPTED_STATUS = 130


def run_script(main, get_args):
    """Run `main(get_args())` as a script: errors become one line on stderr and the right exit status.

    `--debug` (where the script has it) shows the traceback above that line. SIGTERM is taken like Ctrl-C.
    """
    args = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        args = get_args()
        main(args)
    except SuiteError as error:
        _fail(str(error), error.exit_status, args)
    except (Interrupted, KeyboardInterrupt) as interruption:
        if os.environ.get("RANK", "0") != "0":  # the first of several processes speaks for all
            sys.exit(INTERRUPTED_STATUS)
        _fail(str(interruption) or "interrupted", INTERRUPTED_STATUS)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing to report and nobody to report to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", DataError.exit_status, args)
    except Exception as error:
        if _lost_connection(error):
            _fail("the connection to another process is lost: it ended or was killed, and its own message says why; "
                  "go on with --resume, or start with torchrun --max-restarts=3, which does so by itself", 1, args)
        _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where; please report it)", 1, args)


def _lost_connection(error):
    """Whether `error` is what gloo or NCCL raise in the processes that are left when one has died."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or not isinstance(error, RuntimeError):
        return False
    return bool(re.search(r"gloo|NCCL|c10d|[Cc]onnection (closed|reset|refused)", f"{type(error).__name__} {error}"))


def _fail(message, status, args=None):
    if os.environ.get("RANK", "0") != "0":
        # What is wrong for one of several processes is mostly wrong for all: the first one says it, and torchrun ends
        # the others in this time. What is wrong here only, or is left when the first has died, is said after it.
        try:
            time.sleep(2)
        except KeyboardInterrupt:
            sys.exit(status)
    if getattr(args, "debug", False):
        traceback.print_exc()
    line = " ".join(message.split())
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr, flush=True)
    sys.exit(status)


def require(module, package):
    """Import `module`, or raise DependencyError with the pip line of `package`."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DependencyError(f"{module} is not installed: pip install {package}") from None


def progress(iterable=None, **kwargs):
    """A tqdm bar on a terminal, of the first process if there are several; nothing when stderr is a file or a pipe."""
    from tqdm import tqdm

    kwargs.setdefault("dynamic_ncols", True)
    kwargs.setdefault("leave", False)
    return tqdm(iterable, disable=True if os.environ.get("RANK", "0") != "0" else None, **kwargs)


def print_notices(notices):
    """Print lines that say what was taken or assumed; those that begin with WARNING as they are."""
    for notice in notices:
        print(notice if notice.startswith("WARNING") else f"INFO: {notice}")


@contextlib.contextmanager
def progress_of_bytes(file, method, desc, total=None):
    """Give `file` in a wrapper whose `method`, "read" or "write", moves a bar on by the bytes."""
    from tqdm.utils import CallbackIOWrapper

    with progress(total=total, desc=desc, unit="B", unit_scale=True, unit_divisor=1000) as bar:
        yield CallbackIOWrapper(bar.update, file, method)


def set_seed(seed):
    """Seed Python, NumPy and torch (all devices)."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party code draws from the global state
    torch.manual_seed(seed)


def check_place(path):
    """Find out before any long work that no file can be written at `path`. Raises UsageError, WriteError."""
    if Path(path).is_dir():
        raise UsageError(f"{path}: is a folder; give the name of a file")
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None


def check_apart(outputs, inputs):
    """Refuse files to write that are also read; inputs: {what it is: path or None}. Raises UsageError."""
    for output in map(Path, outputs):
        for what, path in inputs.items():
            if path is not None and output.exists() and Path(path).exists() and output.samefile(path):
                raise UsageError(f"{output}: is {what}; give another name to write to")


@contextlib.contextmanager
def atomic_path(path):
    """Give a temporary path beside `path`; it takes the final name when the block ends well, and goes otherwise.

    The bytes are flushed to the disk before the rename: a kill at any moment leaves the old file or the new one.
    The temporary name keeps the suffix, for writers that choose their format by it.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{path}: could not be written ({reason}); free space or choose another place") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
