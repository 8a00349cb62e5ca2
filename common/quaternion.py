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
