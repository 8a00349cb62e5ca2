"""ContextPose: images of one person and the cameras they are of -> 17 joints in world millimetres.

    model = ContextPose(load_config(path), limb_mean, limb_std)
    pose = model(images, projections, pelvis).keypoints     # (B, 17, 3)

Source: Ma et al., "Context Modeling in 3D Human Pose Estimation: A Unified Perspective", CVPR 2021.
"""
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from common import checkpoint
from common.contextpose.config import as_config
from common.contextpose.pose_resnet import FEATURES, PoseResNet, backbone_state, check_depth, load_backbone
from common.contextpose.v2v import V2VNet
from common.contextpose.volumetric import (
    aggregate,
    cuboid_points,
    random_angles,
    scale_projections,
    soft_argmax,
    unproject,
)
from common.utils import CheckpointError, UsageError

VOLUME_CHANNELS = 32  # of the features that are unprojected
JOINTS = 17


class ContextPoseOutput(NamedTuple):
    """What the network says of a batch of B people seen in V views."""

    keypoints: torch.Tensor  # (B, 17, 3) world mm
    volumes: torch.Tensor  # (B, 17, n, n, n) probability of each joint at each point
    coordinates: torch.Tensor  # (B, n, n, n, 3) world mm of the points
    global_attention: torch.Tensor | None  # (B, 17, (n/4)^3), None without context attention
    heatmaps: torch.Tensor  # (B, V, 17, H/4, W/4) as the backbone gives them


class ContextPose(nn.Module):
    """The network of ContextPose.

    config: a config.Config, or nested dicts that name what differs from its defaults; limb_mean, limb_std: mean and
    standard deviation of the limbs' lengths in mm, in the order of keypoints.CONTEXTPOSE_LIMBS (files hold one more
    number, that is not used). Its weights are initial ones: `load_initial_weights` loads those that the config names.
    """

    def __init__(self, config, limb_mean, limb_std):
        super().__init__()
        self.config = as_config(config)
        backbone, volume = self.config.model.backbone, self.config.model.volume_net
        self.backbone = PoseResNet(
            backbone.num_layers, backbone.num_final_layer_channel, style=backbone.style,
            confidences=volume.volume_aggregation_method.startswith("conf"))
        self.process_features = nn.Sequential(nn.Conv2d(FEATURES, VOLUME_CHANNELS, 1))
        self.volume_net = V2VNet(VOLUME_CHANNELS, JOINTS, limb_mean, limb_std, volume.temperature, volume.cuboid_size,
                                 use_context_attention=volume.use_context_attention)
        self.fix_backbone(backbone.fix_weights)

    def fix_backbone(self, fixed=True):
        """Leave the backbone as it is while training, weights and running statistics, or train it again."""
        self.backbone_is_fixed = fixed
        self.backbone.requires_grad_(not fixed)
        # No loss reads the heatmaps, and DistributedDataParallel wants a gradient for all that requires one.
        self.backbone.final_layer.requires_grad_(False)
        self.train(self.training)

    def train(self, mode=True):
        """Training mode on or off; a fixed backbone stays in evaluation."""
        super().train(mode)
        if self.backbone_is_fixed:
            self.backbone.eval()
        return self

    def forward(self, images, projections, pelvis, angles=None):
        """images (B, V, 3, H, W), projections K [R|t] (B, V, 3, 4) onto their pixels, pelvis (B, 3) -> its output.

        The images are normalised by the ImageNet mean and deviation; world and pelvis, the centre of the volume, in mm.
        angles: (B,) radians by which the volume is turned about the vertical; by default random ones while training
        and none else. Raises ValueError for other shapes.
        """
        _check_shapes(images, projections, pelvis)
        settings = self.config.model.volume_net
        b, _, _, height, width = images.shape
        heatmaps, features, *confidences = self.backbone(images.flatten(0, 1))  # (BV, 17, h, w), (BV, 256, h, w)
        features = self._by_view(self.process_features(features), b)  # (B, V, 32, h, w)

        # World coordinates are wanted to fractions of a mm: at least float32, whatever the network computes in.
        pelvis = pelvis.to(device=images.device, dtype=torch.promote_types(images.dtype, torch.float32))
        if angles is None and self.training:
            angles = random_angles(b, like=pelvis)
        points = cuboid_points(pelvis, settings.cuboid_size, settings.volume_size, angles)  # (B, n, n, n, 3)
        projections = scale_projections(projections.to(pelvis), features.shape[4] / width, features.shape[3] / height)
        views = unproject(features, projections, points)  # (B, V, 32, n, n, n)
        volume = aggregate(views, settings.volume_aggregation_method,
                           self._by_view(confidences[0], b) if confidences else None)
        scores, attention = self.volume_net(volume.to(features.dtype))  # (B, 17, n, n, n), (B, 17, (n/4)^3)
        joints, volumes = soft_argmax(scores, points, settings.volume_multiplier, settings.volume_softmax)
        return ContextPoseOutput(joints, volumes, points, attention, self._by_view(heatmaps, b))

    @staticmethod
    def _by_view(x, samples):
        """(BV, ...) -> (B, V, ...), whatever B and V are when it runs: an export would keep those of `unflatten`."""
        return x.reshape(samples, -1, *x.shape[1:])


def _check_shapes(images, projections, pelvis):
    b, v = images.shape[:2] if images.ndim == 5 else (None, None)
    if b is None or v == 0 or tuple(projections.shape) != (b, v, 3, 4) or tuple(pelvis.shape) != (b, 3):
        raise ValueError(
            "expected images (batch, views, 3, height, width), projections (batch, views, 3, 4) and pelvis (batch, 3), "
            f"got {tuple(images.shape)}, {tuple(projections.shape)} and {tuple(pelvis.shape)}")


def load_weights(model, path):
    """Load a checkpoint file of the whole network, running no code that it may hold.

    Raises CheckpointError where it is missing, damaged, hostile or of another network.
    """
    content = checkpoint.load(path)
    check_depth(backbone_state(content, path), model.backbone.state_dict(), path)
    _check_attention(checkpoint.model_state(content, path), model.state_dict(), path)
    checkpoint.load_into(model, content, path)


def _check_attention(given, wanted, path):
    """Raise CheckpointError, that names the setting which would fit, where one of the networks has no attention."""
    given, wanted = ([name for name in state if ".mid_res." in name] for state in (given, wanted))
    found, expected = (any(".atten_conv." in name for name in names) for names in (given, wanted))
    if given and found != expected:
        raise CheckpointError(f"{path}: weights of a network {'with' if found else 'without'} context attention; "
                              f"it would fit with model.volume_net.use_context_attention: {str(found).lower()}")


def load_initial_weights(model, root="", notice=print):
    """Load the checkpoints that the model's configuration names; root: the folder that their paths are in.

    `model.backbone.checkpoint` where `model.backbone.init_weights` is true, then `model.checkpoint`, of the whole
    network, where `model.init_weights` is. `notice` is called with a line for whatever did not come from the file.
    Raises UsageError where no path is given, CheckpointError where a file is missing or unfit.
    """
    settings = model.config.model
    for place, section in (("model.backbone", settings.backbone), ("model", settings)):
        if not section.init_weights:
            continue
        if not section.checkpoint:
            raise UsageError(f"{place}.init_weights is true, but {place}.checkpoint names no file")
        path = Path(root) / section.checkpoint
        if not path.is_file():
            raise CheckpointError(f"{path}: no such checkpoint; put the published one there, or start without it: "
                                  f"--set {place}.init_weights=false")
        if section is settings:
            load_weights(model, path)
        else:
            load_backbone(model.backbone, path, notice)
