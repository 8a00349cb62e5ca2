"""What ContextPose is trained with, and what is reported beside it.

Joints are (B, 17, 3) in world mm; valid, (B, 17) or (B, 17, 1) of 0 and 1, or None, says which of them are known. A sum
over no valid joint is 0.

Sources: Ma et al., "Context Modeling in 3D Human Pose Estimation: A Unified Perspective", CVPR 2021; Iskakov et al.,
"Learnable Triangulation of Human Pose", ICCV 2019 (volumetric cross-entropy, smoothed MSE).
"""
import torch

from common.contextpose.volumetric import nearest_voxel, project, target_attention
from common.keypoints import CONTEXTPOSE_LIMBS, CONTEXTPOSE_PELVIS


def _weights(valid, like):
    """valid as weights (B, J), with the dtype and device of the joints `like` (B, J, 3)."""
    if valid is None:
        return like.new_ones(like.shape[:2])
    return valid.to(like).reshape(like.shape[:2])


def _mean_of_coordinates(error, valid):
    weights = _weights(valid, error)
    return (error * weights[..., None]).sum() / (error.shape[-1] * weights.sum()).clamp(min=1)


def mae(predicted, target, valid=None):
    """Mean absolute difference of the coordinates of valid joints."""
    return _mean_of_coordinates((predicted - target).abs(), valid)


def mse(predicted, target, valid=None):
    """Mean squared difference of the coordinates of valid joints."""
    return _mean_of_coordinates((predicted - target).square(), valid)


def mse_smooth(predicted, target, valid=None, *, threshold):
    """`mse`, where squares s above `threshold` count as s^0.1 * threshold^0.9: outliers pull less."""
    squares = (predicted - target).square()
    # The power is taken of large squares only: at 0 its slope is infinite, and 0 * infinity would be the gradient.
    softened = squares.clamp(min=threshold) ** 0.1 * threshold**0.9
    return _mean_of_coordinates(torch.where(squares > threshold, softened, squares), valid)


def volumetric_ce(volumes, points, target, valid=None):
    """Volumetric cross-entropy: the mean over valid joints of -log(p + 1e-6), p at the voxel nearest to the true joint.

    volumes: probabilities (B, J, n, n, n); points: (B, n, n, n, 3) in mm; target: (B, J, 3).
    """
    place = nearest_voxel(points, target)  # (B, J)
    at_target = volumes.flatten(2).gather(2, place[..., None])[..., 0]
    weights = _weights(valid, target)
    return ((at_target + 1e-6).log().neg() * weights).sum() / weights.sum().clamp(min=1)


def global_attention_loss(attention, points, target):
    """Mean squared difference of the global attention (B, J, m) and its target (see volumetric.target_attention)."""
    return (attention.to(points.dtype) - target_attention(target, points)).square().mean()


def heatmap_loss(heatmaps, projections, target, stride):
    """Cross-entropy of the heatmaps, and how far their maxima are from the joints in pixels of the images: two scalars.

    heatmaps: (B, V, 17, h, w), scores; projections: (B, V, 3, 4) onto the pixels of the images, `stride` times as
    large; target: (B, 17, 3) in mm. The cross-entropy is the mean over the joints in the images of -log(p), p the
    softmax of a heatmap at the pixel nearest to its joint.
    """
    h, w = heatmaps.shape[3:]
    pixels, depth = project(target.to(projections), projections)  # (B, V, 17, 2), (B, V, 17)
    column, row = (pixels / stride).round().long().unbind(-1)
    inside = (depth > 0) & (row >= 0) & (row < h) & (column >= 0) & (column < w)
    scores = heatmaps.float().flatten(3)  # (B, V, 17, hw)
    place = torch.where(inside, row * w + column, 0)
    losses = -scores.log_softmax(-1).gather(-1, place[..., None])[..., 0]
    found = scores.argmax(-1)
    found = torch.stack((found % w, found // w), dim=-1) * stride
    distances = torch.linalg.vector_norm(found - pixels, dim=-1)
    count = inside.sum().clamp(min=1)
    return (losses * inside).sum() / count, (distances * inside).sum() / count


def limb_lengths(joints):
    """(B, 17, 3) -> the lengths (B, 16) of the limbs in keypoints.CONTEXTPOSE_LIMBS, in the joints' unit."""
    a, b = zip(*CONTEXTPOSE_LIMBS, strict=True)
    return torch.linalg.vector_norm(joints[:, list(a)] - joints[:, list(b)], dim=-1)


def limb_length_error(predicted, target):
    """Mean absolute difference of the limbs' lengths, in the joints' unit."""
    return (limb_lengths(predicted) - limb_lengths(target)).abs().mean()


def joint_l2(predicted, target, valid=None):
    """Mean distance of valid joints, in their unit."""
    weights = _weights(valid, target)
    return (torch.linalg.vector_norm(predicted - target, dim=-1) * weights).sum() / weights.sum().clamp(min=1)


def pelvis_l2(predicted, target):
    """Mean distance of the pelvis, in the joints' unit."""
    return torch.linalg.vector_norm(predicted[:, CONTEXTPOSE_PELVIS] - target[:, CONTEXTPOSE_PELVIS], dim=-1).mean()


def training_loss(output, target, settings, valid=None):
    """What is minimised, and its parts by name.

    output: of ContextPose; target: (B, 17, 3) in mm; settings: the section `loss` of the configuration. The parts are
    detached scalars, unweighted: that of the criterion under its name, volumetric_ce and global_attention where they
    are used; and, never minimised, limb_length_error_mm, joint_l2_mm and pelvis_l2_mm.
    """
    scale, predicted = settings.scale_keypoints_3d, output.keypoints
    target = target.to(predicted)
    options = {"threshold": settings.mse_smooth_threshold} if settings.criterion == "MSESmooth" else {}
    criterion = {"MAE": mae, "MSE": mse, "MSESmooth": mse_smooth}[settings.criterion]
    total = criterion(predicted * scale, target * scale, valid, **options)
    parts = {settings.criterion: total.detach()}
    if settings.use_volumetric_ce_loss:
        term = volumetric_ce(output.volumes, output.coordinates, target, valid)
        total, parts["volumetric_ce"] = total + settings.volumetric_ce_loss_weight * term, term.detach()
    if settings.use_global_attention_loss and output.global_attention is not None:
        term = global_attention_loss(output.global_attention, output.coordinates, target)
        total, parts["global_attention"] = total + settings.global_attention_loss_weight * term, term.detach()
    with torch.no_grad():
        parts["limb_length_error_mm"] = limb_length_error(predicted, target)
        parts["joint_l2_mm"] = joint_l2(predicted, target, valid)
        parts["pelvis_l2_mm"] = pelvis_l2(predicted, target)
    return total, parts
