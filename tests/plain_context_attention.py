"""ContextPose's context attention written for reading, with the d^3 x d^3 matrices of the paper's equations.

It shares no code with `common/contextpose` but the state-dict names and the limbs, so one can load the weights of the
other. Tests take it as the truth, `benchmark.py` as the plain side.
"""
import torch
from torch import nn

from common.keypoints import CONTEXTPOSE_LIMBS


class PlainAttentionConv3D(nn.Module):
    """(b, in_channels, d, h, w) -> features (b, out_channels, d, h, w), global attention (b, 17, d*h*w).

    logarithms: multiply P by G as a softmax of the sum of their logarithms: exact where both are tiny. Else as numbers.
    """

    def __init__(self, in_channels, out_channels, limb_mean, limb_std, temperature, cuboid_size, logarithms=False):
        super().__init__()
        self.context = limb_mean, limb_std, temperature, cuboid_size
        self.channels = out_channels // 17
        self.convlist = nn.ModuleList(nn.Conv3d(out_channels, self.channels, 1, bias=False) for _ in range(17))
        self.W_pi = nn.Conv3d(in_channels, out_channels, 1, groups=17, bias=False)
        self.atten_conv = nn.Conv3d(in_channels, 17, 1, groups=17, bias=False)
        self.logarithms = logarithms
        self.pairwise = {}

    def logarithms_of_pairwise(self, x):
        """log P_e (q, k) of all limbs for voxels q, k of this volume: they are made once, and kept."""
        if x.shape[2:] not in self.pairwise:
            mean, std, temperature, cuboid_size = self.context
            axes = [torch.arange(n, dtype=torch.float64) * cuboid_size / (n - 1) for n in x.shape[2:]]
            points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
            distance = torch.linalg.vector_norm(points[:, None] - points, dim=-1)
            self.pairwise[x.shape[2:]] = [
                torch.log_softmax(-(distance - m) ** 2 / (2 * temperature * s ** 2 + 0.1), dim=1).to(x)
                for m, s in zip(mean[: len(CONTEXTPOSE_LIMBS)], std, strict=False)]
            if not self.logarithms:
                self.pairwise[x.shape[2:]] = [log_p.exp_() for log_p in self.pairwise[x.shape[2:]]]
        return self.pairwise[x.shape[2:]]

    def forward(self, x):
        b = len(x)
        pairwise = self.logarithms_of_pairwise(x)
        x_pi = self.W_pi(x)
        values = x_pi.reshape(b, 17, self.channels, -1)
        log_attention = torch.log_softmax(self.atten_conv(x).reshape(b, 17, -1), dim=2)
        attention = log_attention.exp()
        strangers = (values * attention[:, :, None]).sum(3, keepdim=True).expand_as(values)  # (b, 17, C, N)
        results = []
        for u in range(17):
            vectors = list(strangers.unbind(1))
            for p, (first, second) in zip(pairwise, CONTEXTPOSE_LIMBS, strict=True):
                if u in (first, second):
                    v = first + second - u
                    if self.logarithms:
                        weights = torch.softmax(p + log_attention[:, v, None], dim=2)  # (b, N, N)
                        vectors[v] = (weights @ values[:, v].transpose(1, 2)).transpose(1, 2)
                    else:
                        weighted = attention[:, v, None] * values[:, v]  # (b, C, N)
                        numerator = (p * weighted[:, :, None]).sum(3)  # of (b, C, N, N)
                        vectors[v] = numerator / (p * attention[:, v, None]).sum(2)[:, None]
            vectors = torch.cat(vectors, dim=1).reshape(b, -1, *x.shape[2:])
            results.append(self.convlist[u](vectors))
        return torch.cat(results, dim=1) + x_pi, attention
