"""Batch normalisation over the batches of all processes together, on any device.

torch's own SyncBatchNorm runs on GPUs only; `synchronised` uses it there and this one elsewhere.
"""
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx, tensor):
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm(_BatchNorm):
    """Batch norm of any number of dimensions, (B, C, ...), whose statistics are those of all processes' batches."""

    def _check_input_dim(self, x):
        if x.dim() < 2:
            raise ValueError(f"expected at least two dimensions, got {tuple(x.shape)}")

    def forward(self, x):
        """Normalise x; the running statistics are updated in training mode."""
        self._check_input_dim(x)
        if not self.training:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0,
                                         self.eps)
        over = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.new_full((1,), x.numel() / x.shape[1])
        totals = _SumOverProcesses.apply(torch.cat([x.sum(over), count]))  # (C + 1,)
        mean, count = totals[:-1] / totals[-1], totals[-1].detach()
        # Two passes: the mean of squares less the square of the mean would lose digits.
        centred = x - mean.view(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(over)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(variance.detach() * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale.view(shape) + self.bias.view(shape)


def synchronised(model, device):
    """`model` with batch norms that count all processes' batches, their weights and statistics kept."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                made = SyncBatchNorm(child.num_features, child.eps, child.momentum)
                made = made.to(child.weight)
                made.load_state_dict(child.state_dict())
                made.train(child.training)
                made.weight.requires_grad_(child.weight.requires_grad)
                made.bias.requires_grad_(child.bias.requires_grad)
                setattr(parent, name, made)
    return model
