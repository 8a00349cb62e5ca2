"""Averages of a joint's features over the voxels about a limb's length away, without a matrix of all pairs of voxels.

For a limb between the joints u and v, voxel q of joint u takes from joint v

    y(q) = sum_k P(q, k) G(k) x(k) / sum_k P(q, k) G(k)      P(q, k) = softmax over k of -(|q - k| - m)^2 / s

with the softmax G of logits a. All that depends on q alone cancels, so P may be replaced by a function K of q - k and G
by a multiple of exp(a): both sums are convolutions with K, as large as the volume. Here they are matrix products
with the blocks of K at a constant offset along the first axis, which are made when they are needed. An FFT would not
do: both sums may be 1e-20 of the largest ones and their ratio still counts, while an FFT rounds to the largest.
"""
import contextlib
import functools
import math
from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from common.cpu import is_traced

# G is exp(GAIN) at its maximum and K is 1: no denominator is below exp(GAIN - range of log K). Within these ranges all
# that underflows (below 1e-38, 1e-308) is too little for any denominator to feel, and gradients do not overflow.
GAIN = 30.0
LARGEST_RANGE = {torch.float32: 80.0, torch.float64: 575.0}
SMALLEST_DENOMINATOR = math.exp(GAIN - LARGEST_RANGE[torch.float64])
BLOCK_NUMBERS = 2 ** 24  # numbers of K's blocks in memory at once; 64 MB in float32
ROW_NUMBERS = 2 ** 20  # pairs of voxels whose logarithms are in memory at once


class Limb(NamedTuple):
    """P(q, k) = softmax over k of -(|q - k| - mean)^2 / scale; mm and mm^2."""

    mean: float
    scale: float

    def logarithm(self, distance):
        """log P up to a constant, of distances in mm."""
        return -(distance - self.mean) ** 2 / self.scale


class Group(NamedTuple):
    """Limbs that are computed alike."""

    indices: tuple  # which limbs
    kernel: torch.Tensor  # K at non-negative first, and at all second and third offsets: (E, n, 2n - 1, 2n - 1)
    underflows: bool  # whether denominators may be too small even for float64


@functools.lru_cache(maxsize=8)
def limb_groups(limbs, step, side, dtype, device):
    """The limbs (a tuple of Limb) in Groups for cubes of `side` voxels, `step` mm apart.

    A kernel has `dtype`, float32 or float64, or float64 where its values span more than float32 can hold.
    """
    with torch.inference_mode(False):  # what is kept here serves training too
        return _limb_groups(limbs, step, side, dtype, device)


def _limb_groups(limbs, step, side, dtype, device):
    ahead = torch.arange(side, dtype=torch.float64, device="cpu")
    around = torch.arange(1 - side, side, dtype=torch.float64, device="cpu")
    distance = step * (ahead[:, None, None] ** 2 + around[:, None] ** 2 + around ** 2).sqrt()
    kernels, kinds = [], []
    for limb in limbs:
        logarithm = limb.logarithm(distance)
        logarithm -= logarithm.max()
        fits = [t for t in (dtype, torch.float64) if -logarithm.min() <= LARGEST_RANGE[t]]
        kernels.append(logarithm.exp())
        kinds.append((fits[0] if fits else torch.float64, not fits))
    groups = []
    for kind in dict.fromkeys(kinds):
        indices = tuple(i for i, other in enumerate(kinds) if other == kind)
        place = "cpu" if kind[0] == torch.float64 and device.startswith("mps") else device  # no float64 there
        kernel = torch.stack([kernels[i] for i in indices]).to(kind[0]).to(place)
        groups.append(Group(indices, kernel, kind[1]))
    return groups


def context_averages(logits, values, group, limbs, step):
    """The averages y of limbs between joints: what each end takes from the other one.

    logits: (B, E, 2, N), of the global attention of both ends of E limbs at N = n^3 voxels.
    values: (B, E, 2, C, N), the features of both ends.
    group: of the limbs that `logits` and `values` hold; limbs: all limbs; step: mm between voxels.
    Returns (B, E, 2, C, N) in the kernel's type, on its device: at [:, :, 0] what the second joint takes.
    """
    logits, values = logits.to(group.kernel), values.to(group.kernel)
    # exp(logits - largest + GAIN), as a square: adding GAIN to small differences would round them.
    weights = (0.5 * (logits - logits.amax(-1, keepdim=True).detach())).exp().mul(math.exp(GAIN / 2)).square()
    weights = weights.masked_fill(weights <= torch.finfo(weights.dtype).tiny, 0)  # denormal numbers are slow
    weights = weights.unsqueeze(3)
    sums = convolve(torch.cat([weights, weights * values], dim=3), group.kernel)
    denominator, numerator = sums[:, :, :, :1], sums[:, :, :, 1:]
    if not group.underflows:
        return numerator / denominator
    unsafe = denominator < SMALLEST_DENOMINATOR
    averages = numerator.masked_fill(unsafe, 0) / denominator.masked_fill(unsafe, 1)
    own_limbs = [limbs[i] for i in group.indices]
    return averages + _AveragesByLogarithms.apply(logits, values, unsafe.squeeze(3), own_limbs, step)


def convolve(x, kernel):
    """x (B, E, 2, C, n^3) convolved with the kernel (E, n, 2n - 1, 2n - 1) of each limb, zero outside the cube."""
    (b, e, ends, c, _), n = x.shape, kernel.shape[1]
    planes = x.reshape(b, e, ends, c, n, n * n).permute(1, 4, 0, 2, 3, 5).reshape(e, n, b * ends * c, n * n)
    if is_traced():
        sums = _composed_sum(planes, kernel)
    else:
        step = max(1, BLOCK_NUMBERS // n ** 4)
        sums = [_Convolution.apply(planes[i : i + step], kernel[i : i + step]) for i in range(0, e, step)]
        sums = torch.cat(sums) if len(sums) > 1 else sums[0]
    return sums.reshape(e, n, b, ends, c, n * n).permute(2, 0, 3, 4, 1, 5).reshape(x.shape)


def _composed_sum(planes, kernel):
    """What `_Convolution` computes, in ordinary operations only, without the memory that they share: for export."""
    e, n, _, _ = kernel.shape
    number = torch.arange(n, device=kernel.device)
    apart = number[:, None] - number + n - 1  # (j, j') -> where the table has their distance
    rows, columns = apart[:, None, :, None], apart[None, :, None, :]
    result = 0
    for offset in range(n):
        block = kernel[:, offset][:, rows, columns].reshape(e, 1, n * n, n * n)
        both = planes
        if offset:
            both = (functional.pad(planes[:, offset:], (0, 0, 0, 0, 0, offset))
                    + functional.pad(planes[:, : n - offset], (0, 0, 0, 0, offset, 0)))
        result = result + both @ block
    return result


class _Convolution(torch.autograd.Function):
    """(E, n, M, n^2) -> (E, n, M, n^2): n planes of M volumes. Even kernels: it is its own transpose."""

    @staticmethod
    def forward(ctx, planes, kernel):
        ctx.save_for_backward(kernel)
        return _sum_over_offsets(planes.contiguous(), kernel)

    @staticmethod
    def backward(ctx, grad):
        return _Convolution.apply(grad, *ctx.saved_tensors), None


def _sum_over_offsets(planes, kernel):
    """Planes times the block of the kernel that belongs to their distance, for every distance 0 ... n - 1."""
    e, n, m, _ = planes.shape
    result = torch.zeros_like(planes)
    both = torch.empty_like(planes)
    block = planes.new_empty(e, n * n, n * n)

    def add(first, last, source):
        rows = result[:, first:last].view(e, (last - first) * m, n * n)
        rows.baddbmm_(source.view(rows.shape), block)

    with no_autocast(planes.device):
        for offset in range(n):
            _fill_block(block, kernel, offset)
            below, above = planes[:, : n - offset], planes[:, offset:]
            if offset == 0:
                add(0, n, planes)
            elif 2 * offset > n:  # no plane has neighbours on both sides
                add(0, n - offset, above)
                add(offset, n, below)
            else:
                both[:, : n - offset] = above
                both[:, n - offset :] = 0
                both[:, offset:] += below
                add(0, n, both)
    return result.flip(-1)  # as the blocks' columns are


def _fill_block(block, kernel, offset):
    """The (E, n^2, n^2) matrix of the kernel between two planes `offset` apart, its columns in reverse order.

    In reverse, entry ((j, k), (j', k')) is at (j + j', k + k') in the table: a view of overlapping rows.
    """
    e, n, width, _ = kernel.shape
    view = kernel[:, offset].as_strided(
        (e, n, n, n, n), (n * width * width, width, 1, width, 1), kernel[:, offset].storage_offset())
    block.view(e, n, n, n, n).copy_(view)


def no_autocast(device):
    """Sums of many small positive numbers need float32 at least."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


class _AveragesByLogarithms(torch.autograd.Function):
    """The averages at the voxels that `chosen` (B, E, 2, N) marks, and 0 elsewhere: slow, but right for any kernel.

    Limbs whose lengths hardly vary leave voxels for which all that joint v attends to is at exp(-1000) or less.
    """

    @staticmethod
    def forward(ctx, logits, values, chosen, limbs, step):
        ctx.save_for_backward(logits, values, chosen)
        ctx.limbs, ctx.step = limbs, step
        result = torch.zeros_like(values)
        for giver, voxels, weights in _weights(logits, chosen, limbs, step):
            result[giver][:, voxels] = values[giver] @ weights.T
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        logits, values, chosen = ctx.saved_tensors
        grad_logits, grad_values = torch.zeros_like(logits), torch.zeros_like(values)
        for giver, voxels, weights in _weights(logits, chosen, ctx.limbs, ctx.step):
            rows = grad[giver][:, voxels]  # (C, Q)
            gain = rows.T @ values[giver]
            gain -= (gain * weights).sum(1, keepdim=True)
            grad_logits[giver] += gain.mul_(weights).sum(0)
            grad_values[giver] += rows @ weights
        return grad_logits, grad_values, None, None, None


def _weights(logits, chosen, limbs, step):
    """Yield a giver (batch, limb, end), Q of its chosen voxels, and what all N voxels weigh there: (Q, N)."""
    side = round(logits.shape[-1] ** (1 / 3))
    axis = step * torch.arange(side, dtype=logits.dtype, device=logits.device)
    points = torch.cartesian_prod(axis, axis, axis)
    for giver in map(tuple, torch.nonzero(chosen.any(-1)).tolist()):
        for voxels in torch.nonzero(chosen[giver])[:, 0].split(max(1, ROW_NUMBERS // len(points))):
            distance = sum((x[voxels, None] - x) ** 2 for x in points.unbind(1)).sqrt_()
            yield giver, voxels, torch.softmax(limbs[giver[1]].logarithm(distance).add_(logits[giver]), dim=-1)
