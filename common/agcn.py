"""The parts of GLA-GCN: adaptive graph convolution, temporal convolution, and the unit made of both.

Features are (N, C, V, T) here: N windows, C channels, V joints, T frames. Joints come before frames, and in memory
(channels last) a joint's frames lie in one row of T * C numbers: multiplying by a graph is then one matrix product for
all three subsets, and the convolutions run at the speed of the hardware.

Names and shapes of the parameters are those of the released weights.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

SUBSETS = 3  # identity, inward, outward
TEMPORAL_KERNEL = 9


class AdaptiveGraphConvolution(nn.Module):
    """Features exchanged along a fixed graph A, a learnt one PA and one computed from the features themselves.

    (N, C_in, V, T) -> (N, C_out, V, T). Source: 2s-AGCN (Shi et al., CVPR 2019) as GLA-GCN uses it.
    """

    def __init__(self, in_channels, out_channels, graph, dropout=0.1):
        super().__init__()
        embedding = out_channels // 4 or 3
        self.PA = nn.Parameter(torch.full(graph.shape, 1e-6))
        self.conv_a = nn.ModuleList(nn.Conv2d(in_channels, embedding, 1) for _ in range(SUBSETS))
        self.conv_b = nn.ModuleList(nn.Conv2d(in_channels, embedding, 1) for _ in range(SUBSETS))
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(SUBSETS))
        self.down = None
        if in_channels != out_channels:
            self.down = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        self.bn = nn.BatchNorm2d(out_channels)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("A", torch.as_tensor(graph, dtype=self.PA.dtype), persistent=False)
        self._initialise()

    def _initialise(self):
        for convolution in [*self.conv_a, *self.conv_b] + ([self.down[0]] if self.down else []):
            initialise_convolution(convolution)
        for convolution in self.conv_d:
            fan = convolution.out_channels * convolution.in_channels * SUBSETS
            nn.init.normal_(convolution.weight, 0, math.sqrt(2 / fan))
            nn.init.zeros_(convolution.bias)
        nn.init.constant_(self.bn.weight, 1e-6)

    def attention_weights(self):
        """Weight (6E, C_in, 1, 1) and bias (6E) that embed the features: a_0, a_1, a_2, b_0, b_1, b_2."""
        embeddings = [*self.conv_a, *self.conv_b]
        return torch.cat([conv.weight for conv in embeddings]), torch.cat([conv.bias for conv in embeddings])

    def feature_weights(self):
        """Weight (C_out, C_in, 3, 1) and bias (C_out) of the three conv_d as one convolution over the subsets."""
        weight = torch.cat([conv.weight for conv in self.conv_d], dim=2)
        return weight, self.conv_d[0].bias + self.conv_d[1].bias + self.conv_d[2].bias

    def forward(self, x):
        v = x.shape[2]
        graphs = similarity(F.conv2d(x, *self.attention_weights())) + self.A + self.PA
        # The rows of joint j in the three subsets are V rows apart: a dilated convolution adds them up.
        y = F.conv2d(exchange(x, graphs), *self.feature_weights(), dilation=(v, 1))
        skip = x if self.down is None else self.down(x)
        return F.relu(self.drop(self.bn(y)) + skip)


class TemporalConvolution(nn.Module):
    """Convolution over the frames of each joint, and batch norm: (N, C_in, V, T) -> (N, C_out, V, T / stride).

    Causal: the output of each group of `stride` frames sees the last frame of its group and what lies before it.
    """

    def __init__(self, in_channels, out_channels, kernel=TEMPORAL_KERNEL, stride=1, causal=False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, (kernel, 1), stride=(stride, 1), padding=(kernel // 2, 0))
        self.bn = nn.BatchNorm2d(out_channels)
        self.frames_before = kernel - stride if causal else kernel // 2
        self.frames_after = 0 if causal else kernel // 2
        initialise_convolution(self.conv)

    @property
    def stride(self):
        return self.conv.stride[0]

    def forward(self, x):
        x = F.pad(x, (self.frames_before, self.frames_after))
        return self.bn(F.conv2d(x, self.conv.weight.transpose(2, 3), self.conv.bias, stride=(1, self.stride)))


class Unit(nn.Module):
    """Graph convolution, temporal convolution, residual: (N, C_in, V, T) -> (N, C_out, V, T / stride)."""

    def __init__(self, in_channels, out_channels, graph, dropout=0.1, stride=1, residual=True, causal=False):
        super().__init__()
        self.gcn1 = AdaptiveGraphConvolution(in_channels, out_channels, graph, dropout)
        self.tcn1 = TemporalConvolution(out_channels, out_channels, stride=stride, causal=causal)
        self.residual = None
        self.adds_input = residual and in_channels == out_channels
        if residual and not self.adds_input:
            self.residual = TemporalConvolution(in_channels, out_channels, 1, stride, causal)

    def forward(self, x):
        y = self.tcn1(self.gcn1(x))
        if self.adds_input:
            y = y + x
        elif self.residual is not None:
            y = y + self.residual(x)
        return F.relu(y)


class IndividuallyConnected(nn.Module):
    """A 1x1 convolution C -> 3 of its own for every joint: (N, C, V, T) -> (N, T, V, 3)."""

    def __init__(self, channels, joints, out_features=3):
        super().__init__()
        bound = 1 / math.sqrt(channels)  # torch's own initialisation of a 1x1 convolution, as the shared `fc` has it
        self.weight = nn.Parameter(torch.empty(joints, channels, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(joints, 1, out_features).uniform_(-bound, bound))

    def forward(self, x):
        rows = x.permute(2, 0, 3, 1).flatten(1, 2)  # (V, N * T, C)
        y = torch.matmul(rows, self.weight.to(rows.dtype)) + self.bias
        return y.unflatten(1, (x.shape[0], x.shape[3])).permute(1, 2, 0, 3)


def embeddings(embedded, turned=True):
    """The factors of the similarity from (N, 6E, V, T): a (N, 3, V, T * E) and b (N, 3, T * E, V).

    Products of long rows with long rows are slow: b is made ready to be the right factor, or as a if not `turned`.
    """
    embedded = rows(embedded).unflatten(3, (2, SUBSETS, -1))  # (N, V, T, 2, 3, E)
    a, b = embedded.unbind(3)
    a = a.permute(0, 3, 1, 2, 4).flatten(3)
    if turned:
        return a, b.permute(0, 3, 2, 4, 1).flatten(2, 3)
    return a, b.permute(0, 3, 1, 2, 4).flatten(3)


def similarity(embedded):
    """How much every two joints of a window are alike: (N, 6E, V, T) -> (N, 3, V, V), columns sum to 1."""
    a, b = embeddings(embedded)
    dtype = torch.float32 if a.dtype == torch.bfloat16 else a.dtype
    return torch.softmax((a @ b).to(dtype) / a.shape[-1], dim=2)


def exchange(x, graphs, out=None):
    """x multiplied by each of K graphs on its joint axis: (N, C, V, T), (N, K, V, V) -> (N, C, K * V, T).

    out: memory (N, K * V, T * C) to put it in.
    """
    (n, c, v, t), k = x.shape, graphs.shape[1]
    y = torch.bmm(graphs.transpose(2, 3).reshape(n, k * v, v).to(x.dtype), rows(x).reshape(n, v, t * c), out=out)
    return y.reshape(n, k * v, t, c).permute(0, 3, 1, 2)


def rows(x):
    """(N, C, V, T) -> (N, V, T, C), contiguous; free where x is stored channels last."""
    return x.permute(0, 2, 3, 1).contiguous()


def initialise_convolution(convolution):
    """Kaiming normal over the outputs, bias 0."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
    nn.init.zeros_(convolution.bias)
