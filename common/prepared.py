"""The files that the prepare scripts make: written with their settings inside, and so known again by the next run."""
import json

import numpy as np

from common.utils import DataError, atomic_path, progress_of_bytes


def state_of(path):
    """[bytes, nanoseconds of the last change] of a file, or of all files in a folder: whether it is what it was."""
    stats = [file.stat() for file in (path.iterdir() if path.is_dir() else [path])]
    return [sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)]


def is_made(path, settings, renewing=(), elsewhere="--output DIR"):
    """Whether the npz file `path` holds these settings' data, so that it can be kept.

    `renewing` names settings that make the file anew when they differ (the state of the sources, say): False then, as
    where there is no file. DataError where another setting differs or the file is not one of the suite's; it names
    `elsewhere`, the flag for another place.
    """
    if not path.exists():
        return False
    try:
        with np.load(path) as archive:
            found = json.loads(str(archive["settings"]))
        differing = [name for name, value in settings.items() if found[name] != value]
    except PermissionError:
        raise
    except Exception as error:  # a damaged file raises about anything
        raise DataError(f"{path} exists and is not a file of this script; --force replaces it") from error
    refused = [name for name in differing if name not in renewing]
    if refused:
        raise DataError(f"{path} was made with other {' and '.join(refused)}; --force makes it anew, "
                        f"{elsewhere} puts the new files elsewhere")
    return not differing


def write(path, settings, quiet=False, **arrays):
    """Write `arrays` and their settings (what JSON can hold) as an npz file; `path` is whole at every moment.

    Says so, unless `quiet`. WriteError where it cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file, \
            progress_of_bytes(file, "write", "compressing") as counted:
        np.savez_compressed(counted, settings=np.array(json.dumps(settings)), **arrays)
    if not quiet:
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
