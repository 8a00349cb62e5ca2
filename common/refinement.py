"""The refinement of GLA-GCN's full model: x and y of a pose moved towards where the 2D input says they are.

Source: the pose refinement of Cai et al., "Exploiting Spatial-Temporal Relationships for 3D Pose Estimation via Graph
Convolutional Networks", ICCV 2019, which GLA-GCN's training on MPI-INF-3DHP takes over.
"""
import torch
from torch import nn

from common.s_agcn import S_AGCN

HIDDEN = 1024


def reproject(pose, keypoints, intrinsics, root):
    """The pose that the depths of `pose` and the 2D input make: every joint on its ray through the image.

    pose: (B, J, 3) relative to joint `root`, in any unit; keypoints: (B, J, 2); intrinsics: (B, 9), of which the focal
    lengths and the centre count, in the unit of the keypoints. Returns (B, J, 3) relative to joint `root`.

    The distance of the root from the camera is the one at which pose and rays fit best in the sense of least squares:
    no ground truth is needed.
    """
    rays = (keypoints - intrinsics[:, None, 2:4]) / intrinsics[:, None, :2]
    z = pose[..., 2:]
    # Root (X, Y, Z): x + X = ray * (z + Z) for all joints. Subtracting means leaves one unknown, Z.
    spread, apart = rays - rays.mean(1, keepdim=True), pose[..., :2] - rays * z
    apart = apart - apart.mean(1, keepdim=True)
    distance = (spread * apart).sum((1, 2), keepdim=True) / (spread**2).sum((1, 2), keepdim=True).clamp_min(1e-8)
    xyz = torch.cat([rays * (z + distance.clamp_min(0)), z], -1)
    return xyz - xyz[:, root : root + 1]


def fit_intrinsics(points, keypoints):
    """The pinhole camera that maps points (n, 3) in its space to keypoints (n, 2): (9,) f, c and no distortion.

    The npz files of MPI-INF-3DHP hold no cameras, but points and their images. Raises ValueError where they do not lie
    in front of a camera or do not fix one.
    """
    import numpy as np

    depth = points[:, 2:].astype(np.float64)
    if not (depth > 0).all():
        raise ValueError("points that do not lie in front of the camera")
    slopes = points[:, :2] / depth
    variance = slopes.var(0)
    if not (variance > 1e-12).all():
        raise ValueError("points that do not fix a camera")
    focal = ((slopes - slopes.mean(0)) * (keypoints - keypoints.mean(0))).mean(0) / variance
    center = keypoints.mean(0) - focal * slopes.mean(0)
    return np.concatenate([focal, center, np.zeros(5)]).astype(np.float32)


class Refinement(nn.Module):
    """A score for each coordinate of x and y: how much of it is the pose's, and how much the re-projected one's.

    joints: J; root: the joint that poses are relative to; mm_per_unit: of the poses, which the layers see in metres.
    """

    def __init__(self, joints, root, mm_per_unit):
        super().__init__()
        self.root, self.metres_per_unit = root, mm_per_unit / 1000
        self.score = nn.Sequential(
            nn.Linear(2 * joints * 3, HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, joints * 2), nn.Sigmoid())

    def forward(self, pose, keypoints, intrinsics):
        """(B, 1, J, 3), (B, J, 2), (B, 9) -> (B, 1, J, 3); see `reproject`."""
        pose = pose[:, 0]
        ray_pose = reproject(pose, keypoints, intrinsics, self.root)
        score = self.score(torch.cat([pose, ray_pose], 1).flatten(1) * self.metres_per_unit)
        score = score.unflatten(1, (-1, 2))
        xy = score * pose[..., :2] + (1 - score) * ray_pose[..., :2]
        return torch.cat([xy, pose[..., 2:]], -1).unsqueeze(1)


class RefinedLifter(S_AGCN):
    """GLA-GCN with its refinement: the input and the intrinsics (B, 9) -> (refined pose, what S_AGCN returns).

    Arguments as of S_AGCN; root and mm_per_unit as of Refinement.
    """

    def __init__(self, num_joints_in, in_features, num_joints_out, filter_widths, *, root, mm_per_unit, **settings):
        super().__init__(num_joints_in, in_features, num_joints_out, filter_widths, **settings)
        self.refinement = Refinement(num_joints_out, root, mm_per_unit)

    def forward(self, x, intrinsics):
        """(B, T, J, 2), (B, 9) -> (refined pose (B, 1, J, 3), pose (B, 1, J, 3), poses of all frames if there are)."""
        output = super().forward(x)
        pose, *others = output if isinstance(output, tuple) else (output,)
        return self.refinement(pose, x[:, self.target_frame()], intrinsics), pose, *others
