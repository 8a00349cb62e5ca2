"""Camera maps: world to camera to image and back, for NumPy arrays and torch tensors of any batch shape.

Cameras are those of Human3.6M: orientation = unit quaternion (w, x, y, z) of the rotation camera-to-world,
translation = camera centre in the world. An intrinsic vector holds nine numbers: f (2), c (2), k (3, radial),
p (2, tangential).
"""
import numpy as np

from common.quaternion import qinverse, qrot


def _like(value, reference):
    """`value` as an array or tensor of the library, device and precision of `reference`."""
    if isinstance(reference, np.ndarray):
        return np.asarray(value, dtype=np.result_type(reference.dtype, np.float32))
    import torch

    return torch.as_tensor(value, dtype=reference.dtype, device=reference.device)


def _spread(parameter, points):
    """Give per-sample parameters (..., K) the axes that let them broadcast over points (..., *, C)."""
    parameter = _like(parameter, points)
    if parameter.ndim <= 1:
        return parameter
    missing = points.ndim - parameter.ndim
    return parameter.reshape(*parameter.shape[:-1], *([1] * missing), parameter.shape[-1])


def _offset(X, w, h):
    """(1, h / w): in double precision for NumPy, so that pixels of many digits keep them."""
    return np.array([1, h / w]) if isinstance(X, np.ndarray) else _like([1, h / w], X)


def normalize_screen_coordinates(X, w, h):
    """Map pixels (..., 2) so that x covers [-1, 1] and y keeps the aspect ratio: x' = 2x/w - 1, y' = 2y/w - h/w."""
    if X.shape[-1] != 2:
        raise ValueError(f"pixels have 2 coordinates, not {X.shape[-1]}")
    return X / w * 2 - _offset(X, w, h)


def image_coordinates(X, w, h):
    """The inverse of `normalize_screen_coordinates`: (..., 2) screen coordinates to pixels."""
    if X.shape[-1] != 2:
        raise ValueError(f"screen coordinates have 2 components, not {X.shape[-1]}")
    return (X + _offset(X, w, h)) * w / 2


def world_to_camera(X, R, t):
    """World points (..., 3) in the camera's space; `R` is the camera-to-world quaternion, `t` the camera's centre."""
    return qrot(qinverse(_spread(R, X)), X - _spread(t, X))


def camera_to_world(X, R, t):
    """Camera points (..., 3) in world space; `R` is the camera-to-world quaternion, `t` the camera's centre."""
    return qrot(_spread(R, X), X) + _spread(t, X)


def _pinhole(X):
    """(..., 3) camera points on the plane Z = 1, clamped to the field of view [-1, 1]: (..., 2)."""
    return (X[..., :2] / X[..., 2:]).clip(-1, 1)


def project_to_2d(X, intrinsic):
    """Project camera points (..., 3) with radial and tangential distortion (Human3.6M's camera model).

    `intrinsic` is (9,) or one vector per sample (B, 9): f, c, k, p. Returns (..., 2) in the unit of f and c.
    """
    parameters = _spread(intrinsic, X)
    f, c, k, p = parameters[..., :2], parameters[..., 2:4], parameters[..., 4:7], parameters[..., 7:]
    XX = _pinhole(X)
    r2 = XX[..., :1] ** 2 + XX[..., 1:] ** 2
    radial = 1 + r2 * (k[..., :1] + r2 * (k[..., 1:2] + r2 * k[..., 2:3]))
    tangential = p[..., :1] * XX[..., :1] + p[..., 1:2] * XX[..., 1:]
    return f * (XX * (radial + tangential) + p * r2) + c


def project_to_2d_linear(X, intrinsic):
    """Project camera points (..., 3) by focal length and centre only, without distortion: (..., 2)."""
    parameters = _spread(intrinsic, X)
    return parameters[..., :2] * _pinhole(X) + parameters[..., 2:4]
