"""A network as an ONNX file, checked against the network itself before the file takes its name.

What is exported is an `Exportable`: `common.onnx_lifting` makes them of GLA-GCN, `common.onnx_contextpose` of
ContextPose.
"""
import contextlib
import copy
import functools
import io
import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.utils import SuiteError, UsageError, atomic_path, require

FORMAT, VERSION = "3d-human-pose-onnx", 1
OPSETS = {"torchscript": 17, "dynamo": 18}  # by exporter; the oldest that it writes
LARGEST = {"m": 1e-4, "mm": 0.1, "": 1e-4}  # difference by unit; of what has none, relative to its largest number
ROUNDING = 10  # how much further from float64 than torch's float32 a file may be where both round more than that
DRAWS = 5  # of that rounding, of every window: its largest is a matter of chance
INSTALL = "onnx onnxruntime"


@dataclass
class Exportable:
    """A network to export, and all that its file tells and is checked with.

    module: takes the inputs in order and returns a tuple of the outputs, in operations that can be recorded; inputs,
    outputs: {name: names of the dimensions that may have any size, None for the others}; units: {output: key of
    LARGEST}; cases: [(what it is, inputs)] to compare with, of which the first is recorded: several of everything;
    network: predicts the outputs as the suite itself does; metadata: {name: text, number, list or None}.
    """

    module: nn.Module
    inputs: dict
    outputs: dict
    units: dict
    cases: list
    network: nn.Module
    metadata: dict

    def expected(self, inputs, dtype=torch.float32):
        """The outputs of the network, a tuple, computed in `dtype`."""
        network = self.network if dtype == torch.float32 else copy.deepcopy(self.network).to(dtype)
        with torch.no_grad():
            predicted = network(*(tensor.to(dtype) for tensor in inputs))
        return predicted if isinstance(predicted, tuple) else (predicted,)

    @functools.cached_property
    def rounding(self):
        """How far the network in float32 is at most from what it is in float64, for every output.

        A network that makes much of small differences rounds one window a hundred times as far as the next, and others
        when they differ in the last digit: all cases count, with inputs moved so far.
        """
        found = []
        for _, inputs in self.cases:
            exact = self.expected(inputs, torch.float64)
            for _ in range(DRAWS):
                moved = [tensor * (1 + torch.finfo(tensor.dtype).eps * torch.randn_like(tensor)) for tensor in inputs]
                found.append([_distance(*pair) for pair in zip(exact, self.expected(moved), strict=True)])
        return np.max(found, axis=0)


def choose_exporter(given=None, opset=None):
    """Which of torch's exporters to take, a key of OPSETS: the given one, or torchscript where this torch has it.

    Raises DependencyError, with the pip line, where a library is missing, UsageError for an opset that is too old.
    """
    require("onnx", INSTALL)
    require("onnxruntime", INSTALL)
    exporter = given or ("torchscript" if _has_torchscript() else "dynamo")
    if opset is not None and opset < OPSETS[exporter]:
        only = "" if given or exporter == "torchscript" else f", the only one of torch {torch.__version__}"
        raise UsageError(f"--opset {opset}: give {OPSETS[exporter]} or more with --exporter {exporter}{only}")
    if exporter == "dynamo":
        require("onnxscript", "onnxscript")
    return exporter


def _has_torchscript():
    """Whether torch exports by TorchScript: tried, for nobody knows in what way a later one drops it."""
    nothing = Exportable(nn.Identity(), {"x": ("n",)}, {"y": ("n",)}, {}, [("", (torch.zeros(2),))], None, {})
    try:
        _export(os.devnull, nothing, OPSETS["torchscript"], "torchscript")
    except SuiteError:
        return False
    return True


def write_onnx(path, exportable, exporter, opset=None, say=print):
    """Export to `path` by a key of OPSETS, and say how large the differences to the network are.

    Nothing is written where the file is no valid ONNX or computes something else. Raises SuiteError then.
    """
    import onnx

    path, opset = Path(path), opset or OPSETS[exporter]
    with atomic_path(path) as temporary:
        _export(temporary, exportable, opset, exporter)
        model = onnx.load(temporary)
        _finish(model, exportable, exporter)
        onnx.save(model, temporary)
        written = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if written != opset:
            raise SuiteError(f"{path}: not written: torch {torch.__version__} makes opset {written} of it, not "
                             f"{opset}; choose --opset {written}")
        ir_version = model.ir_version
        del model
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except Exception as error:  # of onnx's own
            raise SuiteError(f"{path}: not written: no valid ONNX ({_first_line(error)}); choose another --exporter or "
                             "--opset") from None
        lines = _compare(path, temporary, exportable)
        size = temporary.stat().st_size
    for line in lines:
        say(line)
    say(f"{path}: {size / 1e6:.1f} MB, opset {opset}, IR version {ir_version}, written")


def _export(path, exportable, opset, exporter):
    """Record the module and write it; what the exporters print on the way goes nowhere."""
    example = tuple(exportable.cases[0][1])
    names = {"input_names": list(exportable.inputs), "output_names": list(exportable.outputs), "opset_version": opset}
    if exporter == "dynamo":
        sizes = {name: torch.export.Dim(name) for axes in exportable.inputs.values() for name in axes if name}
        shapes = tuple({i: sizes[name] for i, name in enumerate(axes) if name} for axes in exportable.inputs.values())
        options = {"dynamo": True, "external_data": False, "dynamic_shapes": shapes}
    else:
        axes = {**exportable.inputs, **exportable.outputs}
        options = {"dynamo": False, "dynamic_axes": {name: {i: label for i, label in enumerate(labels) if label}
                                                     for name, labels in axes.items()}}
    try:
        with _silence(), torch.no_grad():
            torch.onnx.export(exportable.module.eval(), example, str(path), **names, **options)
    except OSError:
        raise  # a full disk is no fault of the network
    except Exception as error:  # exporters raise about anything
        other = next(name for name in OPSETS if name != exporter)
        raise SuiteError(f"not exported: torch {torch.__version__}'s {exporter} exporter does not take it "
                         f"({_first_line(error)}); try --exporter {other}") from error


@contextlib.contextmanager
def _silence():
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    kept = os.dup(1)  # torch's C++ code writes there, past sys.stdout, whole graphs when it fails
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), \
                contextlib.redirect_stderr(io.StringIO()), open(os.devnull, "w") as nowhere:
            warnings.simplefilter("ignore")
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        logging.disable(before)


def _first_line(error):
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:200]


def _finish(model, exportable, exporter):
    """Name the free dimensions, tell the others, put in the metadata, and take out notes on the source code."""
    for node in model.graph.node:
        for note in ("doc_string", "metadata_props"):
            if note in node.DESCRIPTOR.fields_by_name:
                node.ClearField(note)
    inputs = exportable.cases[0][1]
    shapes = [tensor.shape for tensor in (*inputs, *exportable.expected(inputs))]
    for value, shape in zip([*model.graph.input, *model.graph.output], shapes, strict=True):
        if "metadata_props" in value.DESCRIPTOR.fields_by_name:
            value.ClearField("metadata_props")
        labels = {**exportable.inputs, **exportable.outputs}[value.name]
        for dimension, label, size in zip(value.type.tensor_type.shape.dim, labels, shape, strict=True):
            if label:
                dimension.dim_param = label
            else:
                dimension.dim_value = size
    del model.metadata_props[:]
    told = {"format": FORMAT, "version": VERSION, "exported_by": f"torch {torch.__version__}, {exporter}",
            **exportable.metadata}
    for name, value in told.items():
        model.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))


def _compare(path, temporary, exportable):
    """One line for each case with the largest differences. Raises SuiteError where one is too large."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says of a failure is in the exception as well
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(temporary), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own
        raise SuiteError(f"{path}: not written: onnxruntime {onnxruntime.__version__} does not take it "
                         f"({_first_line(error)})") from None
    lines = [f"{kind} {value.name}: ({', '.join(map(str, value.shape))})"
             for kind, values in (("input", session.get_inputs()), ("output", session.get_outputs()))
             for value in values]
    for about, inputs in exportable.cases:
        try:
            found = session.run(list(exportable.outputs), {name: tensor.numpy() for name, tensor in
                                                           zip(exportable.inputs, inputs, strict=True)})
        except Exception as error:  # of onnxruntime's own
            raise SuiteError(f"{path}: not written: onnxruntime fails on {about} ({_first_line(error)})") from None
        try:
            lines.append(f"largest difference to torch on {about}: {_differences(exportable, inputs, found)}")
        except ValueError as error:
            raise SuiteError(f"{path}: not written: on {about}, {error}; choose another --exporter or "
                             "--opset") from None
    return lines


def _differences(exportable, inputs, found):
    """The largest differences of the outputs, as text. Raises ValueError where one is more than rounding.

    Where a network makes much of small differences, as steep softmaxes do, float32 does not determine its result to
    `LARGEST`: a file is right then if it is about as far from what float64 gives as torch's own float32 is.
    """
    expected, texts = exportable.expected(inputs), []
    for i, (name, unit) in enumerate(exportable.units.items()):
        difference = _distance(expected[i], found[i])
        limit = LARGEST[unit] * (1 if unit else float(expected[i].abs().max()))
        text = f"{name} {difference:.1e} {unit}".rstrip()
        if not difference <= limit:
            error, rounding = _distance(exportable.expected(inputs, torch.float64)[i], found[i]), exportable.rounding[i]
            text += f" (to float64 {error:.1e}, torch's own float32 {rounding:.1e})"
            if not error <= max(limit, ROUNDING * rounding):
                raise ValueError(f"its {name} differs from the network's by {text}, more than {limit:.1e} and than "
                                 "rounding explains")
        texts.append(text)
    return ", ".join(texts)


def _distance(expected, found):
    if tuple(expected.shape) != tuple(found.shape):
        return np.inf
    return float(np.abs(np.asarray(expected) - np.asarray(found)).max())
