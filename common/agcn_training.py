"""GLA-GCN's training step on a CPU: the gradients of the modules, several times as fast.

Every layer runs over the batch in blocks of moderate size, and keeps its results in memory that one step hands on to
the next: fresh memory costs a page fault for every 4 KiB, more than the arithmetic on it. A batch norm
needs the whole batch and is the only place where the blocks wait for each other. What is cheap to compute again (graph
products, masks of ReLU) is not kept. `unit_pass.py` has the units.
"""
from typing import NamedTuple

import numpy as np
import torch

from common.blockwise_bn import update_running
from common.unit_pass import UnitPass


class Weights(NamedTuple):
    """What a unit multiplies and adds: made of its parameters by ordinary operations, which autograd follows."""

    attention: torch.Tensor  # (6E, C_in, 1, 1)
    attention_bias: torch.Tensor
    graph: torch.Tensor  # (3, V, V), A + PA
    features: torch.Tensor  # (C, C_in, 3, 1)
    features_bias: torch.Tensor
    features_gain: torch.Tensor  # of its batch norm
    features_offset: torch.Tensor
    temporal: torch.Tensor  # (C, C, 1, 9)
    temporal_bias: torch.Tensor
    temporal_gain: torch.Tensor
    temporal_offset: torch.Tensor
    down: torch.Tensor = None  # (C, C_in, 1, 1), with its batch norm
    down_bias: torch.Tensor = None
    residual: torch.Tensor = None  # likewise
    residual_bias: torch.Tensor = None


def train_forward(model, x, dtype):
    """Normalised input (B, 2, V, T) -> what the head takes: final features (B, C, V, 1) and those of all frames.

    dtype is that of the arithmetic. Differentiable once. The features of all frames are None unless the model has a
    use for them.
    """
    units = [model.expand_gcn, *model.layers_tcngcn]
    weights = [_weights(unit, x) for unit in units]
    run = Run(model, units, weights, x.shape, dtype)
    return _Network.apply(run, x, *(tensor for part in weights for tensor in part))


def _weights(unit, x):
    gcn, tcn = unit.gcn1, unit.tcn1
    main = (*gcn.attention_weights(), gcn.A + gcn.PA, *gcn.feature_weights(), gcn.bn.weight, gcn.bn.bias,
            tcn.conv.weight.transpose(2, 3), tcn.conv.bias, tcn.bn.weight, tcn.bn.bias)
    down = residual = (None, None)
    if gcn.down is not None:
        down = _affine(gcn.down[0], gcn.down[1], x)
    if unit.residual is not None:
        residual = _affine(unit.residual.conv, unit.residual.bn, x)
    return Weights(*main, *down, *residual)


def _affine(conv, bn, x):
    """A 1x1 convolution and its batch norm as one convolution: the statistics follow from the covariance of x."""
    table = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    mean = table.mean(0)
    covariance = (table - mean).T @ (table - mean) / len(table)
    weight = conv.weight.flatten(1)
    y_mean = weight @ mean + conv.bias
    variance = ((weight @ covariance) * weight).sum(1)
    with torch.no_grad():
        update_running(bn, y_mean - bn.running_mean, variance, len(table))
    scale = bn.weight * torch.rsqrt(variance + bn.eps)
    return conv.weight * scale[:, None, None, None], (conv.bias - y_mean) * scale + bn.bias


class Workspaces:
    """Memory that training steps hand on to each other: one set, lent to one forward pass at a time."""

    def __init__(self):
        self._free = None

    def take(self):
        """The set of the last step, a dict of tensors by name; a new one where there is none to lend."""
        taken, self._free = self._free, None
        return {} if taken is None else taken

    def give_back(self, tensors):
        self._free = tensors

    def clear(self):
        self._free = None

    def __deepcopy__(self, memo):
        return Workspaces()

    def __reduce__(self):
        return Workspaces, ()


class Run:
    """One forward pass and its backward pass: the memory, the random numbers and the units."""

    def __init__(self, model, units, weights, shape, dtype):
        self.pool, self.tensors, self.dtype = model.workspaces, model.workspaces.take(), dtype
        self.keeps_features = model.pose_sequence
        # torch draws slowly on a CPU; one number of its generator makes the seed, so its state says all.
        self.random = np.random.SFC64(torch.randint(2**62, (1,)).item())
        self.units = []
        windows, _, _, frames = shape
        for i, (unit, part) in enumerate(zip(units, weights, strict=True)):
            part = Weights(*(tensor if tensor is None else tensor.detach() for tensor in part))
            self.units.append(UnitPass(self, unit, part, windows, frames, model.drop.p if i else 0.0))
            if i > 0 and i % 2 == 0:
                self.units[i].end_level(model.residual_frame(unit.tcn1.stride))
            frames //= unit.tcn1.stride

    def buffer(self, name, shape, dtype=None):
        """Uninitialised memory (N, C, V, T), stored channels last."""
        n, c, v, t = shape
        held, dtype = self.tensors.get(name), dtype or self.dtype
        if held is None or held.shape != (n, v, t, c) or held.dtype != dtype:
            held = self.tensors[name] = torch.empty((n, v, t, c), dtype=dtype)
        return held.permute(0, 3, 1, 2)

    def draw_mask(self, like, p):
        """For dropout: bytes shaped `like`, 1 with probability 1 - p, which is rounded to 1 / 65536."""
        n, c, v, t = like.shape
        words = self.random.random_raw(-(-like.numel() // 4)).view(np.uint16)[:like.numel()]
        mask = torch.from_numpy((words >= round(p * 65536)).view(np.uint8))
        return mask.view(n, v, t, c).permute(0, 3, 1, 2)

    def backward(self, grad, features_grad):
        """Gradients of the weights of all units, from those of the final features and of all frames' features."""
        last, grads = self.units[-1], []
        for block in last.blocks:
            last.receive(block, grad[block].to(self.dtype))
        for unit in reversed(self.units):
            grads = unit.backward(features_grad if unit.index == 1 else None) + grads
        return grads

    def release(self):
        """Hand the memory on to the next step."""
        self.pool.give_back(self.tensors)
        self.tensors, self.units = None, None


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run, x, *weights):
        ctx.run = run
        x = x.to(run.dtype).contiguous(memory_format=torch.channels_last)
        for unit in run.units:
            unit.forward(x)
        last = run.units[-1]
        for block in last.blocks:
            last.finish(block)
        return last.result.clone(), run.units[0].out if run.keeps_features else None

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, features_grad):
        run, ctx.run = ctx.run, None
        if run is None:
            raise RuntimeError("this forward pass went through backward before and its memory is in use again: call "
                               "backward once, or set model.fast = False")
        with torch.autocast("cpu", enabled=False):
            grads = run.backward(grad, features_grad)
        input_grad = run.units[0].input_grad.to(grad.dtype)
        run.release()
        return None, input_grad, *grads
