"""Augmentations of training batches."""
import numpy as np


def mirror(poses, left, right):
    """Mirror images of poses (..., J, C): x changes its sign, left and right joints change places. NumPy or torch."""
    order = list(range(poses.shape[-2]))
    for a, b in zip(left, right, strict=True):
        order[a], order[b] = b, a
    mirrored = poses[..., order, :]  # indexing with a list copies
    mirrored[..., 0] = -mirrored[..., 0]
    return mirrored


def mirror_intrinsics(intrinsics):
    """What intrinsics (..., 9) are in a mirror: the x of the centre and of the tangential distortion change sign."""
    return (intrinsics * [1, 1, -1, 1, 1, 1, 1, -1, 1]).astype(np.float32)


class RandomMove:
    """The random move of the GLA-GCN release: it moves the target pose and not the 2D input.

    x and y (not z) of each target are scaled by one of `scales` and rotated in the x-y plane by one of
    `angles_degrees`, drawn per sample.
    """

    def __init__(self, scales=(0.95, 1.0, 1.05), angles_degrees=(-5.0, 0.0, 5.0)):
        scale, angle = np.meshgrid(scales, np.deg2rad(angles_degrees))
        self.cosines = (scale * np.cos(angle)).astype(np.float32).ravel()
        self.sines = (scale * np.sin(angle)).astype(np.float32).ravel()

    def __call__(self, poses, rng):
        """Move poses (B, T, J, 3) in place with draws from the NumPy generator `rng`."""
        draws = rng.integers(len(self.cosines), size=len(poses))
        cosine, sine = self.cosines[draws, None, None], self.sines[draws, None, None]
        x, y = poses[..., 0].copy(), poses[..., 1].copy()
        poses[..., 0] = cosine * x - sine * y
        poses[..., 1] = sine * x + cosine * y
        return poses
