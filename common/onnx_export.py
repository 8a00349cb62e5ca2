"""A network as an ONNX file, checked against the network itself before the file takes its name.

What is exported is an `Exportable`: `common.onnx_lifting` makes them of GLA-GCN, `common.onnx_contextpose` of
ContextPose.
"""
import contextlib
import inspect
import io
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.utils import SuiteError, atomic_path, require

FORMAT, VERSION = "3d-human-pose-onnx", 1
OPSETS = {"torchscript": 17, "dynamo": 18}  # by exporter; what each of them writes best
# Largest differences: 0.1 mm, of people who are a metre long, and more in proportion where the numbers of random input
# are larger than a person's; of what has no unit, relative to its largest number.
SIZES, RELATIVE = {"m": 1, "mm": 1000, "": 0}, 1e-4  # of a person in each unit
INSTALL = "onnx onnxruntime"


@dataclass
class Exportable:
    """A network to export, and all that its file tells and is checked with.

    module: takes the inputs in order and returns a tuple of the outputs, in operations that can be recorded; inputs,
    outputs: {name: names of the dimensions that may have any size, None for the others}; units: {output: key of
    SIZES}; cases: [(what it is, inputs)] to compare with, of which the first is recorded: several of everything;
    reference(*inputs): the outputs as the suite itself predicts them; metadata: {name: text, number, list or None}.
    """

    module: nn.Module
    inputs: dict
    outputs: dict
    units: dict
    cases: list
    reference: Callable
    metadata: dict


def check_installed(exporter):
    """Raise DependencyError, with the pip line, where a library is missing that the export needs."""
    require("onnx", INSTALL)
    require("onnxruntime", INSTALL)
    if exporter == "dynamo":
        require("onnxscript", "onnxscript")


def write_onnx(path, exportable, opset=None, exporter="torchscript", say=print):
    """Export to `path` and say how large the differences to the network are.

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
    say(f"{path}: {size / 1e6:.1f} MB, opset {opset}, written")


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
        options = {"dynamic_axes": {name: {i: label for i, label in enumerate(labels) if label}
                                    for name, labels in axes.items()}}
        if "dynamo" in inspect.signature(torch.onnx.export).parameters:  # since torch 2.5
            options["dynamo"] = False
    try:
        with _silence(), torch.no_grad():
            torch.onnx.export(exportable.module.eval(), example, str(path), **names, **options)
    except Exception as error:  # exporters raise about anything
        other = next(name for name in OPSETS if name != exporter)
        raise SuiteError(f"not exported: torch {torch.__version__}'s {exporter} exporter does not take it "
                         f"({_first_line(error)}); try --exporter {other}") from error


@contextlib.contextmanager
def _silence():
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), \
                contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
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
    with torch.no_grad():
        shapes = [tensor.shape for tensor in (*inputs, *exportable.reference(*inputs))]
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
        with torch.no_grad():
            expected = exportable.reference(*inputs)
        try:
            found = session.run(list(exportable.outputs), {name: tensor.numpy() for name, tensor in
                                                           zip(exportable.inputs, inputs, strict=True)})
        except Exception as error:  # of onnxruntime's own
            raise SuiteError(f"{path}: not written: onnxruntime fails on {about} ({_first_line(error)})") from None
        differences = []
        for (name, unit), tensor, array in zip(exportable.units.items(), expected, found, strict=True):
            difference, limit = _difference(tensor.numpy(), array, unit)
            if not difference <= limit:
                raise SuiteError(f"{path}: not written: on {about}, its {name} differs from the network's by "
                                 f"{difference:.2g} {unit}, more than {limit:.2g}; choose another --exporter or "
                                 "--opset")
            differences.append(f"{name} {difference:.1e} {unit}".rstrip())
        lines.append(f"largest difference to torch on {about}: {', '.join(differences)}")
    return lines


def _difference(expected, found, unit):
    """(largest difference, the largest that is taken as rounding)."""
    if expected.shape != found.shape:
        return np.inf, 0
    return np.abs(expected - found).max(), RELATIVE * max(SIZES[unit], np.abs(expected).max())
