"""Windows as one would write them for reading: a Python loop over the windows of every batch.

What `common.generators` is compared with, in tests and in `benchmark.py`.
"""
import numpy as np


def plain_windows(poses_3d, poses_2d, pad, left, right, batch_size, random):
    """Yield batches (3D (B, 1, J, 3), 2D (B, 2 * pad + 1, J, C)) of shuffled windows and their mirror images.

    Each target is moved at random as the GLA-GCN release does; `random` is a NumPy RandomState.
    """
    windows = [(i, frame, flip) for i, poses in enumerate(poses_2d) for flip in (False, True)
               for frame in range(len(poses))]
    order = random.permutation(len(windows))
    for first in range(0, len(order), batch_size):
        chosen = [windows[k] for k in order[first : first + batch_size]]
        yield plain_batch(poses_3d, poses_2d, chosen, pad, left, right, random)


def plain_batch(poses_3d, poses_2d, windows, pad, left, right, random):
    """One batch of the windows (sequence, frame, mirrored)."""
    joints, coordinates = poses_2d[0].shape[1:]
    batch_3d = np.empty((len(windows), 1, joints, 3), np.float32)
    batch_2d = np.empty((len(windows), 2 * pad + 1, joints, coordinates), np.float32)
    for row, (i, frame, flip) in enumerate(windows):
        sequence, start, end = poses_2d[i], frame - pad, frame + pad + 1
        low, high = max(start, 0), min(end, len(sequence))
        window = sequence[low:high]
        if low > start or high < end:
            window = np.pad(window, ((low - start, end - high), (0, 0), (0, 0)), "edge")
        batch_2d[row] = window
        batch_3d[row, 0] = poses_3d[i][frame]
        if flip:
            for batch in (batch_2d, batch_3d):
                batch[row, ..., 0] *= -1
                batch[row][:, left + right] = batch[row][:, right + left]
        move(batch_3d[row], random)
    return batch_3d, batch_2d


def move(pose, random):
    """Scale x and y of a pose (1, J, 3) and turn it about the z axis, a little and at random, in place."""
    scale, angle = random.choice([0.95, 1, 1.05]), np.deg2rad(random.choice([-5, 0, 5]))
    x, y = pose[..., 0].copy(), pose[..., 1].copy()
    pose[..., 0] = scale * (np.cos(angle) * x - np.sin(angle) * y)
    pose[..., 1] = scale * (np.sin(angle) * x + np.cos(angle) * y)
