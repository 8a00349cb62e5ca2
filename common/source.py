"""Where poses come from: what a results file and an ONNX file tell of the weights and of the command."""
import hashlib
import shlex
import sys
from pathlib import Path

from common.plain_values import storable

SOURCE_KEYS = ("checkpoint", "checkpoint_sha256", "refinement", "refinement_sha256", "command", "dataset", "subject",
               "action", "camera", "video", "smoothing")


def make_source(checkpoint=None, refinement=None, **known):
    """What is known of where poses come from, {key of SOURCE_KEYS: text}.

    checkpoint, refinement: paths of the network's weights, and of those that refine what it predicts where they lie in
    a file of their own; their hashes are taken.
    """
    source = {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}
    for name, path in (("checkpoint", checkpoint), ("refinement", refinement)):
        if path is not None:
            source |= {name: str(path), f"{name}_sha256": _sha256(path)}
    source |= {name: value for name, value in known.items() if value is not None}
    unknown = set(source) - set(SOURCE_KEYS)
    if unknown:
        raise ValueError(f"a source has no {', '.join(sorted(unknown))}")
    return {name: storable(value) for name, value in source.items()}


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
