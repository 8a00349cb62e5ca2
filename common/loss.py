"""The only home of metrics: training losses on tensors, evaluation metrics on arrays.

Protocols as in Human3.6M (Ionescu et al., 2014) and MPI-INF-3DHP (Mehta et al., 2017); results are in the unit of the
poses, percentages for PCK and AUC.
"""
import numpy as np

# The 14 joints of the MPI-INF-3DHP order that PCK and AUC count: all but pelvis (14), spine (15) and head (16).
PCK_JOINTS = 14
AUC_THRESHOLDS_MM = np.arange(0, 151, 5)


def mpjpe(predicted, target):
    """Mean per-joint position error (Protocol 1) of tensors (..., 3): a scalar tensor, in the poses' unit."""
    if predicted.shape != target.shape:
        raise ValueError(f"predicted {tuple(predicted.shape)} and target {tuple(target.shape)} differ in shape")
    return (predicted - target).norm(dim=-1).mean()


def _checked(predicted, target):
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if predicted.shape != target.shape or predicted.ndim != 3 or predicted.shape[-1] != 3:
        raise ValueError(f"expected two arrays (frames, J, 3), got {predicted.shape} and {target.shape}")
    return predicted, target


def joint_errors(predicted, target):
    """Euclidean distance of every joint in every frame: (frames, J, 3) twice -> (frames, J)."""
    predicted, target = _checked(predicted, target)
    return np.linalg.norm(predicted - target, axis=-1)


def align(predicted, target):
    """`predicted` after the best similarity per frame: rotation without reflection, scale, translation.

    (frames, J, 3) twice -> (frames, J, 3). A frame whose prediction is a single point cannot be rotated or scaled: it
    stays a point, at the target's mean.
    """
    predicted, target = _checked(predicted, target)
    mean_p, mean_t = predicted.mean(1, keepdims=True), target.mean(1, keepdims=True)
    p, t = predicted - mean_p, target - mean_t
    norm_p = np.sqrt((p**2).sum((1, 2), keepdims=True))
    norm_t = np.sqrt((t**2).sum((1, 2), keepdims=True))
    p = np.divide(p, norm_p, out=np.zeros_like(p), where=norm_p > 0)
    t = np.divide(t, norm_t, out=np.zeros_like(t), where=norm_t > 0)
    u, s, vt = np.linalg.svd(t.transpose(0, 2, 1) @ p)
    # Turn a reflection into the nearest rotation: flip the direction of the smallest singular value.
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, :, -1] *= sign[:, None]
    s[:, -1] *= sign
    rotation = u @ vt
    return s.sum(1)[:, None, None] * norm_t * (p @ rotation.transpose(0, 2, 1)) + mean_t


def p_mpjpe(predicted, target):
    """Protocol 2: MPJPE after the best similarity per frame, of arrays (frames, J, 3)."""
    return float(joint_errors(align(predicted, target), target).mean())


def n_mpjpe(predicted, target):
    """Protocol 3: MPJPE after the best scale per frame, s = <p, t> / <p, p>, of arrays (frames, J, 3)."""
    predicted, target = _checked(predicted, target)
    dot = (predicted * target).sum((1, 2), keepdims=True)
    square = (predicted**2).sum((1, 2), keepdims=True)
    scale = np.divide(dot, square, out=np.zeros_like(dot), where=square > 0)
    return float(joint_errors(scale * predicted, target).mean())


def mean_velocity_error(predicted, target):
    """MPJVE: mean distance of the first differences over time, of arrays (frames, J, 3); 0 for a single frame."""
    predicted, target = _checked(predicted, target)
    if len(predicted) < 2:
        return 0.0
    return float(np.linalg.norm(np.diff(predicted, axis=0) - np.diff(target, axis=0), axis=-1).mean())


def share_below(errors_mm, thresholds_mm):
    """Share of errors, of any shape, strictly below each threshold, in percent: (thresholds,)."""
    errors_mm = np.sort(errors_mm, axis=None)
    return np.searchsorted(errors_mm, thresholds_mm, side="left") / errors_mm.size * 100


def _pck_errors(errors_mm):
    errors_mm = np.asarray(errors_mm)
    if errors_mm.ndim != 2 or errors_mm.shape[1] < PCK_JOINTS:
        raise ValueError(f"expected errors (frames, 17) in the MPI-INF-3DHP order, got {errors_mm.shape}")
    return errors_mm[:, :PCK_JOINTS]


def pck_curve(errors_mm, thresholds_mm, joints=range(PCK_JOINTS)):
    """Share of joint errors strictly below each threshold, in percent: (frames, 17) in the 3DHP order -> (thresholds,).

    joints: which of the first 14 to count; every joint of every frame weighs the same.
    """
    return share_below(_pck_errors(errors_mm)[:, list(joints)], thresholds_mm)


def pck(errors_mm, threshold=150, joints=range(PCK_JOINTS)):
    """Share of joint errors strictly below `threshold` mm, in percent: errors (frames, 17) in the 3DHP order."""
    return float(pck_curve(errors_mm, [threshold], joints)[0])


def auc(errors_mm, joints=range(PCK_JOINTS)):
    """Mean PCK over the 31 thresholds 0, 5, ..., 150 mm, in percent: errors (frames, 17) in the 3DHP order."""
    return float(pck_curve(errors_mm, AUC_THRESHOLDS_MM, joints).mean())
