"""Context attention: every joint sees what the joints it is linked to expect about a limb's length away.

Source: "Context Modeling in 3D Human Pose Estimation: A Unified Perspective" (Ma et al., CVPR 2021).
"""
import math

import torch
from torch import nn

from common.contextpose.pairwise import Limb, context_averages, limb_groups, no_autocast
from common.keypoints import CONTEXTPOSE_17_NAMES, CONTEXTPOSE_LIMBS

JOINTS = len(CONTEXTPOSE_17_NAMES)


class AttentionConv3D(nn.Module):
    """The context attention layer: (B, in_channels, n, n, n) -> features (B, out_channels, n, n, n), global attention.

    Channels are in groups of equal size, one for each of the 17 joints of `CONTEXTPOSE_17_NAMES`. The global attention
    is (B, 17, n^3): for each joint a softmax over all voxels.

    limb_mean, limb_std: lengths in mm of the 16 limbs of `CONTEXTPOSE_LIMBS`; further entries are not used.
    temperature: how much farther than measured a limb may be from its mean length: the variance is multiplied by it.
    cuboid_size: side in mm of the cube whose opposite faces the first and last voxels of an axis lie on.

    Half-precision input, also under autocast, is computed in float32. Time grows with n^6, memory with n^4.
    Raises ValueError for arguments that do not fit, and for volumes that are no cubes of at least 2 voxels a side.
    """

    def __init__(self, in_channels, out_channels, limb_mean, limb_std, temperature, cuboid_size):
        super().__init__()
        self.limbs = _limbs(limb_mean, limb_std, temperature)
        self.cuboid_size = float(cuboid_size)
        if not 0 < self.cuboid_size < math.inf:
            raise ValueError(f"cuboid_size is a side in mm above 0, got {cuboid_size}")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < JOINTS or channels % JOINTS:
                raise ValueError(f"{name} is a multiple of the {JOINTS} joints, got {channels}")
        self.in_channels, self.channels = in_channels, out_channels // JOINTS
        self.convlist = nn.ModuleList(nn.Conv3d(out_channels, self.channels, 1, bias=False) for _ in range(JOINTS))
        self.W_pi = nn.Conv3d(in_channels, out_channels, 1, groups=JOINTS, bias=False)
        self.atten_conv = nn.Conv3d(in_channels, JOINTS, 1, groups=JOINTS, bias=False)
        for convolution in self.convlist:
            nn.init.xavier_normal_(convolution.weight)
        # For limb e, [e, 0] and [e, 1] are its joints; what joint [e, 0] gives, the other one takes.
        ends = torch.tensor(CONTEXTPOSE_LIMBS)
        self.register_buffer("givers", ends, persistent=False)
        takes = nn.functional.one_hot(ends.flip(1), JOINTS)  # (16, 2, 17)
        self.register_buffer("takes", takes.permute(2, 0, 1).bool(), persistent=False)
        linked = torch.zeros(JOINTS, JOINTS, dtype=torch.bool)
        linked[ends.flip(1), ends] = True
        self.register_buffer("linked", linked, persistent=False)

    def forward(self, x):
        self._check(x)
        with no_autocast(x.device):
            features, attention = self._forward(x)
        return features.to(self.W_pi.weight.dtype), attention

    def _check(self, x):
        side = x.shape[-1]
        if x.dim() != 5 or x.shape[1:] != (self.in_channels, side, side, side) or side < 2:
            raise ValueError(f"context attention needs (B, {self.in_channels}, n, n, n) with n >= 2, "
                             f"got {tuple(x.shape)}")

    def _forward(self, x):
        b, _, *shape = x.shape
        x = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(
            b, JOINTS, self.in_channels // JOINTS, math.prod(shape))
        merged = [conv.weight.reshape(JOINTS, -1, x.shape[2]) for conv in (self.W_pi, self.atten_conv)]
        projected = torch.cat(merged, dim=1).to(x.dtype) @ x  # (B, 17, C + 1, N)
        values, logits = projected[:, :, :-1], projected[:, :, -1]
        attention = torch.softmax(logits, dim=-1)
        weights = torch.stack([conv.weight.flatten(1) for conv in self.convlist]).to(x.dtype)
        weights = weights.unflatten(2, (JOINTS, self.channels))  # (17 takers, C_out, 17 givers, C)
        features = values + self._from_strangers(values, attention, weights)
        for part in self._from_limbs(values, logits, weights, int(shape[0])):
            features = features + part
        return features.reshape(b, JOINTS * self.channels, *shape), attention

    def _from_strangers(self, values, attention, weights):
        """What the joints that are not linked to a joint give it, the same at every voxel: (B, 17, C_out, 1)."""
        means = values @ attention.unsqueeze(3)  # (B, 17, C, 1)
        weights = weights.masked_fill(self.linked[:, None, :, None], 0)
        return torch.einsum("uovc, bvcz -> buoz", weights, means)

    def _from_limbs(self, values, logits, weights, side):
        """What joints get along their limbs, (B, 17, C_out, N) for each group of limbs."""
        step = self.cuboid_size / (side - 1)
        for group in limb_groups(self.limbs, step, side, values.dtype, str(values.device)):
            givers, takes = self.givers[list(group.indices)], self.takes[:, list(group.indices)]
            averages = context_averages(logits[:, givers], values[:, givers], group, self.limbs, step).to(values)
            chosen = weights[:, :, givers] * takes[:, None, :, :, None]  # (17, C_out, E, 2, C)
            yield (chosen.flatten(2).flatten(0, 1) @ averages.flatten(1, 3)).unflatten(1, (JOINTS, -1))


def _limbs(mean, std, temperature):
    """The 16 Limbs of these lengths in mm. Raises ValueError where they cannot be lengths."""
    mean, std = ([float(length) for length in lengths] for lengths in (mean, std))
    count = len(CONTEXTPOSE_LIMBS)
    if len(mean) != len(std) or len(mean) < count:
        raise ValueError(f"limb_mean and limb_std are of {count} limbs, got {len(mean)} and {len(std)} lengths")
    if not all(0 <= length < math.inf for length in mean + std):
        raise ValueError(f"limb_mean and limb_std are lengths in mm, got {mean} and {std}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is above 0, got {temperature}")
    return tuple(Limb(m, 2 * float(temperature) * s ** 2 + 0.1) for m, s in zip(mean[:count], std, strict=False))
