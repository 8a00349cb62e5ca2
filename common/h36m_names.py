"""Which file of Human3.6M holds which sequence's joint positions, by its name and those of the folders it is in.

A file counts by its name, `Walking 1.cdf` or `Walking_1.cdf`, the subject's folder or archive above it and the folder
it is in: `D3_Positions`, and not `D3_Positions_mono` or `D3_Angles`, which hold files of the same names.
"""
import itertools
import re

from common.h36m_raw import ABBREVIATED, ACTIONS, NOT_USED, SEQUENCES, SUBJECTS, npz_name

# Per source: the files' endings and an example.
SOURCES = {"cdf": ((".cdf",), "S1/MyPoseFeatures/D3_Positions/Walking 1.cdf"),
           "mat": ((".cdf.mat", ".mat"), "S1/MyPoseFeatures/D3_Positions/Walking 1.cdf.mat"),
           "archive": ((".h5", ".hdf5"), "h36m/S1/MyPoses/3D_positions/Walking_1.h5")}
PACKED = (".tgz", ".tar.gz", ".tar", ".zip")
POSITIONS = ("d3_positions", "3d_positions")
# Folders with other things about the same sequences; and those not worth looking into.
FEATURES = re.compile(r"(d[23]|[23]d)_(positions|angles)\w*|rawangles\w*|stackedhourglass\w*")
PASSED_OVER = re.compile(r"\..*|__macosx|videos|mysegments\w*|imagesequence.*|tof", re.IGNORECASE)
STRUCTURE = ("myposefeatures", "myposes")
SUBJECT = re.compile(r"(?:.*[^a-z0-9])?s(\d{1,2})", re.IGNORECASE)
CAMERA = re.compile(r"\.\d{8}$")  # of one camera's files, which are not in world space
LONG_NAMES = {long.lower(): short.lower() for long, short in ABBREVIATED.items()}
KNOWN = {ABBREVIATED.get(action, action).lower(): ABBREVIATED.get(action, action) for action in ACTIONS}
BROKEN = {(subject, npz_name(subject, sequence)) for subject, sequence in NOT_USED}


def action_of(name):
    """`Walking` of the sequence `Walking 1`."""
    return name.partition(" ")[0]


def _by_trial(name):
    return len(name) == len(action_of(name)), name  # `Walking` comes after `Walking 1`


def wanted_sequences(subjects, found=()):
    """[(subject, name in the npz)] of these subjects in the dataset's order, without S11's broken `Directions`.

    found: (subject, name) of what is there. Where a subject lacks a file of an action and yet has as many as the
    dataset, of other trials, these are the action's: not everybody's copy has the numbers of the owners' files.
    """
    wanted, there = [], {}
    for subject, name in found:
        if (subject, name) not in BROKEN:
            there.setdefault((subject, action_of(name)), []).append(name)
    for subject in (subject for subject in SUBJECTS if subject in subjects):
        names = [npz_name(subject, sequence) for sequence in SEQUENCES if (subject, sequence) not in NOT_USED]
        for action, group in itertools.groupby(names, action_of):
            usual, present = list(group), there.get((subject, action), [])
            other = set(usual) - set(present) and len(usual) == len(present)
            wanted += [(subject, name) for name in (sorted(present, key=_by_trial) if other else usual)]
    return wanted


def _plain(part):
    return re.sub(r"[ _-]+", "_", part.lower())


def feature_of(part):
    """The features that a folder or archive names, `d3_positions` of `Poses_D3_Positions_S1`; None for none."""
    name = re.sub(r"_?s\d+$", "", _plain(part)).removeprefix("poses_")
    return name if FEATURES.fullmatch(name) else None


def subject_of(parts):
    """The subject that the last of these folders to name any names; None for none."""
    matches = [match for part in parts if (match := SUBJECT.fullmatch(part))]
    return f"S{int(matches[-1][1])}" if matches else None


def archive_stem(path):
    """An archive's name without suffix, and without the number that browsers give to a second copy."""
    return re.sub(r" ?\(\d+\)$", "", stem_of(path.name, PACKED) or path.name)


def stem_of(name, suffixes):
    """A name without the first of the suffixes that it ends in; None for none."""
    suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")
    return name[:-len(suffix)] if suffix else None


def classify(parts, source):
    """(subject or None, name of the sequence or None, stem, whether its folder is that of the positions) of a file.

    parts: the names of its folders and its own. None where it is no file of this source's sequences.
    """
    *folders, name = parts
    stem = stem_of(name, SOURCES[source][0])
    if stem is None or name.startswith((".", "_")) or CAMERA.search(stem) or any(map(PASSED_OVER.fullmatch, folders)):
        return None
    features = [feature for feature in map(feature_of, folders) if feature]
    features += [_plain(folder) for above, folder in itertools.pairwise(folders) if above.lower() in STRUCTURE]
    if features and features[-1] not in POSITIONS:
        return None
    subject, words = subject_of(folders), re.split(r"[ _-]+", stem.lower().strip(" _-"))
    action = KNOWN.get(LONG_NAMES.get(words[0], words[0]))
    if action is None and not features:
        return None
    known = action and subject in SUBJECTS and re.fullmatch(r"( [1-9]\d?)?", " ".join(["", *words[1:]]), re.ASCII)
    return subject, " ".join([action, *words[1:]]) if known else None, stem, bool(features)


def may_hold_positions(path):
    """Whether an archive may hold positions, by its name: `Poses_D3_Positions_S1.tgz`, `S1.tgz`, `h36m.zip`."""
    if stem_of(path.name, PACKED) is None or path.name.startswith("."):
        return False
    stem = archive_stem(path)
    feature = feature_of(stem)
    return feature in POSITIONS if feature else bool(
        re.fullmatch(r"((poses_)?s\d{1,2}|.*(h36m|human3\.?_?6m?).*)", _plain(stem)))
