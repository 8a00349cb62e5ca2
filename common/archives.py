"""Archives from other people (.tgz), extracted without trusting the names in them, known again by the next run."""
import gzip
import json
import math
import os
import tarfile
from pathlib import Path, PurePosixPath

from common.folders import atomic_folder, writing
from common.prepared import state_of
from common.utils import DataError, SuiteError

RECIPE = 2  # raised when the same archive comes to give other files
MARK = "archive.json"  # in the folder of an archive: which one it was, its files, and what was wrong with it
BLOCK = 1 << 20
LONGEST_NAME, LONGEST_PATH = 255, 1024  # bytes; what disks take of a name, and fewer than they take of a path


class Member(tarfile.TarInfo):
    """A member whose header is whole: by itself, tarfile takes a damaged header, or none, for the archive's end."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # the block of zeros that ends an archive
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def check_member(member, archive):
    """DataError unless a member (TarInfo) is a file or folder that stays below the folder it is extracted to."""
    name, reason = PurePosixPath(member.name), None
    if not (member.isreg() or member.isdir()) or member.issparse():  # few bytes of a sparse file may fill the disk
        reason = "is a link, a device or the like"
    elif name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
        reason = "points outside its folder"
    elif not member.name.isprintable():
        reason = "has a name that cannot be printed"
    elif len(os.fsencode(name)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in name.parts):
        reason = "has a name that is too long"
    if reason:
        raise DataError(f"{archive}: refused: its member {member.name!r} {reason}; do not trust this archive, get it "
                        "from its owners again")


def _copy(source, path, mtime):
    """Write an open member to `path` and return its bytes; what is cut short leaves no file."""
    mtime = min(max(mtime, 0), 1 << 32) if math.isfinite(mtime) else 0  # an archive may say anything
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "wb")
    try:
        with file:
            while block := source.read(BLOCK):
                with writing(path):
                    file.write(block)
    except Exception:
        path.unlink()
        raise
    os.utime(path, (mtime, mtime))
    return path.stat().st_size


def extract_members(archive, folder, suffixes):
    """Extract the files of an archive that end in one of `suffixes` below `folder`.

    Returns {name: bytes} of the files, and what is wrong with the archive where it is truncated or damaged (the whole
    members before that are there), else None. DataError refuses a hostile member; see `check_member`.
    """
    files = {}
    try:
        # Read once from front to back: the archives are large. The end of the gzip stream holds its checksum.
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=Member) as tar:
            for member in tar:
                check_member(member, archive)
                name = PurePosixPath(member.name)
                if member.isdir() or name.suffix not in suffixes or name.name.startswith("."):
                    continue
                path = folder.joinpath(*name.parts)
                if member.size < 0 or path.is_dir() or any(str(parent) in files for parent in name.parents):
                    raise tarfile.ReadError(f"member {member.name!r} cannot be")
                files.pop(str(name), None)  # of members with one name the last counts
                files[str(name)] = _copy(tar.extractfile(member), path, member.mtime)
            while stream.read(BLOCK):
                pass
    except SuiteError:
        raise
    except Exception as error:  # a damaged archive raises about anything, an unreadable disk OSError
        return files, f"truncated or damaged after {len(files)} files ({str(error) or type(error).__name__})"
    return files, None


def extracted(archive, folder):
    """(whether `folder` holds what this `archive` gives, what is wrong with the archive or None)."""
    try:
        mark = json.loads((folder / MARK).read_text())
        made = mark["recipe"] == RECIPE and mark["archive"] == state_of(archive) and all(
            (folder / name).stat().st_size == size for name, size in mark["files"].items())
        return made, mark["damage"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False, None


def extract(archive, folder, suffixes):
    """Extract an archive into a folder of its own, unless it is there; returns what is wrong with it, or None.

    The folder appears when the whole archive has been read: a hostile one leaves nothing behind.
    """
    archive, folder = Path(archive), Path(folder)
    made, damage = extracted(archive, folder)
    if made:
        return damage
    try:
        state = state_of(archive)
        open(archive, "rb").close()
    except OSError as error:
        raise DataError(f"{archive}: could not be read ({error.strerror or error}); check its permissions") from None
    with atomic_folder(folder) as temporary:
        files, damage = extract_members(archive, temporary, suffixes)
        mark = {"recipe": RECIPE, "archive": state, "files": files, "damage": damage}
        (temporary / MARK).write_text(json.dumps(mark))
    return damage
