"""Folders that appear whole or not at all, and one run at a time that writes into them."""
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from common.utils import DataError, WriteError

LEFTOVERS = (".*.making", ".*.tmp.*")  # of runs that were killed: of `atomic_folder` and of `atomic_path`
LOCK = ".lock"


@contextlib.contextmanager
def writing(path):
    """An OSError of the block becomes a WriteError: `path` could not be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(f"{path}: could not be written ({reason}); free space or choose another place") from error


@contextlib.contextmanager
def atomic_folder(path):
    """Give a temporary folder beside `path`; it takes that name when the block ends well, and goes otherwise.

    A kill at any moment leaves the old folder, the new one or, between two renames, none. WriteError where it cannot
    be written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".making", dir=path.parent))
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o777 & ~umask)
            if path.exists():
                os.replace(path, _beside(temporary))
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(_beside(temporary), ignore_errors=True)


def _beside(temporary):
    """Where the folder that a temporary one replaces waits to be removed."""
    return temporary.with_name(f".old{temporary.name}")


def remove_leftovers(folder):
    """Remove the temporary folders and files that killed runs left in `folder` itself."""
    for path in (path for pattern in LEFTOVERS for path in Path(folder).glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def only_run(folder):
    """Hold the lock of `folder` (made if missing) while the block runs; DataError where another process holds it.

    The lock ends with the process, however it ends.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "w")
    except OSError as error:
        raise WriteError(f"{folder}: could not be written ({error.strerror or error}); choose another place") from error
    with file:
        try:
            import fcntl
        except ImportError:  # not on Windows: there, two runs are the user's affair
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"{folder}: another run is writing into it; wait for it or stop it") from None
        yield
