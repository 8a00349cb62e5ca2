"""GLA-GCN's forward pass for prediction on a CPU: the same numbers as the modules, about four times as fast.

Batch norm is folded into the convolutions, additions and ReLU happen inside them, and the batch is worked off in blocks
small enough for the allocator to use the same memory again: fresh memory costs a page fault for every 4 KiB, which is
where large batches spend most of their time otherwise.
"""
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from common.agcn import SUBSETS, exchange, similarity
from common.cpu import blocks, in_threads

GROUP_WINDOWS = 32  # bounds the memory; the short windows of the last layers still come many at a time


class Convolution(NamedTuple):
    """A convolution with all that follows it folded in."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int = 1
    before: int = 0  # frames padded on the left
    after: int = 0
    dilation: int = 1  # over joints


class FoldedUnit(NamedTuple):
    """The tensors of one `Unit`."""

    attention: Convolution
    graph: torch.Tensor  # (1, 3 or 4, V, V): what is added to the similarities
    features: Convolution
    adds_input: bool  # to the features: otherwise `down` is the fourth subset
    temporal: Convolution
    residual: object  # Convolution, True for the input itself, or None


def predict(model, x, dtype):
    """`model(x)` in eval mode without gradients; dtype is that of the arithmetic."""
    units = [fold_unit(unit, dtype) for unit in [model.expand_gcn, *model.layers_tcngcn]]
    x = model.normalised(x).to(dtype).contiguous(memory_format=torch.channels_last)
    part = min(GROUP_WINDOWS, -(-len(x) // torch.get_num_threads()))
    parts = x.split(max(1, part))
    sharers = min(len(parts), torch.get_num_threads())
    outputs = in_threads(lambda group: _predict_group(model, units, group, sharers), parts)
    if model.pose_sequence:
        return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))
    return torch.cat(outputs)


def _predict_group(model, units, x, sharers):
    sequences, parameter = [], model.data_bn.weight.dtype
    exchanged = x.new_empty(0)
    for i, width in enumerate(model.filter_widths):
        windows, _, joints, frames = x.shape
        channels = len(units[0].temporal.bias)
        level = blocks(windows, channels * joints * frames, sharers)
        # Memory for all blocks is taken at once: what is taken between those of the blocks keeps them apart.
        result = x.new_empty((windows, joints, frames // width, channels)).permute(0, 3, 1, 2)
        room = level[0].stop * (SUBSETS + 1) * joints * frames * max(channels, model.in_features)
        exchanged = exchanged if exchanged.numel() >= room else x.new_empty(room)
        for block in level:
            features = x[block]
            if i == 0:
                features = _unit(units[0], features, exchanged)
                if model.pose_sequence:
                    sequences.append(model.sequence_fc(features).to(parameter))
            y = _unit(units[2 * i + 2], _unit(units[2 * i + 1], features, exchanged), exchanged)
            torch.add(y, features[..., model.residual_frame(width)::width], out=result[block])
        x = result
    pose = model.target(x.to(parameter))
    return (pose, torch.cat(sequences)) if model.pose_sequence else pose


def _unit(unit, x, exchanged):
    n, c, v, t = x.shape
    graphs = similarity(_convolve(x, unit.attention, relu=False))
    if not unit.adds_input:
        graphs = F.pad(graphs, (0, 0, 0, 0, 0, 1))  # a fourth subset, whose graph comes from `unit.graph` alone
    shape = n, graphs.shape[1] * v, t * c
    x_exchanged = exchange(x, graphs + unit.graph, out=exchanged[:math.prod(shape)].view(shape))
    h = _convolve(x_exchanged, unit.features, x if unit.adds_input else None)
    skip = x if unit.residual is True else unit.residual and _convolve(x, unit.residual, relu=False)
    return _convolve(h, unit.temporal, skip)


def _convolve(x, convolution, skip=None, relu=True):
    """ReLU(convolution + skip), in one pass where oneDNN has it."""
    weight, bias, stride, before, after, dilation = convolution
    if before != after:
        x, before = F.pad(x, (before, after)), 0
    steps = [0, before], [1, stride], [dilation, 1]  # (joints, frames)
    fused = torch.ops.mkldnn._convolution_pointwise if _has_fused_convolution(x) else None
    if fused is None:
        y = F.conv2d(x, weight, bias, steps[1], steps[0], steps[2])
        y = y if skip is None else y.add_(skip)
        return y.relu_() if relu else y
    activation = "relu" if relu else None
    if skip is None:
        return fused(x, weight, bias, *steps, 1, activation or "none", [], "")
    return fused.binary(x, skip, weight, bias, *steps, 1, "add", 1.0, activation, [], "")


def _has_fused_convolution(x):
    return (x.dtype in (torch.float32, torch.bfloat16) and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_convolution_pointwise"))


def fold_unit(unit, dtype):
    """The folded tensors of a `Unit`, for arithmetic in `dtype`."""
    gcn = unit.gcn1
    weight, bias = _fold(*gcn.feature_weights(), gcn.bn)
    graph = gcn.A + gcn.PA
    if gcn.down is not None:
        down_weight, down_bias = _fold(gcn.down[0].weight, gcn.down[0].bias, gcn.down[1])
        weight, bias = torch.cat([weight, down_weight], dim=2), bias + down_bias
        graph = torch.cat([graph, gcn.A[:1]])  # the first graph of A is the identity
    residual = True if unit.adds_input else unit.residual and _fold_temporal(unit.residual, dtype)
    attention_weight, attention_bias = gcn.attention_weights()
    return FoldedUnit(Convolution(_laid_out(attention_weight, dtype), attention_bias.to(dtype)), graph.unsqueeze(0),
                      Convolution(_laid_out(weight, dtype), bias.to(dtype), dilation=graph.shape[1]),
                      gcn.down is None, _fold_temporal(unit.tcn1, dtype), residual)


def _fold_temporal(tcn, dtype):
    weight, bias = _fold(tcn.conv.weight.transpose(2, 3), tcn.conv.bias, tcn.bn)
    return Convolution(_laid_out(weight, dtype), bias.to(dtype), tcn.stride, tcn.frames_before, tcn.frames_after)


def _fold(weight, bias, bn):
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    return weight * scale[:, None, None, None], (bias - bn.running_mean) * scale + bn.bias


def _laid_out(weight, dtype):
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)
