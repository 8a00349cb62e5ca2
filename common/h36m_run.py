"""The preparation of Human3.6M's positions as one run: all is found, read and checked before anything is written."""
import contextlib

from common.h36m_names import SOURCES, wanted_sequences
from common.h36m_positions import make_arrays, to_metres
from common.h36m_raw import SUBJECTS
from common.h36m_sources import find, read
from common.prepared import is_made, write
from common.utils import DataError, WriteError, atomic_path, progress

RECIPE = 1  # raised when the same positions come to give other files
FILES = ("data_3d_h36m.npz", "data_2d_h36m_gt.npz")
FLAGS = {"cdf": "--from-source-cdf", "mat": "--from-source", "archive": "--from-archive"}
SHOWN = 7  # names in a line


def _few(names):
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")


def _grouped(missing, wanted):
    """The (subject, name) of `missing` in short: `S5 (all 30)` for whole subjects."""
    names = []
    for subject in dict.fromkeys(subject for subject, _ in missing):
        those = [name for whose, name in missing if whose == subject]
        of_all = sum(whose == subject for whose, _ in wanted)
        names += [f"{subject} (all {of_all})"] if len(those) == of_all else [f"{subject} {name}" for name in those]
    return names


def _nothing_found(path, source, search):
    """The DataError for a place where no sequence is."""
    if search.damage:
        damaged, what = next(iter(search.damage.items()))
        return DataError(f"{damaged}: {what}; get it from its owners again")
    hints = [f"nothing says whose {search.nameless[0]} is: name its folder S1, or the one subject by --subjects"
             ] if search.nameless else []
    for other, flag in FLAGS.items():
        if other != source and not hints and any(find(path, other, SUBJECTS).files.values()):
            hints = [f"it holds what {flag} reads"]
    return DataError(f"{path}: holds no positions of Human3.6M such as {SOURCES[source][1]}; "
                     f"{hints[0] if hints else 'name their folder or archive'}")


def find_all(path, source, subjects, allow_missing):
    """A `Search` (see `common.h36m_sources`) of all sequences of these subjects; says what else is there.

    DataError names what is missing, unless `allow_missing` and there is any; it is then listed.
    """
    search = find(path, source, subjects)
    wanted, missing = search.wanted, [key for key in search.wanted if key not in search.files]
    if len(missing) == len(wanted):
        raise _nothing_found(path, source, search)
    if search.unread:
        print(f"INFO: not read, as their sequences are there without them: {_few(list(map(str, search.unread)))}")
    if search.others:
        print(f"INFO: not among the dataset's sequences, and not read: {_few(search.others)}")
    renamed = [key for key in wanted if key not in wanted_sequences(subjects)]
    if renamed:
        print(f"INFO: of other trials than the owners' files, and taken under their own names: "
              f"{_few(list(map(' '.join, renamed)))}")
    if search.nameless:
        print(f"INFO: nothing says whose these are, and they are not read: {_few(search.nameless)}")
    problems = [f"{archive}: {what}" for archive, what in search.damage.items()]
    problems += [f"{path}: {len(missing)} of {len(wanted)} sequences are missing: {_few(_grouped(missing, wanted))}"
                 ] if missing else []
    if problems and not allow_missing:
        for name in _grouped(missing, wanted) if len(_grouped(missing, wanted)) > SHOWN else ():
            print(f"missing: {name}")
        raise DataError(f"{'; '.join(problems)}; put them there and run again, take some of the subjects by "
                        "--subjects, or go on without by --allow-missing")
    for line in problems:
        print(f"WARNING: {line}")
    return search


def read_all(search, source, allow_missing):
    """({subject: {action: (frames, 32, 3) float32 world metres}}, ["S5 Walking 1", ... what is left out]).

    DataError names what is damaged, unless `allow_missing`; it is then listed and left out.
    """
    wanted = search.wanted
    files = {key: search.files[key] for key in wanted if key in search.files}
    with progress(total=len(files), desc="positions", unit="sequence") as bar:
        poses, wrong = read(files, source, bar)
    damaged = [key for key in wanted if key in wrong]
    if damaged and (not allow_missing or not poses):
        if len(damaged) > 1:
            for key in damaged:
                print(f"WARNING: {' '.join(key)}: {wrong[key]}")
        others = f" ({len(damaged) - 1} others are damaged too, named above)" if len(damaged) > 1 else ""
        raise DataError(f"{wrong[damaged[0]]}{others}, or go on without by --allow-missing")
    for key in damaged:
        print(f"WARNING: {' '.join(key)} is left out: {wrong[key]}")
    positions = {}
    for subject, name in wanted:
        if (subject, name) in poses:
            positions.setdefault(subject, {})[name] = to_metres(poses.pop((subject, name)))
    made = {(subject, name) for subject, actions in positions.items() for name in actions}
    return positions, [" ".join(key) for key in wanted if key not in made]


def _settings(subjects, left_out):
    return {"recipe": RECIPE, "subjects": list(subjects), "sequences left out": left_out}


def is_kept(output, subjects, left_out):
    """Whether both files are in `output` already, and says so. DataError where other data or others' files are.

    left_out: as `read_all` gives it, or None while that is not known: nothing is kept then.
    """
    settings = _settings(subjects, left_out)
    if left_out is None:
        settings.pop("sequences left out")
    made = [is_made(output / name, settings) for name in FILES]
    if left_out is None or not all(made):
        return False
    print(f"{', '.join(str(output / name) for name in FILES)}: exists, kept; --force writes it anew")
    return True


def write_all(output, positions, subjects, left_out):
    """Write both npz files; they take their names when both are whole."""
    paths = [output / name for name in FILES]
    for path in paths:
        if path.is_dir():
            raise WriteError(f"{path}: is a folder; move it away or choose another place")
    with contextlib.ExitStack() as stack:
        for path, arrays in zip(paths, make_arrays(positions), strict=True):
            temporary = stack.enter_context(atomic_path(path))
            try:
                write(temporary, _settings(subjects, left_out), quiet=True, **arrays)
            except WriteError as error:
                raise WriteError(str(error).replace(str(temporary), str(path))) from None
    sequences = [poses for actions in positions.values() for poses in actions.values()]
    for path in paths:
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    broken = "; S11 Directions is left out, a broken recording" if "S11" in positions else ""
    print(f"{len(sequences)} sequences of {len(positions)} subjects, {sum(map(len, sequences)):,} frames, 4 cameras"
          f"{broken}")
