"""Where Human3.6M's joint positions are: in folders and archives, found and read as people have them."""
import contextlib
import gzip
import os
import stat
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from common.archives import BLOCK, Member, check_member
from common.h36m_names import (
    BROKEN,
    PASSED_OVER,
    SOURCES,
    STRUCTURE,
    SUBJECT,
    archive_stem,
    classify,
    feature_of,
    may_hold_positions,
    stem_of,
    subject_of,
    wanted_sequences,
)
from common.h36m_positions import READERS
from common.h36m_raw import AGAIN, LARGEST_FILE, OtherShape, read_positions
from common.utils import DataError, SuiteError, progress_of_bytes

DEEPEST = 8  # folders below the one that is named


@dataclass(frozen=True)
class Found:
    """A file of one sequence; member: its number in the archive `path`, or None; certain: its folder says what it is.
    """

    subject: str
    name: str
    path: Path
    member: int | None
    label: str
    certain: bool


@dataclass
class Search:
    """What is found: files {(subject, name): [Found]}, names that the dataset lacks, damage {archive: what is wrong}.

    wanted: [(subject, name)] of what is to be there, see `common.h36m_names.wanted_sequences`; nameless: files of which
    nothing says whose they are; unread: archives of subjects that folders hold already.
    """

    files: dict = field(default_factory=dict)
    others: list = field(default_factory=list)
    damage: dict = field(default_factory=dict)
    wanted: list = field(default_factory=list)
    nameless: list = field(default_factory=list)
    unread: list = field(default_factory=list)


def _add(search, above, below, source, only, path, member=None):
    """Note one file by the names of the folders above it and `below`, which ends in its own.

    only: whose it is where nothing says so, or None; member: its number where `path` is an archive.
    """
    if only and not subject_of((*above, *below[:-1])):
        above = (only, *above)
    classified = classify((*above, *below), source)
    if classified is None:
        return
    subject, name, stem, certain = classified
    label = str(path) if member is None else f"{path}: {'/'.join(below)}"
    if subject is None:
        search.nameless.append(label)
    elif name is None:
        search.others.append(f"{subject} {stem}")
    else:
        search.files.setdefault((subject, name), []).append(Found(subject, name, path, member, label, certain))


def _above(path):
    """The names of the folder `path` and of those above it, as far as they belong to the dataset: (S1, ...)."""
    names = []
    for part in reversed(path.absolute().parts):
        if not (feature_of(part) or part.lower() in STRUCTURE or SUBJECT.fullmatch(part)):
            break
        names.insert(0, part)
    return names


def walk(root):
    """Yield (names of its folders below `root`, path) of all files; follows links, never in circles."""
    def stop(error):
        raise DataError(f"{error.filename}: could not be read ({error.strerror}); check its permissions")

    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=stop):
        below = Path(folder).relative_to(root).parts
        folders[:] = sorted(name for name in folders if not PASSED_OVER.fullmatch(name))
        place = os.path.realpath(folder)
        if place in seen or len(below) >= DEEPEST:
            folders[:] = []
        if place not in seen:
            yield from ((below, Path(folder, name)) for name in sorted(names) if Path(folder, name).is_file())
        seen.add(place)


def _tar_members(path):
    """Yield (number, TarInfo, open tar) of the members of a `.tgz` or `.tar`, read once from front to back."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with open(path, "rb") as file, progress_of_bytes(file, "read", path.name, path.stat().st_size) as counted, \
            gzip.open(counted) if packed else contextlib.nullcontext(counted) as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=Member) as tar:
            for number, member in enumerate(tar):
                check_member(member, path)
                yield number, member, tar
        while stream.read(BLOCK):  # the end of the gzip stream holds its checksum
            pass


def _zip_members(path):
    """Yield (number, ZipInfo, open zip) of the members of a `.zip`."""
    with zipfile.ZipFile(path) as archive:
        for number, info in enumerate(archive.infolist()):
            as_tar = tarfile.TarInfo(info.filename)
            mode = info.external_attr >> 16
            as_tar.type = tarfile.SYMTYPE if stat.S_ISLNK(mode) else tarfile.REGTYPE
            check_member(as_tar, path)
            yield number, info, archive


def _members(path):
    """The members of an archive, by what it is rather than what it is called."""
    with open(path, "rb") as file:
        return _zip_members(path) if file.read(2) == b"PK" else _tar_members(path)


def _damage_of(error):
    return f"truncated or damaged ({type(error).__name__}: {error})"


def _search_archive(search, path, above, source, only):
    """Note the files of an archive; what is wrong with it goes to `search.damage`. DataError where it is hostile."""
    above = (*above, archive_stem(path))
    try:
        for number, member, _ in _members(path):
            name = getattr(member, "filename", None) or member.name
            if not name.endswith("/") and not (isinstance(member, tarfile.TarInfo) and member.isdir()):
                _add(search, above, PurePosixPath(name).parts, source, only, path, number)
    except SuiteError:
        raise
    except Exception as error:  # a damaged archive raises about anything
        search.damage[path] = _damage_of(error)


def find(path, source, subjects):
    """A `Search` for the sequences of `subjects` at `path`: a folder of any depth, or an archive.

    What lies in folders counts first; archives are opened for what is missing there. DataError: `path` does not exist,
    cannot be read, or an archive in it is hostile.
    """
    search, archives, only = Search(), [], subjects[0] if len(subjects) == 1 else None
    if path.is_dir():
        above = _above(path)
        for below, file in walk(path):
            if may_hold_positions(file):
                archives.append(((*above, *below), file))
            else:
                _add(search, above, (*below, file.name), source, only, file)
    elif path.is_file():
        if stem_of(path.name, SOURCES[source][0]):
            raise DataError(f"{path}: is a single file; name the dataset's folder or archive")
        archives.append((_above(path.parent), path))
    else:
        raise DataError(f"{path}: no such file or folder; it is to hold {SOURCES[source][1]} and so on")
    for above, file in archives:
        whose = None if file == path else subject_of((*above, archive_stem(file)))
        missing = {key[0] for key in wanted_sequences(subjects, search.files) if key not in search.files}
        if whose in missing or (whose is None and missing):
            _search_archive(search, file, above, source, only)
        elif whose is None or whose in subjects:
            search.unread.append(file)
    search.wanted = wanted_sequences(subjects, search.files)
    unused = [key for key in search.files if key[0] in subjects and key not in BROKEN.union(search.wanted)]
    search.others += [" ".join(key) for key in unused]
    return search


def _content(found, size, open_file):
    """The bytes of one file; DataError where it is too large or ends early."""
    if size > LARGEST_FILE:
        raise DataError(f"{found.label}: has {size} bytes, more than any sequence; {AGAIN}")
    with open_file() as stream:
        content = stream.read(size + 1)
    if len(content) != size:
        raise DataError(f"{found.label}: truncated or damaged, {len(content)} of {size} bytes; {AGAIN}")
    return content


def _content_of(found, member, archive):
    """The bytes of a member of an open archive; DataError where it is damaged."""
    try:
        if isinstance(member, tarfile.TarInfo):
            return _content(found, member.size, lambda: archive.extractfile(member))
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise DataError(f"{found.label}: is encrypted or packed in an unusual way; unpack {found.path} and name "
                            "its folder")
        return _content(found, member.file_size, lambda: archive.open(member))
    except SuiteError:
        raise
    except Exception as error:  # a damaged archive raises about anything
        raise DataError(f"{found.label}: {_damage_of(error)}; {AGAIN}") from None


def _read_one(found, source, content=None):
    """Poses of one file, or the DataError that says what is wrong with it. content: () -> bytes, of a member."""
    try:
        if content:
            return READERS[source](content(), found.label)
        if source == "cdf":
            return read_positions(found.path)
        return READERS[source](_content(found, found.path.stat().st_size, lambda: open(found.path, "rb")), found.label)
    except DataError as error:
        return error
    except OSError as error:
        return DataError(f"{found.label}: could not be read ({error.strerror or error}); check its permissions")


def _read_path(path, wanted, source):
    """Yield (Found, poses or a DataError) of {member: Found} of one archive, or of the one plain file."""
    if None in wanted:
        yield wanted[None], _read_one(wanted[None], source)
        return
    left = dict(wanted)
    try:
        for number, member, archive in _members(path):
            if number in left:
                found = left.pop(number)
                yield found, _read_one(found, source, lambda f=found, m=member, a=archive: _content_of(f, m, a))
    except SuiteError:
        raise
    except Exception as error:  # what the search went through without an error, or it is damaged behind these
        for found in left.values():
            yield found, DataError(f"{found.label}: {_damage_of(error)}; {AGAIN}")


def read(files, source, bar):
    """({key: poses (frames, 32, 3) float32 millimetres}, {key: DataError}) of the `files` of a `Search`.

    bar: moved on with every sequence. DataError, raised: two files of one sequence hold different poses.
    """
    by_path, poses, wrong, labels = {}, {}, {}, {}
    for candidates in files.values():
        for found in [found for found in candidates if found.certain] or candidates:
            by_path.setdefault(found.path, {})[found.member] = found
    for path, wanted in by_path.items():
        for found, result in _read_path(path, wanted, source):
            key = found.subject, found.name
            if isinstance(result, OtherShape) and not found.certain and len(files[key]) > 1:
                wrong.setdefault(key, result)  # another feature of the sequence, in a folder that does not say so
            elif isinstance(result, DataError):
                wrong[key] = result
            elif key in poses and not np.array_equal(poses[key], result):
                raise DataError(f"{' '.join(key)}: two files hold different poses, {labels[key]} and {found.label}; "
                                "leave one of them there")
            else:
                bar.update(key not in poses)
                poses[key], labels[key] = result, found.label
    return poses, {key: error for key, error in wrong.items() if key not in poses}
