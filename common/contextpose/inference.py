"""Poses of a dataset's samples, shared among processes, and what they are worth."""
import numpy as np
import torch

from common.engine import autocast
from common.utils import Interrupted


def batches_of(keys, size):
    """Split keys into batches of at most `size` with the same number of views: [[(row, views), ...]], in order."""
    batches = []
    for key in keys:
        if not batches or len(batches[-1]) == size or len(batches[-1][-1][1]) != len(key[1]):
            batches.append([])
        batches[-1].append(key)
    return batches


def predict(model, loader, batches, processes, amp="off", stop=None, desc="evaluating"):
    """Joints (n, 17, 3), float32 world mm, of all samples of `batches`, in order, on every process.

    loader: `loading.Loader`. Whole batches are shared among the processes: each is computed as one process would, and
    no figure depends on their number. Raises Interrupted when `stop` was requested in any process.
    """
    model.eval()
    own, poses = range(processes.rank, len(batches), processes.world_size), {}
    loaded = loader.epoch([batches[i] for i in own], desc=desc)
    for turn in range(-(-len(batches) // processes.world_size)):
        if turn < len(own):
            batch = next(loaded)
            with torch.inference_mode(), autocast(processes.device, amp):
                poses[own[turn]] = model(*batch.inputs()).keypoints.float().cpu().numpy()
        if stop is not None and processes.any(stop.requested):
            loaded.close()
            raise Interrupted("stopped while evaluating; the same command evaluates again")
    loaded.close()
    merged = {i: pose for part in processes.gather(poses) for i, pose in part.items()}
    return np.concatenate([merged[i] for i in range(len(batches))])


def evaluate(model, loader, processes, amp="off", stop=None, desc="evaluating"):
    """Evaluate on all of the dataset's keys: (metrics, arrays for `write_results`, the report as text).

    The arrays: keypoints_3d and keypoints_gt (n, 17, 3) world mm, indexes (n,), the rows, views (n, V), -1 where there
    are fewer, and the labels of the dataset.
    """
    dataset = loader.dataset
    batches = batches_of(dataset.keys(), dataset.section.batch_size)
    predicted = predict(model, loader, batches, processes, amp, stop, desc)
    keys = [key for batch in batches for key in batch]
    metrics, text = dataset.report(predicted, keys)
    rows, views = zip(*keys, strict=True)
    most = max(map(len, views))
    arrays = {"keypoints_3d": predicted, "keypoints_gt": dataset.keypoints[list(rows)], "indexes": np.array(rows),
              "views": np.array([[*seen, *[-1] * (most - len(seen))] for seen in views]), **dataset.labels(keys)}
    return metrics, arrays, text
