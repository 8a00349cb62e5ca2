"""GLA-GCN for export: which network a checkpoint is of, and its forward pass in few operations for any batch."""
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from common import checkpoint
from common.agcn import SUBSETS
from common.agcn_inference import fold_unit
from common.arguments import WIDTHS_3DHP
from common.camera import normalize_screen_coordinates
from common.export import CAMERA_AXES
from common.graph import GRAPHS, LAYOUT_OF
from common.h36m_dataset import h36m_cameras
from common.keypoints import LAYOUTS, MPI_INF_3DHP_17
from common.lifting import MOST_WIDTHS, network_of
from common.mpi3dhp import Mpi3dhpData, Mpi3dhpFiles
from common.onnx_export import Exportable
from common.refinement import RefinedLifter
from common.resampling import NETWORK_FPS
from common.s_agcn import S_AGCN
from common.source import make_source
from common.synthetic import make_motion, project_views
from common.synthetic_layouts import named_joints
from common.utils import CheckpointError, UsageError

BATCHES = (3, 1, 16)  # windows to compare with; the first are recorded
PADDING = ("edge: frames before the first are the first, those after the last are the last; the window of frame t "
           "begins at t - target_frame")
NORMALISATION = "x / w * 2 - [1, h / w], of pixels x = (right, down) in pictures of w by h pixels"
INTRINSICS = "fx, fy, cx, cy, and five zeros: focal lengths times 2 / w, the centre as the normalisation says"


# ---- which network


def load_lifter(path, args):
    """The network with the weights of a checkpoint, and the files read; what they do not tell, the arguments say.

    args: dataset, keypoints (a layout), architecture, frames, causal, refine; None where they say nothing. Raises
    CheckpointError, UsageError.
    """
    loaded = checkpoint.load(path)
    shapes = checkpoint.describe(checkpoint.model_state(loaded, path))
    said = checkpoint.said_architecture(loaded)
    if shapes is None or shapes["widths"] > MOST_WIDTHS:
        raise CheckpointError(f"{path}: is no GLA-GCN; of a ContextPose network, give its --config as well")
    dataset = args.dataset or said.get("dataset") or _dataset_of(path, shapes)
    if not isinstance(dataset, str) or dataset not in GRAPHS:
        raise CheckpointError(f"{path}: tells of an unknown dataset {str(dataset)[:40]!r}; get it again from its "
                              "author")
    joints = GRAPHS[dataset][0]
    if shapes["joints"] != joints:
        raise CheckpointError(f"{path}: is of {shapes['joints']} joints, and {dataset} has {joints}; choose another -d")
    layout = _layout_of(path, dataset, args.keypoints, said)
    if dataset == "mpi_inf_3dhp":
        return _load_3dhp(path, shapes, said, args)
    if args.refine or shapes["refined"]:
        raise UsageError(f"--refine: there is a refinement for mpi_inf_3dhp only, not for {dataset}")
    if args.frames:
        raise UsageError(f"--frames is for mpi_inf_3dhp; on {dataset} give the filter widths, -arc")
    return network_of(path, loaded, dataset, layout, args.architecture, args.causal), [path]


def _dataset_of(path, shapes):
    """The graph that the number of joints and the name tell."""
    if re.match(r"(no_)?refine_|3dhp_", Path(path).name) or shapes["refined"]:
        return "mpi_inf_3dhp"
    if shapes["joints"] == 15:
        raise UsageError(f"{path}: does not say which of the two graphs with 15 joints it is of: give -d humaneva15 "
                         "(of run_s-agcn.py) or -d humaneva15_he13 (of run_s-agcn_HE_13.py)")
    return {17: "h36m", 20: "humaneva20"}.get(shapes["joints"])


def _layout_of(path, dataset, given, said):
    """The name of the 2D joints that the network is to map, or None where it takes those of its graph."""
    own = LAYOUT_OF[dataset]
    name = given or said.get("input_layout")
    if name is None and dataset == "humaneva15_he13" and said.get("joints_in", 17) == 17:
        name = "coco"  # of the released weights
    if name is not None and not (isinstance(name, str) and name in LAYOUTS):
        raise CheckpointError(f"{path}: tells of unknown 2D joints {str(name)[:40]!r}; get it again from its author")
    if dataset == "mpi_inf_3dhp" and name:
        raise UsageError(f"-k {name}: the network of mpi_inf_3dhp takes the dataset's own 17 joints, and no map leads "
                         "to them")
    return None if name == own else name


def _load_3dhp(path, shapes, said, args):
    """The network of MPI-INF-3DHP, with its refinement in the same file or in the one beside it, and the files."""
    named = re.match(r"no_refine_\d+_(\d+)(_causal)?", Path(path).name)
    causal = args.causal if args.causal is not None else bool(said.get("causal", named and named[2]))
    fitting = {frames: widths for frames, widths in WIDTHS_3DHP.items() if len(widths) == shapes["widths"]}
    told = WIDTHS_3DHP.get(args.frames or int(named[1]) if named else args.frames)
    widths = args.architecture or (not args.frames and said.get("filter_widths")) or told
    if not widths and len(fitting) != 1:
        raise UsageError(f"{path}: does not say of how many frames it is: give --frames "
                         f"{' or '.join(map(str, fitting or WIDTHS_3DHP))}")
    widths = widths or next(iter(fitting.values()))
    refine = bool(args.refine or shapes["refined"])
    of_3dhp = {"dataset": "mpi_inf_3dhp", "causal": causal, "channels": shapes["channels"],
               "pose_sequence": shapes["pose_sequence"]}
    try:
        if refine:
            model = RefinedLifter(17, 2, 17, widths, **of_3dhp, root=Mpi3dhpData.root,
                                  mm_per_unit=Mpi3dhpData.mm_per_unit)
        else:
            model = S_AGCN(17, 2, 17, widths, **of_3dhp)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: builds no network ({error}); get it again from its author") from None
    files = Mpi3dhpFiles(SimpleNamespace(channels=shapes["channels"], frames=math.prod(widths), causal=causal,
                                         refine=refine, checkpoint=str(Path(path).parent), previous_dir=""))
    return model.eval(), files.load(model, Path(path))


# ---- its forward pass


class FoldedLifter(nn.Module):
    """S_AGCN, or RefinedLifter, in evaluation: batch norm in the convolutions, and features never laid out anew.

    Features are (N, C, V, T), as everywhere, but in memory too: what is fast in ONNX Runtime, which multiplies many
    small matrices well and turns large tensors over badly.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.units = [fold_unit(unit, torch.float32) for unit in [model.expand_gcn, *model.layers_tcngcn]]

    def forward(self, x, intrinsics=None):
        """What `model` returns, as a tuple: (B, T, J, 2) and, of a RefinedLifter, (B, 9)."""
        model, frames = self.model, self.model.receptive_field()
        y = features = _unit(self.units[0], model.normalised(x), frames)
        for i, width in enumerate(model.filter_widths):
            skip = y[..., model.residual_frame(width)::width]
            y = _unit(self.units[2 * i + 1], y, frames)
            y = skip + _unit(self.units[2 * i + 2], y, frames)
            frames //= width
        pose = model.target(y)
        outputs = (pose, model.sequence_fc(features)) if model.pose_sequence else (pose,)
        if intrinsics is None:
            return outputs
        return model.refinement(pose, x[:, model.target_frame()], intrinsics), *outputs


def _unit(unit, x, frames):
    """(N, C_in, V, T) -> (N, C_out, V, T / stride); frames: T."""
    channels, joints = unit.features.weight.shape[1], unit.graph.shape[-1]
    size = len(unit.attention.weight) // 2 // SUBSETS
    embedded = _convolve(x, unit.attention).reshape(-1, 2, SUBSETS, size, joints, frames)
    products = (embedded[:, 0] @ embedded[:, 1].transpose(-1, -2)).sum(2)  # (N, 3, V, V)
    graphs = torch.softmax(products / (size * frames), dim=2)
    if not unit.adds_input:
        graphs = F.pad(graphs, (0, 0, 0, 0, 0, 1))  # a fourth subset, whose graph comes from `unit.graph` alone
    graphs = (graphs + unit.graph).transpose(2, 3).reshape(-1, 1, unit.graph.shape[1] * joints, joints)
    exchanged = (graphs @ x).reshape(-1, channels * unit.graph.shape[1], joints, frames)
    h = F.conv2d(exchanged, unit.features.weight.reshape(len(unit.features.weight), -1, 1, 1), unit.features.bias)
    y = _convolve(F.relu(h + x if unit.adds_input else h), unit.temporal)
    if unit.residual is not None:
        y = y + (x if unit.residual is True else _convolve(x, unit.residual))
    return F.relu(y)


def _convolve(x, convolution):
    before, after = convolution.before, convolution.after
    if before != after:
        x, before = F.pad(x, (before, after)), 0
    return F.conv2d(x, convolution.weight.contiguous(), convolution.bias, (1, convolution.stride), (0, before))


# ---- what its file tells


def exportable(model, files):
    """The `Exportable` of a network with the weights in files, of the lifter and perhaps of its refinement."""
    refined = isinstance(model, RefinedLifter)
    units = "mm" if model.dataset == "mpi_inf_3dhp" else "m"
    outputs = {"pose_3d": ("batch", None, None, None)}
    if refined:
        outputs["pose_unrefined_3d"] = ("batch", None, None, None)
    if model.pose_sequence:
        outputs["pose_sequence_3d"] = ("batch", None, None, None)
    inputs = {"keypoints_2d": ("batch", None, None, None)} | ({"intrinsics": ("batch", None)} if refined else {})
    return Exportable(FoldedLifter(model), inputs, outputs, dict.fromkeys(outputs, units), _cases(model, refined),
                      model, _metadata(model, files, units, refined))


def skeletons(model):
    """(skeleton of the 2D joints that a network takes, that of its poses)."""
    own = LAYOUTS.get(LAYOUT_OF[model.dataset], MPI_INF_3DHP_17)
    return LAYOUTS.get(model.input_layout, own), own


def _metadata(model, files, units, refined):
    taken, given = skeletons(model)
    source = make_source(*files)
    return {
        "network": "GLA-GCN", "dataset": model.dataset, "units": units, "axes": CAMERA_AXES,
        "root": given.names()[given.root()], "joint_names": given.names(), "parents": given.parents(),
        "joints_left": given.joints_left(), "joints_right": given.joints_right(), "joint_names_2d": taken.names(),
        "parents_2d": taken.parents(), "joints_left_2d": taken.joints_left(), "joints_right_2d": taken.joints_right(),
        "window": model.receptive_field(), "target_frame": model.target_frame(),
        "pose_of": "the window's last frame" if model.causal else "the window's centre frame", "causal": model.causal,
        "frames_per_second": NETWORK_FPS if model.dataset == "h36m" else None, "padding": PADDING,
        "normalisation": NORMALISATION, **({"intrinsics": INTRINSICS} if refined else {}),
        **{role: Path(file).name for role, file in zip(("checkpoint", "refinement"), files, strict=False)},
        **{name: value for name, value in source.items() if name.endswith("_sha256")},
    }


def _cases(model, refined):
    frames, joints = model.receptive_field(), model.num_joints_in
    cases = [(f"random input, batch {batch}", (torch.randn(batch, frames, joints, 2),)) for batch in BATCHES]
    cases.append((f"demo people, batch {max(BATCHES)}", (_demo_windows(model, max(BATCHES)),)))
    if refined:
        camera = torch.tensor([2.3, 2.3, 0, 0, 0, 0, 0, 0, 0])  # of a normal lens
        cases = [(about, (*inputs, camera.expand(len(inputs[0]), 9))) for about, inputs in cases]
    return cases


def _demo_windows(model, count):
    """Windows (count, T, J, 2) of a demo person who walks, seen by a camera of Human3.6M."""
    frames, camera = model.receptive_field(), h36m_cameras("S9")[0]
    positions = named_joints(make_motion("S9", "Walking", frames + count - 1), skeletons(model)[0].names())
    pixels = project_views(positions, [camera])[0]
    screen = normalize_screen_coordinates(pixels, camera["res_w"], camera["res_h"]).astype(np.float32)
    return torch.from_numpy(np.stack([screen[start:start + frames] for start in range(count)]))
