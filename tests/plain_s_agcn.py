"""GLA-GCN written for reading: every equation of the paper as one plain line, in the (N, C, T, V) layout.

It shares no code with `common/s_agcn.py` but the state-dict names and the adjacency matrices, so one can load the
weights of the other. Tests take it as the truth, `benchmark.py` as the plain side.
"""
import torch
import torch.nn.functional as F
from torch import nn

from common.graph import adjacency
from common.keypoints import HUMANEVA_15_FROM_COCO_17


class PlainGraphConvolution(nn.Module):
    """Adaptive graph convolution: (N, C, T, V) -> (N, C_out, T, V)."""

    def __init__(self, in_channels, out_channels, graph, dropout):
        super().__init__()
        self.embedding = out_channels // 4 or 3
        self.register_buffer("A", torch.as_tensor(graph, dtype=torch.float32), persistent=False)
        self.PA = nn.Parameter(torch.full(self.A.shape, 1e-6))
        self.conv_a = nn.ModuleList(nn.Conv2d(in_channels, self.embedding, 1) for _ in range(3))
        self.conv_b = nn.ModuleList(nn.Conv2d(in_channels, self.embedding, 1) for _ in range(3))
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(3))
        self.down = None
        if in_channels != out_channels:
            self.down = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        self.bn = nn.BatchNorm2d(out_channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        n, c, t, v = x.shape
        y = 0
        for k in range(3):
            a = self.conv_a[k](x).permute(0, 3, 1, 2).reshape(n, v, self.embedding * t)
            b = self.conv_b[k](x).reshape(n, self.embedding * t, v)
            attention = torch.softmax(a @ b / (self.embedding * t), dim=-2)
            graph = attention + self.A[k] + self.PA[k]
            y = y + self.conv_d[k]((x.reshape(n, c * t, v) @ graph).reshape(n, c, t, v))
        skip = x if self.down is None else self.down(x)
        return F.relu(self.drop(self.bn(y)) + skip)


class PlainTemporalConvolution(nn.Module):
    """Convolution over time and batch norm: (N, C, T, V) -> (N, C_out, T / stride, V)."""

    def __init__(self, in_channels, out_channels, kernel, stride, causal):
        super().__init__()
        padding = 0 if causal else kernel // 2
        self.conv = nn.Conv2d(in_channels, out_channels, (kernel, 1), stride=(stride, 1), padding=(padding, 0))
        self.bn = nn.BatchNorm2d(out_channels)
        # Causal: the last tap lies on the last frame of each group of `stride`.
        self.frames_before = kernel - stride if causal else 0

    def forward(self, x):
        return self.bn(self.conv(F.pad(x, (0, 0, self.frames_before, 0)) if self.frames_before else x))


class PlainUnit(nn.Module):
    """Graph convolution, temporal convolution and a residual."""

    def __init__(self, in_channels, out_channels, graph, dropout, stride=1, residual=True, causal=False):
        super().__init__()
        self.gcn1 = PlainGraphConvolution(in_channels, out_channels, graph, dropout)
        self.tcn1 = PlainTemporalConvolution(out_channels, out_channels, 9, stride, causal)
        self.has_residual = residual
        self.residual = None
        if residual and in_channels != out_channels:
            self.residual = PlainTemporalConvolution(in_channels, out_channels, 1, stride, causal)

    def forward(self, x):
        y = self.tcn1(self.gcn1(x))
        if self.has_residual:
            y = y + (x if self.residual is None else self.residual(x))
        return F.relu(y)


class PlainIndividuallyConnected(nn.Module):
    """A 1x1 convolution C -> 3 for every joint: (N, C, T, V) -> (N, T, V, 3)."""

    def __init__(self, channels, joints):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(joints, channels, 3) / channels**0.5)
        self.bias = nn.Parameter(torch.zeros(joints, 1, 3))

    def forward(self, x):
        return torch.einsum("nctv,vco->ntvo", x, self.weight) + self.bias[:, 0]


class PlainS_AGCN(nn.Module):  # noqa: N801 - the name users know
    """The network: (N, T, V, 2) -> (N, 1, V, 3), or with `pose_sequence` -> that and (N, T, V, 3)."""

    def __init__(self, num_joints_in, in_features, num_joints_out, filter_widths, causal=False, dropout=0.1,
                 channels=96, dataset="h36m", *, pose_sequence=False):
        super().__init__()
        graph = adjacency(dataset)
        self.widths, self.causal, self.dataset = filter_widths, causal, dataset
        self.data_bn = nn.BatchNorm1d(num_joints_out * in_features)
        self.expand_gcn = PlainUnit(in_features, channels, graph, dropout, causal=causal)
        self.layers_tcngcn = nn.ModuleList()
        for width in filter_widths:
            self.layers_tcngcn.append(PlainUnit(channels, channels, graph, dropout, causal=causal))
            self.layers_tcngcn.append(PlainUnit(channels, channels, graph, dropout, width, False, causal))
        self.drop = nn.Dropout(dropout)
        self.pose_sequence = pose_sequence
        if pose_sequence:
            self.sequence_fc = PlainIndividuallyConnected(channels, num_joints_out)
            self.target_fc = PlainIndividuallyConnected(channels, num_joints_out)
        else:
            self.fc = nn.Conv1d(channels, 3, 1)

    def forward(self, x):
        if self.dataset == "humaneva15_he13" and x.shape[2] == 17:
            x = torch.stack([x[:, :, joints].mean(dim=2) for joints in HUMANEVA_15_FROM_COCO_17], dim=2)
        n, t, v, f = x.shape
        if self.dataset != "humaneva15_he13":
            x = self.data_bn(x.reshape(n, t, v * f).transpose(1, 2)).transpose(1, 2).reshape(n, t, v, f)
        x = features = self.expand_gcn(x.permute(0, 3, 1, 2))
        for i, width in enumerate(self.widths):
            skip = x[:, :, (width - 1 if self.causal else width // 2)::width]
            x = self.drop(self.layers_tcngcn[2 * i](x))
            x = skip + self.drop(self.layers_tcngcn[2 * i + 1](x))
        x = x.mean(dim=2, keepdim=True)
        if self.pose_sequence:
            return self.target_fc(x), self.sequence_fc(features)
        return self.fc(x[:, :, 0]).transpose(1, 2).unsqueeze(1)
