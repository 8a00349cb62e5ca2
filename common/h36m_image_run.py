"""The preparation of Human3.6M's images as one run: archives, sequences, labels; it goes on where it was stopped."""
import functools

from common.archives import extract
from common.folders import only_run, remove_leftovers
from common.h36m_images import find_sources, prepare_sequence
from common.h36m_labels import (
    LABELS,
    LIMB_LENGTHS,
    make_labels,
    prepared_sequences,
    write_labels,
    write_limb_lengths,
)
from common.h36m_raw import ARCHIVES, SEQUENCES, SUBJECTS, archive_name
from common.parallel import run_all
from common.utils import DataError, SuiteError, progress, require

SUFFIXES = (".cdf", ".mp4", ".mat")
EXTRACTED, IMAGES, EXTRA = "extracted", "processed", "extra"  # folders in the output
SHOWN = 5  # names in the error line; all of them are in the summary


def find_archives(raw, subjects):
    """{(kind, subject): path} of the archives in `raw`, of these subjects or (None) of all that have any."""
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder; --raw names the folder of the raw Human3.6M's archives")
    found = {(kind, subject): raw / archive_name(kind, subject) for subject in subjects or SUBJECTS for kind in ARCHIVES
             if (raw / archive_name(kind, subject)).is_file()}
    absent = [subject for subject in subjects or () if subject not in {name for _, name in found}]
    if absent or not found:
        raise DataError(f"{raw}: no archives of {', '.join(absent or SUBJECTS)}, such as "
                        f"{archive_name('Poses_D3_Positions', (absent or SUBJECTS)[0])}; put them there or leave out "
                        "the subject")
    return found


def extract_archive(item, extracted):
    """Extract one archive, (name, path), into its own folder; returns what is wrong with it, or None."""
    (kind, subject), path = item
    return extract(path, extracted / f"{kind}_{subject}", SUFFIXES)


def extract_all(archives, extracted, jobs, bar):
    """Extract the archives that are not; returns [what is wrong with one, with its name]."""
    bar.set_description("archives")
    wrong = {}
    for (_, path), damage in run_all(functools.partial(extract_archive, extracted=extracted), archives.items(), jobs):
        if damage:
            wrong[path] = damage
        bar.update()
    return [f"{path}: {wrong[path]}; copy it again from its owners" for path in archives.values() if path in wrong]


def known_sequences(extracted, subjects):
    """[(subject, sequence)] of which the archives hold anything, and {subject: those of which they hold nothing}."""
    found, absent = [], {}
    for subject in subjects:
        for sequence in SEQUENCES:
            if any(find_sources(extracted, subject, sequence).values()):
                found.append((subject, sequence))
            else:
                absent.setdefault(subject, []).append(sequence)
    return found, absent


def try_sequence(names, extracted, images):
    """Prepare one (subject, sequence): (whether anything was made, what is wrong or None)."""
    require("cv2", "opencv-python-headless").setNumThreads(1)  # the processes share the cores
    try:
        return prepare_sequence(extracted, images, *names), None
    except DataError as error:
        return False, str(error)
    except (SuiteError, OSError):  # no fault of the sequence: a full disk, a missing library
        raise
    except Exception as error:  # a library stumbled over this sequence: the others need not wait for it
        return False, f"unexpected {type(error).__name__}: {error}; please report it"


def prepare_all(sequences, extracted, images, jobs, bar):
    """Prepare the sequences; returns how many were made and {(subject, sequence): what is wrong}."""
    bar.set_description("sequences")
    made, wrong = 0, {}
    for names, (new, problem) in run_all(functools.partial(try_sequence, extracted=extracted, images=images), sequences,
                                         jobs):
        made += new
        if problem:
            wrong[names] = problem
        bar.update()
    return made, {names: wrong[names] for names in sequences if names in wrong}


def write_extra(images, extra, but):
    """Write the labels and the limb lengths of all that is prepared, without the sequences in `but`."""
    sequences = prepared_sequences(images, but)
    labels = make_labels(images, sequences)
    table, path = labels["table"], extra / LABELS
    subjects = ", ".join(dict.fromkeys(subject for subject, _ in sequences))
    changed = write_labels(path, labels)
    print(f"{path}: {'written' if changed else 'kept'}, {len(table)} frames of {len(sequences)} sequences"
          f"{f' ({subjects})' if subjects else ''}")
    path = extra / LIMB_LENGTHS
    changed = write_limb_lengths(path, table)
    print(f"{path}: not written, no training subject is prepared" if changed is None else
          f"{path}: {'written' if changed else 'kept'}")


def report(damaged_archives, wrong, allow_missing):
    """Print what was left out, and end with DataError unless that is allowed."""
    for line in damaged_archives:
        print(f"WARNING: {line}")
    for (subject, sequence), problem in wrong.items():
        print(f"WARNING: {subject} {sequence} is left out: {problem}")
    if (wrong or damaged_archives) and not allow_missing:
        names = [f"{subject} {sequence}" for subject, sequence in wrong]
        parts = [f"{len(names)} sequences are damaged or missing and were left out: {', '.join(names[:SHOWN])}"
                 f"{' and others (all of them above)' if names[SHOWN:] else ''}"] if names else []
        parts += [f"damaged archives: {', '.join(line.partition(': ')[0] for line in damaged_archives)}"] * bool(
            damaged_archives)
        raise DataError(f"{'; '.join(parts)}; mend them and run again, or accept it by --allow-missing")


def prepare_images(raw, output, subjects=None, jobs=1, allow_missing=False):
    """Make images, boxes, labels and limb lengths in `output` of the archives in `raw`; see data/README.md.

    subjects: None for all that have archives; jobs: processes at a time. DataError, at the end of the run, names the
    sequences that were damaged or missing, unless `allow_missing`.
    """
    for module, package in (("cdflib", "cdflib"), ("h5py", "h5py"), ("cv2", "opencv-python-headless"), ("av", "av")):
        require(module, package)
    archives = find_archives(raw, subjects)
    subjects = list(dict.fromkeys(subject for _, subject in archives))
    extracted, images, extra = (output / name for name in (EXTRACTED, IMAGES, EXTRA))
    with only_run(output), progress(total=len(archives) + len(subjects) * len(SEQUENCES), unit="file") as bar:
        folders = [extracted, extra, *(images / subject for subject in SUBJECTS)]
        for folder in folders:
            remove_leftovers(folder)
        try:
            damaged_archives = extract_all(archives, extracted, jobs, bar)
            sequences, absent = known_sequences(extracted, subjects)
            bar.total = len(archives) + len(sequences)
            made, wrong = prepare_all(sequences, extracted, images, jobs, bar)
        finally:
            for folder in folders:  # of processes that were ended by an error or Ctrl-C
                remove_leftovers(folder)
        bar.close()
        for subject, names in absent.items():
            few = f" ({', '.join(names)})" if len(names) <= SHOWN else ""
            print(f"INFO: {subject}: the archives hold nothing of {len(names)} of {len(SEQUENCES)} sequences{few}, a "
                  "part of the dataset or demo people")
        print(f"{images}: {made} sequences made, {len(sequences) - made - len(wrong)} kept, {len(wrong)} left out")
        write_extra(images, extra, wrong)
    report(damaged_archives, wrong, allow_missing)
