"""Batch norm of a tensor that is made and consumed block by block: sums in, one multiplication and addition out."""
from typing import NamedTuple

import torch


class Sums:
    """Per-channel sums of x and of x * y over blocks, in float64."""

    def __init__(self, channels):
        self.x = torch.zeros(channels, dtype=torch.float64)
        self.xy = torch.zeros(channels, dtype=torch.float64)
        self.count = 0

    def add(self, x, y):
        """Add blocks (n, C, V, T), stored channels last."""
        same = x is y
        x = _table(x)
        self.x += x.sum(0)
        self.xy += (x * (x if same else _table(y))).sum(0)
        self.count += len(x)


class Normalisation(NamedTuple):
    """Batch norm with the statistics of one batch, (x - mean) * rstd * gain + offset."""

    mean: torch.Tensor
    rstd: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    count: int

    def apply(self, x, factor=1.0):
        """The batch norm of a block (n, C, V, T), times `factor`."""
        scale = factor * self.gain * self.rstd
        return _linear(factor * self.offset - scale * self.mean, (scale, x))

    def backward(self, sums, factor=1.0):
        """From `Sums` over (g, x), where the gradient of the output is factor * g: a function (g, x) -> gradient of x
        for blocks, and the gradients of gain and offset."""
        offset_grad = factor * sums.x
        gain_grad = self.rstd * (factor * sums.xy - self.mean * offset_grad)
        scale = self.gain * self.rstd
        on_x = -scale * self.rstd * gain_grad / self.count
        constant = -scale * offset_grad / self.count - on_x * self.mean

        def input_grad(g, x):
            return _linear(constant, (on_x, x), (factor * scale, g))

        return input_grad, gain_grad, offset_grad


def pivot(bn, bias):
    """What to add to a convolution's products in place of its bias, so that their mean is near 0.

    Batch norm takes any constant out again, and a variance as a difference of squares is exact for small means only.
    """
    return bias - bn.running_mean


def normalise(bn, sums):
    """The batch norm for `Sums` over (x, x), where x was shifted by `pivot`; updates the running statistics."""
    mean = sums.x / sums.count
    variance = (sums.xy / sums.count - mean * mean).clamp_(min=0)
    update_running(bn, mean, variance, sums.count)
    return Normalisation(mean, torch.rsqrt(variance + bn.eps), bn.weight.detach().double(), bn.bias.detach().double(),
                         sums.count)


def update_running(bn, mean_change, variance, count):
    """Keep the running statistics as nn.BatchNorm does; mean_change is the batch mean less the running mean."""
    bn.num_batches_tracked.add_(1)
    momentum = 1 / bn.num_batches_tracked.item() if bn.momentum is None else bn.momentum
    unbiased = variance * (count / (count - 1))
    bn.running_mean.add_(mean_change.to(bn.running_mean.dtype), alpha=momentum)
    bn.running_var.lerp_(unbiased.to(bn.running_var.dtype), momentum)


def _linear(constant, *terms):
    """constant + sum of coefficient * block, the coefficients per channel, in float32 at least."""
    y = None
    for coefficient, block in terms:
        block = _wide(block)
        coefficient = coefficient.to(block.dtype)[:, None, None]
        y = torch.addcmul(constant.to(block.dtype)[:, None, None], block, coefficient) if y is None else \
            y.addcmul_(block, coefficient)
    return y


def _table(x):
    return _wide(x).permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _wide(x):
    return x.float() if x.dtype == torch.bfloat16 else x
