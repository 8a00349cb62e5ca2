"""From image features to a volume round a person, and from the volume to joints.

Everything here takes the whole batch at once: samples (B) and views (V) are dimensions of the arrays, never loops.
World positions are in mm, pixels are those of the features. A volume of n points a side is (B, C, n, n, n); its indices
(i, j, k) go along the world's x, y and z, and its points (B, n, n, n, 3) say where each of them is.

Sources: Iskakov et al., "Learnable Triangulation of Human Pose", ICCV 2019 (the volume); Ma et al., "Context Modeling
in 3D Human Pose Estimation: A Unified Perspective", CVPR 2021 (the target of the attention).
"""
import functools
import math

import torch
from torch.nn import functional

from common.contextpose.pairwise import no_autocast

AGGREGATIONS = ("sum", "max", "softmax", "conf", "conf_norm")
OUTSIDE = 4  # a normalised image coordinate of which bilinear sampling sees nothing, however small the image


def _exactly(function):
    """`function` without autocast: a bfloat16 has 8 bits, and positions of metres are wanted to fractions of a mm."""

    @functools.wraps(function)
    def exact(tensor, *args, **kwargs):
        with no_autocast(tensor.device):
            return function(tensor, *args, **kwargs)

    return exact


@_exactly
def cuboid_points(centre, side, n, angles=None):
    """Points of the cuboid: centre (B, 3) -> (B, n, n, n, 3) in mm, from -side/2 to side/2 round it.

    angles: (B,) radians about the vertical axis (z) through the centre, or None.
    """
    axis = torch.linspace(-side / 2, side / 2, n, dtype=centre.dtype, device=centre.device)
    offsets = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)  # (n, n, n, 3)
    if angles is None:
        return centre[:, None, None, None] + offsets
    turned = offsets.reshape(1, -1, 3) @ rotation_about_z(angles.to(centre)).transpose(1, 2)  # (B, n^3, 3)
    return centre[:, None, None, None] + turned.reshape(-1, n, n, n, 3)


def random_angles(count, like):
    """Angles (count,) in radians, uniform over the circle, with the device and dtype of the tensor `like`."""
    return 2 * math.pi * torch.rand(count, dtype=like.dtype, device=like.device)


def rotation_about_z(angles):
    """Angles (B,) in radians -> rotation matrices (B, 3, 3) that turn x towards y."""
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = [cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1]
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def scale_projections(projections, scale_x, scale_y):
    """Projections (..., 3, 4) onto pixels -> projections onto an image resized by the two factors."""
    return projections * projections.new_tensor([scale_x, scale_y, 1])[:, None]


@_exactly
def project(points, projections):
    """World points (B, N, 3) through projections K [R|t] (B, V, 3, 4) -> pixels (B, V, N, 2), depths (B, V, N).

    The pixels of points with a depth of zero or less mean nothing.
    """
    rotated = torch.einsum("bvij,bnj->bvni", projections[..., :3], points)
    homogeneous = rotated + projections[..., None, :, 3]  # (B, V, N, 3)
    depth = homogeneous[..., 2]
    return homogeneous[..., :2] / torch.where(depth > 0, depth, 1)[..., None], depth


@_exactly
def unproject(features, projections, points):
    """What every view shows at every point: (B, V, C, n, n, n).

    features: (B, V, C, h, w); projections: (B, V, 3, 4) onto their pixels; points: (B, n, n, n, 3) in mm. Sampled
    bilinearly, pixel centres at whole numbers; 0 outside the image and at or behind the camera. Computed in the dtype
    of the points, whatever that of the features.
    """
    b, v, c, h, w = features.shape
    n = points.shape[1]
    pixels, depth = project(points.reshape(b, -1, 3), projections.to(points.dtype))
    size = pixels.new_tensor([max(w - 1, 1), max(h - 1, 1)])
    # Clamping changes nothing that is seen, and keeps the huge numbers of points near the camera's plane out.
    where = (2 * (pixels / size - 0.5)).clamp(-OUTSIDE, OUTSIDE)
    where = torch.where(depth[..., None] > 0, where, OUTSIDE)
    sampled = functional.grid_sample(features.reshape(b * v, c, h, w).to(points.dtype),
                                     where.reshape(b * v, n * n, n, 2), align_corners=True)
    return sampled.reshape(b, v, c, n, n, n)


@_exactly
def aggregate(volumes, method, confidences=None):
    """Volumes of the views (B, V, C, n, n, n) -> one volume (B, C, n, n, n).

    method, one of AGGREGATIONS: the sum or the maximum over views; their mean weighted by their own softmax; or the sum
    weighted by confidences (B, V, C), as they are (conf) or divided by their sum over views (conf_norm).
    Raises ValueError for other methods and for confidences that are missing.
    """
    if method not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {method!r}; choose from {', '.join(AGGREGATIONS)}")
    if method.startswith("conf"):
        if confidences is None:
            raise ValueError(f"the aggregation {method} needs the confidences of the views")
        if method == "conf_norm":
            confidences = confidences / confidences.sum(dim=1, keepdim=True)
        return torch.einsum("bvc...,bvc->bc...", volumes, confidences.to(volumes.dtype))
    if volumes.shape[1] == 1:
        return volumes[:, 0]
    if method == "sum":
        return volumes.sum(dim=1)
    if method == "max":
        return volumes.amax(dim=1)
    return (volumes * volumes.softmax(dim=1)).sum(dim=1)


@_exactly
def soft_argmax(volumes, points, multiplier=1.0, softmax=True):
    """Scores of the joints (B, J, n, n, n) at points (B, n, n, n, 3) -> joints (B, J, 3) in mm and probabilities.

    The probabilities (B, J, n, n, n), the softmax of multiplier * scores over each volume, or its positive part divided
    by its sum where softmax is False, weigh the points. Computed in the dtype of the points.
    """
    scores = (volumes.to(points.dtype) * multiplier).flatten(2)  # (B, J, n^3)
    if softmax:
        mass = scores.softmax(dim=2)
    else:
        mass = scores.relu()
        mass = mass / mass.sum(dim=2, keepdim=True).clamp(min=torch.finfo(mass.dtype).tiny)
    # Relative to the centre: coordinates are then small, and what the sum of the mass lacks to 1 does not count.
    centre = (points[:, 0, 0, 0] + points[:, -1, -1, -1]) / 2
    offsets = points.flatten(1, 3) - centre[:, None]
    return mass @ offsets + centre[:, None], mass.reshape(volumes.shape)


@_exactly
def nearest_voxel(points, joints):
    """The place in the flattened volume of the point nearest to each joint: (B, n, n, n, 3), (B, J, 3) -> (B, J) int64.

    The points are those of a cuboid, turned or not.
    """
    n = points.shape[1]
    corner = points[:, 0, 0, 0]
    ends = torch.stack((points[:, -1, 0, 0], points[:, 0, -1, 0], points[:, 0, 0, -1]), dim=1)
    edges = ends - corner[:, None]  # (B, 3, 3): one orthogonal edge a row
    along = (joints.to(points.dtype) - corner[:, None]) @ edges.transpose(1, 2)  # (B, J, 3)
    index = (along / edges.square().sum(-1)[:, None] * (n - 1)).round().long().clamp(0, n - 1)
    return (index[..., 0] * n + index[..., 1]) * n + index[..., 2]


@_exactly
def target_attention(joints, points):
    """Where the global attention should look: joints (B, J, 3), points (B, n, n, n, 3) -> (B, J, (n/4)^3).

    A softmax over the voxels of the coarse volume, whose points are every fourth of the fine one along each axis, of
    -d^2 / (2 sigma^2): d the distance to the joint, sigma twice the step of the coarse volume. Raises ValueError where
    n is no multiple of 4.
    """
    if points.shape[1] % 4:
        raise ValueError(f"the side of a volume must be a multiple of 4, not {points.shape[1]}")
    coarse = points[:, ::4, ::4, ::4].flatten(1, 3)  # (B, (n/4)^3, 3)
    step = torch.linalg.vector_norm(points[:, -1, 0, 0] - points[:, 0, 0, 0], dim=-1) / (points.shape[1] - 1) * 4
    squared = torch.cdist(joints.to(points.dtype), coarse, compute_mode="donot_use_mm_for_euclid_dist").square()
    return (-squared / (2 * (2 * step[:, None, None]).square())).softmax(dim=2)
