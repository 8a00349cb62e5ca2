"""GLA-GCN: a window of 2D joints -> the 3D pose of its centre frame (or its last, when causal).

    model = S_AGCN(17, 2, 17, [3, 3, 3, 3, 3])
    pose = model(detections)     # (B, 243, 17, 2) -> (B, 1, 17, 3)

Source: Yu et al., "GLA-GCN: Global-local Adaptive Graph Convolutional Network for 3D Human Pose Estimation from
Monocular Video", ICCV 2023.
"""
import math

import torch
from torch import nn

from common.agcn import IndividuallyConnected, Unit
from common.agcn_inference import predict
from common.agcn_training import Workspaces, train_forward
from common.cpu import arithmetic_dtype, is_traced
from common.graph import LAYOUT_OF, adjacency, num_joints
from common.keypoints import LAYOUT_MAPS, LAYOUTS, layout_matrix


class S_AGCN(nn.Module):  # noqa: N801 - the name users know
    """The network of GLA-GCN.

    num_joints_in, in_features: joints and coordinates of the input; num_joints_out: joints of the pose, those of the
    dataset's graph; filter_widths: odd factors of the receptive field; causal: the pose is that of the last frame, not
    of the centre; dropout: probability after every graph convolution and unit; channels: width of every layer;
    dataset: the graph, one of common.graph.GRAPHS. input_layout: the joints of the input by their name in
    common.keypoints.LAYOUTS where they are not those of the graph; the network maps them by LAYOUT_MAPS, which adds
    nothing to its weights. Without it the number of joints tells: 17 on `humaneva15_he13` are COCO's.

    pose_sequence: the full model of the paper, which also reconstructs the pose of every frame as an intermediate
    result and has a last layer of its own for every joint.
    """

    def __init__(self, num_joints_in, in_features, num_joints_out, filter_widths, causal=False, dropout=0.1,
                 channels=96, dataset="h36m", *, pose_sequence=False, input_layout=None):
        super().__init__()
        self.filter_widths = [int(width) for width in filter_widths]
        self.num_joints_in, self.in_features, self.num_joints_out = num_joints_in, in_features, num_joints_out
        self.dataset, self.causal, self.pose_sequence = dataset, causal, pose_sequence
        input_layout = _input_layout(dataset, num_joints_in, num_joints_out, input_layout)
        _check_widths(self.filter_widths)

        graph = adjacency(dataset)
        self.data_bn = nn.BatchNorm1d(num_joints_out * in_features)
        if dataset == "humaneva15_he13":  # its weights were trained without; the layer stays in the state dict
            self.data_bn.requires_grad_(False)
        self.expand_gcn = Unit(in_features, channels, graph, dropout, causal=causal)
        self.layers_tcngcn = nn.ModuleList()
        for width in self.filter_widths:
            self.layers_tcngcn.append(Unit(channels, channels, graph, dropout, causal=causal))
            self.layers_tcngcn.append(Unit(channels, channels, graph, dropout, width, residual=False, causal=causal))
        self.drop = nn.Dropout(dropout)
        if pose_sequence:
            self.sequence_fc = IndividuallyConnected(channels, num_joints_out)
            self.target_fc = IndividuallyConnected(channels, num_joints_out)
        else:
            self.fc = nn.Conv1d(channels, 3, 1)  # keeps torch's own initialisation, as the released weights did
        self.input_layout = input_layout  # None: the joints of the graph
        groups = LAYOUT_MAPS.get((input_layout, LAYOUT_OF[dataset]))
        joint_map = None if groups is None else torch.from_numpy(layout_matrix(groups, num_joints_in))
        self.register_buffer("joint_map", joint_map, persistent=False)
        self.workspaces = Workspaces()
        self.fast = True  # on a CPU; False where gradients of gradients are wanted

    def receptive_field(self):
        """Number of frames of a window."""
        return math.prod(self.filter_widths)

    def set_bn_momentum(self, momentum):
        """Set the momentum of `data_bn` and of the batch norms of every gcn1 and tcn1, as the released training does.

        The batch norms of `down` and `residual` keep theirs.
        """
        units = [self.expand_gcn, *self.layers_tcngcn]
        for bn in [self.data_bn] + [part.bn for unit in units for part in (unit.gcn1, unit.tcn1)]:
            bn.momentum = momentum

    def forward(self, x):
        """(B, T, J, 2) -> pose (B, 1, J_out, 3); with `pose_sequence` -> (pose, poses of all frames (B, T, J_out, 3)).

        T is the receptive field. Raises ValueError for any other shape.
        """
        self._check_input(x)
        if not self._is_ordinary(x):
            return self._composed(x)
        dtype = arithmetic_dtype(x)
        with torch.autocast("cpu", enabled=False):
            if not self.training:
                return predict(self, x, dtype)
            x, features = train_forward(self, self.normalised(x), dtype)
            parameter = self.data_bn.weight.dtype
            return self.head(x.to(parameter), None if features is None else features.to(parameter))

    def _check_input(self, x):
        expected = (self.receptive_field(), self.num_joints_in, self.in_features)
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            raise ValueError(f"expected input of shape (batch, {', '.join(map(str, expected))}) "
                             f"(batch, frames, joints, coordinates), got {tuple(x.shape)}")

    def _is_ordinary(self, x):
        """Whether this is plain prediction or training on a CPU, for which there are faster ways to the same result."""
        if is_traced() or not self.fast or x.device.type != "cpu" or x.requires_grad or not len(x):
            return False
        return self.training == torch.is_grad_enabled() and not any(
            module.training != self.training or module._forward_hooks or module._forward_pre_hooks
            or module._backward_hooks or module._backward_pre_hooks for module in self.modules() if module is not self)

    def train(self, mode=True):
        """Training mode on or off. What training steps keep in memory goes when it is off."""
        if not mode:
            self.workspaces.clear()
        return super().train(mode)

    def _composed(self, x):
        """The forward pass in ordinary differentiable operations: any device, any transform, export."""
        x = features = self.expand_gcn(self.normalised(x))
        for i, width in enumerate(self.filter_widths):
            skip = x[..., self.residual_frame(width)::width]
            x = self.drop(self.layers_tcngcn[2 * i](x))
            x = skip + self.drop(self.layers_tcngcn[2 * i + 1](x))
        return self.head(x, features)

    def normalised(self, x):
        """Input (B, T, J_in, 2) -> (B, 2, J, T), mapped to the joints of the graph and batch-normalised."""
        if self.joint_map is not None:
            x = self.joint_map @ x
        if self.dataset != "humaneva15_he13":
            b, t, j, f = x.shape
            x = self.data_bn(x.reshape(b, t, j * f).transpose(1, 2)).reshape(b, j, f, t)
            return x.transpose(1, 2)
        return x.permute(0, 3, 2, 1)

    def residual_frame(self, width):
        """Which frame of each group of `width` goes past the units: the centre, or the last when causal."""
        return width - 1 if self.causal else width // 2

    def target_frame(self):
        """Which frame of a window the pose is of."""
        return self.residual_frame(self.receptive_field())

    def head(self, x, features):
        """Final features (B, C, J, 1) and those of all frames (B, C, J, T) -> what `forward` returns."""
        return (self.target(x), self.sequence_fc(features)) if self.pose_sequence else self.target(x)

    def target(self, x):
        """Final features (B, C, J, 1) -> pose (B, 1, J, 3)."""
        return self.target_fc(x) if self.pose_sequence else self.fc(x.mean(dim=3)).transpose(1, 2).unsqueeze(1)


def _input_layout(dataset, joints_in, joints_out, name):
    """The layout that the network has to map to the joints of its graph, or None where it takes the graph's own."""
    joints, own = num_joints(dataset), LAYOUT_OF[dataset]
    if joints_out != joints:
        raise ValueError(f"the graph of {dataset!r} has {joints} joints, so num_joints_out is {joints}, "
                         f"not {joints_out}")
    mapped = [source for source, target in LAYOUT_MAPS if target == own]
    if name is None and joints_in != joints and (dataset, joints_in) != ("humaneva15", 17):
        # Not COCO's 17 on `humaneva15`: the released weights for them are of the other graph, and would fit here too.
        name = next((source for source in mapped if LAYOUTS[source].num_joints() == joints_in), None)
    if joints_in == joints and name in (None, own):
        return None
    accepted = " or ".join([f"{joints} joints" + (f" ({own})" if own else "")] +
                           [f"{LAYOUTS[source].num_joints()} ({source})" for source in mapped])
    if name not in mapped or LAYOUTS[name].num_joints() != joints_in:
        raise ValueError(f"no map from {joints_in} input joints{f' ({name})' if name else ''} to the graph of "
                         f"{dataset!r}: it takes {accepted}")
    return name


def _check_widths(widths):
    wrong = [width for width in widths if width < 1 or width % 2 == 0]
    if wrong or not widths:
        raise ValueError(f"filter widths must be odd numbers such as 3,3,3: got {widths}")
