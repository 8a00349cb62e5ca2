"""Rotations by unit quaternions (w, x, y, z), for NumPy arrays and torch tensors alike."""
import numpy as np


def stack(parts):
    """Stack arrays or tensors along a new last axis, in the library that they come from."""
    if isinstance(parts[0], np.ndarray | np.generic):
        return np.stack(parts, axis=-1)
    import torch

    return torch.stack(parts, dim=-1)


def cross(a, b):
    """Cross product over the last axis with broadcasting: (..., 3), (..., 3) -> (..., 3)."""
    return stack(
        [
            a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1],
            a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
            a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0],
        ]
    )


def qrot(q, v):
    """Rotate vectors `v` (..., 3) by unit quaternions `q` (..., 4); the leading axes broadcast."""
    w, xyz = q[..., :1], q[..., 1:]
    uv = cross(xyz, v)
    return v + 2 * (w * uv + cross(xyz, uv))


def qinverse(q):
    """The inverse rotation of unit quaternions `q` (..., 4)."""
    return stack([q[..., 0], -q[..., 1], -q[..., 2], -q[..., 3]])


def qmul(q, r):
    """Hamilton product q r of quaternions (..., 4): rotate by r first, then by q."""
    w = q[..., 0] * r[..., 0] - q[..., 1] * r[..., 1] - q[..., 2] * r[..., 2] - q[..., 3] * r[..., 3]
    x = q[..., 0] * r[..., 1] + q[..., 1] * r[..., 0] + q[..., 2] * r[..., 3] - q[..., 3] * r[..., 2]
    y = q[..., 0] * r[..., 2] - q[..., 1] * r[..., 3] + q[..., 2] * r[..., 0] + q[..., 3] * r[..., 1]
    z = q[..., 0] * r[..., 3] + q[..., 1] * r[..., 2] - q[..., 2] * r[..., 1] + q[..., 3] * r[..., 0]
    return stack([w, x, y, z])
