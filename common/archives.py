"""Archives from other people (.tgz), extracted without trusting the names in them, known again by the next run."""
import gzip
import json
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from common.folders import atomic_folder
from common.utils import DataError

RECIPE = 1  # raised when the same archive comes to give other files
MARK = "archive.json"  # in the folder of an archive: which one it was, and what was wrong with it
BLOCK = 1 << 20
DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


def check_member(member, archive):
    """DataError unless a member (TarInfo) is a file or folder that stays below the folder it is extracted to."""
    name, reason = PurePosixPath(member.name), None
    if not (member.isreg() or member.isdir()):
        reason = "is a link, a device or the like"
    elif name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
        reason = "points outside its folder"
    elif not member.name.isprintable():
        reason = "has a name that cannot be printed"
    if reason:
        raise DataError(f"{archive}: refused: its member {member.name!r} {reason}; do not trust this archive, get it "
                        "from its owners again")


def _copy(source, path, mtime):
    """Write an open member to `path`; what is cut short leaves no file."""
    try:
        with open(path, "wb") as file:
            while block := source.read(BLOCK):
                file.write(block)
    except DAMAGED:
        path.unlink()
        raise
    mtime = min(max(mtime, 0), 1 << 32)  # an archive may say anything
    os.utime(path, (mtime, mtime))


def extract_members(archive, folder, suffixes):
    """Extract the files of an archive that end in one of `suffixes` below `folder`.

    Returns what is wrong with the archive where it is truncated or damaged (the whole members before that are there),
    else None. DataError refuses a hostile member; see `check_member`.
    """
    count = 0
    try:
        # Read once from front to back: the archives are large. The end of the gzip stream holds its checksum.
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                check_member(member, archive)
                name = PurePosixPath(member.name)
                if member.isdir() or name.suffix not in suffixes or name.name.startswith("."):
                    continue
                path = folder.joinpath(*name.parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                _copy(tar.extractfile(member), path, member.mtime)
                count += 1
            while stream.read(BLOCK):
                pass
    except DAMAGED as error:
        return f"truncated or damaged after {count} files ({str(error) or type(error).__name__})"
    return None


def state_of(path):
    """[bytes, nanoseconds of the last change] of a file: whether what was made of it is up to date."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def extracted(archive, folder):
    """(whether `folder` holds what this `archive` gives, what is wrong with the archive or None)."""
    try:
        mark = json.loads((folder / MARK).read_text())
        return mark["recipe"] == RECIPE and mark["archive"] == state_of(archive), mark["damage"]
    except (OSError, ValueError, KeyError, TypeError):
        return False, None


def extract(archive, folder, suffixes):
    """Extract an archive into a folder of its own, unless it is there; returns as `extract_members` does.

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
        damage = extract_members(archive, temporary, suffixes)
        (temporary / MARK).write_text(json.dumps({"recipe": RECIPE, "archive": state, "damage": damage}))
    return damage
