"""Checkpoints: read without running code, checked against the network, written so that a kill leaves a whole file."""
import functools
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from common.safe_io import NUMPY_GLOBALS, PlainArray, PlainDtype, encode_latin1, plain
from common.utils import CheckpointError, WriteError, atomic_path

PREFIXES = ("module.", "_orig_mod.")  # torch.nn.DataParallel, torch.compile


def _alias(function, name):
    """`function` under the full name that a pickle gives it: what torch's weights-only loader compares."""

    def renamed(*args):
        return function(*args)

    renamed.__module__, _, renamed.__name__ = name.rpartition(".")
    renamed.__qualname__ = renamed.__name__
    return renamed


class _SkippedBitGenerator:
    """What stands for the bit generator inside a pickled RandomState, whose own state says all of it.

    NumPy 1 and 2 pickle it differently, and neither reads the other's.
    """

    def __init__(self, kind="MT19937"):
        if getattr(kind, "__name__", kind) != "MT19937":
            raise ValueError(f"RandomState of an unknown kind {kind}")

    def __setstate__(self, state):
        pass


def _random_state(*_):
    return np.random.RandomState(0)  # noqa: NPY002 - its state follows in the file


@functools.cache
def _admit_numpy():
    """Admit NumPy arrays, scalars and RandomState in torch's weights-only loader, as NumPy 1 and 2 name them."""
    named = NUMPY_GLOBALS | {
        "numpy.random._pickle.__randomstate_ctor": _random_state,
        "numpy.random._pickle.__bit_generator_ctor": _SkippedBitGenerator,
        "_codecs.encode": encode_latin1,
    }
    types = [PlainDtype, PlainArray, _SkippedBitGenerator, np.random.RandomState, np.random.MT19937]
    torch.serialization.add_safe_globals([_alias(value, name) for name, value in named.items()] + types)


def load(path):
    """Read a checkpoint onto the CPU: tensors, plain containers and NumPy data only.

    Raises CheckpointError, in one line, where the file is missing, damaged or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    _admit_numpy()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the pickle protocol of files that are refused anyway
            return plain(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # damaged zip and pickle streams raise about anything
        message = str(error)
        refused = re.search(r"(?:GLOBAL|global:?|class)\s+`?([A-Za-z_][\w.]*\.[\w.]+)", message)
        if refused:
            reason = f"refused: it holds {refused[1]}, which is neither a tensor, a plain container nor NumPy data"
        elif "weights_only" in message or "WeightsUnpickler" in message or "Unsupported operand" in message:
            reason = "refused: it holds something that is neither a tensor, a plain container nor NumPy data"
        else:
            reason = "damaged, truncated or not a checkpoint"
        raise CheckpointError(f"{path}: {reason}; get the file again from its author") from None


def model_state(checkpoint, path):
    """The network's state dict of a loaded checkpoint, whatever its wrapping, without DataParallel prefixes."""
    state = checkpoint
    if isinstance(checkpoint, dict):
        state = next((checkpoint[key] for key in ("model_pos", "state_dict", "model") if key in checkpoint), checkpoint)
    if not isinstance(state, dict) or not state or not all(_is_weight(*item) for item in state.items()):
        raise CheckpointError(f"{path}: holds no network weights (expected a dict with `model_pos`)")
    return {strip_prefixes(key): value for key, value in state.items()}


def _is_weight(name, value):
    return (isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
            and not value.is_complex() and not value.is_quantized)


def strip_prefixes(key):
    """A state-dict name without the prefixes that wrappers put before it."""
    while key.startswith(PREFIXES):
        key = key.split(".", 1)[1]
    return key


def load_into(model, checkpoint, path, leave_out=None):
    """Load the weights of a checkpoint into `model`; leave_out: the beginning of names that stay as they are.

    A mismatch raises CheckpointError that names the first keys and shapes that differ and the flag that would fit.
    """
    model.load_state_dict(fitting_state(model, checkpoint, path, leave_out), strict=leave_out is None)


def fitting_state(model, checkpoint, path, leave_out=None):
    """The state dict of a checkpoint that fits `model`; see `load_into`."""
    given, wanted = model_state(checkpoint, path), model.state_dict()
    if leave_out is not None:
        wanted = {key: value for key, value in wanted.items() if not key.startswith(leave_out)}
    missing = [key for key in wanted if key not in given]
    extra = [key for key in given if key not in wanted]
    shapes = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    if missing or extra or shapes:
        differences = [
            f"{key} is {list(given[key].shape)}, the network wants {list(wanted[key].shape)}" for key in shapes
        ]
        differences += [f"{key} is missing" for key in missing] + [f"{key} is not in the network" for key in extra]
        listed = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
        raise CheckpointError(f"{path}: weights of another network: {listed}. {_fitting_flags(given, wanted)}")
    _check_architecture(model, checkpoint, path)
    bad = next((key for key, value in given.items() if value.is_floating_point() and not value.isfinite().all()), None)
    if bad:
        raise CheckpointError(f"{path}: {bad} holds NaN or infinite values; take an earlier checkpoint")
    return given


def architecture(model):
    """What builds the network again, as plain values for the checkpoint."""
    return {
        "dataset": model.dataset, "joints_in": model.num_joints_in, "joints_out": model.num_joints_out,
        "filter_widths": list(model.filter_widths), "causal": model.causal, "pose_sequence": model.pose_sequence,
        "channels": model.expand_gcn.tcn1.conv.out_channels, "input_layout": model.input_layout,
    }


def said_architecture(checkpoint):
    """What a loaded checkpoint says of its network, see `architecture`; {} of files that are not ours."""
    suite = checkpoint.get("suite") if isinstance(checkpoint, dict) else None
    given = suite.get("architecture") if isinstance(suite, dict) else None
    return given if isinstance(given, dict) else {}


def _check_architecture(model, checkpoint, path):
    """Compare what shapes do not tell, where the checkpoint (one of ours) says it of a whole network."""
    given = said_architecture(checkpoint)
    if not given:
        return
    flags = {"causal": "--causal" if given.get("causal") else "no --causal",
             "filter_widths": f"-arc {','.join(map(str, given.get('filter_widths') or []))}",
             "dataset": f"the graph of {given.get('dataset')} (-d, or run_s-agcn_HE_13.py for humaneva15_he13)"}
    for name, value in architecture(model).items():
        if name in flags and given.get(name, value) != value:
            raise CheckpointError(f"{path}: weights of another network: its {name} is {given[name]}, not {value}. It "
                                  f"would fit with {flags[name]}")


def describe(state):
    """What the shapes of a GLA-GCN state dict tell: channels, number of filter widths, joints, full model or not."""
    layers = {int(match[1]) for match in (re.match(r"layers_tcngcn\.(\d+)\.", key) for key in state) if match}
    first_conv, adjacency = state.get("expand_gcn.tcn1.conv.weight"), state.get("expand_gcn.gcn1.PA")
    if first_conv is None or adjacency is None or first_conv.ndim != 4 or adjacency.ndim != 3:
        return None
    return {
        "channels": first_conv.shape[0],
        "widths": (max(layers) + 1) // 2 if layers else 0,
        "joints": adjacency.shape[-1],
        "pose_sequence": "fc.weight" not in state,
        "refined": any(key.startswith("refinement.") for key in state),
    }


def _fitting_flags(given, wanted):
    """Which flags would build the network that the weights are of."""
    given, wanted = describe(given), describe(wanted)
    if given is None or wanted is None:
        return "It is not a checkpoint of this kind of network"
    flags = []
    if given["refined"] != wanted["refined"]:
        flags.append("--refine" if given["refined"] else "no --refine")
    if given["channels"] != wanted["channels"]:
        flags.append(f"-ch {given['channels']}")
    if given["widths"] != wanted["widths"]:
        flags.append(f"-arc {','.join(['3'] * given['widths'])} (it has {given['widths']} filter widths; on "
                     f"MPI-INF-3DHP --frames {3 ** given['widths']})")
    if given["joints"] != wanted["joints"]:
        dataset = {15: "humaneva15", 17: "h36m", 20: "humaneva20"}.get(given["joints"], "of another skeleton")
        flags.append(f"-d {dataset} (it has {given['joints']} joints)")
    if given["pose_sequence"] != wanted["pose_sequence"]:
        flags.append("--pose-sequence" if given["pose_sequence"] else "--no-pose-sequence")
    return f"It would fit with {' '.join(flags)}" if flags else "No flag of this script builds that network"


def find(name, folders):
    """The path of a checkpoint: `name` itself if it exists, else the first of `folders` that has it.

    Raises CheckpointError that lists every place tried.
    """
    candidates = [Path(name)] + [Path(folder) / name for folder in folders]
    places = list(dict.fromkeys(candidates))
    for place in places:
        if place.is_file():
            return place
    tried = ", ".join(str(place) for place in places)
    raise CheckpointError(f"no checkpoint {name}: tried {tried}; put the file there or pass its path")


def save(path, content):
    """Write `content` with torch.save, atomically."""
    with atomic_path(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's zip writer reports a full disk so
            raise WriteError(f"{path}: could not be written; free space or choose another folder") from error


def check_writable(folder, flag="-c"):
    """Make the folder that `flag` names before the training, and find out now whether it can be written."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WriteError(f"{flag} {folder}: cannot be written ({error.strerror or error}); choose another "
                         "folder") from error
