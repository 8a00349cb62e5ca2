"""Who is who from frame to frame: people are linked by where their joints are expected.

In each frame the best assignment of people to tracks is taken, by the distance of their poses from where the tracks'
last motion leads, relative to the person's scale.
"""
import numpy as np

from common.utils import progress, require

# Distances between poses are means over their joints, as shares of the person's scale: half the diagonal of its joints,
# or about half its height.
ABSENCE = 30  # frames for which a person is expected back: about a second,
TURNS = 5  # and of those in which anybody was found; what comes later is judged by whole tracks (`common.people`)
GATE, GATE_GROWTH, WIDEST_GATE = 0.5, 0.03, 1.3  # how far off it may be, more after every frame of absence
OTHER_SCALE, OTHER_SCALE_LATER = 1.6, 2.2  # ratio of scales at which it is somebody else; after ten frames
SAME_PLACE = 0.2  # two detections of one person
MOST_TRACKS = 200  # at a time
SURE_COST = 0.02  # of the allowed distance: what is less is noise
FEW_JOINTS = 3  # with less in common, the middles of two boxes are compared


def scales_of(keypoints):
    """Half the diagonal (n,) of the joints' extent, pixels; keypoints (n, J, 2), NaN where a joint was not found."""
    extent = np.nanmax(keypoints, axis=1) - np.nanmin(keypoints, axis=1)
    return np.maximum(np.hypot(extent[:, 0], extent[:, 1]) / 2, 1.0)


def pose_distances(first, second):
    """Mean distance (a, b) of the joints that poses (a, J, 2) and (b, J, 2) share, and the ratio of their spreads."""
    known = [np.isfinite(poses[..., 0]) for poses in (first, second)]
    if known[0].all() and known[1].all():
        distance = np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=-1)).mean(axis=-1)
        spreads = [np.sqrt(((poses - poses.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2)) + 1)
                   for poses in (first, second)]
        ratio = spreads[1] / spreads[0][:, None]
        return distance, np.maximum(ratio, 1 / ratio)
    middle = np.nanmean(second, axis=(0, 1))  # sums of squares are exact near it
    placed = [np.where(mask[..., None], poses - middle, 0) for mask, poses in zip(known, (first, second), strict=True)]
    masks = [mask.astype(float) for mask in known]
    shared = masks[0] @ masks[1].T
    count = np.maximum(shared, 1)
    apart = np.sqrt(((placed[0][:, None] - placed[1][None]) ** 2).sum(axis=-1))
    distance = np.einsum("abj,aj,bj->ab", apart, *masks) / count
    spreads = [_spreads(placed[0], masks[1], count), _spreads(placed[1], masks[0], count.T).T]
    ratio = np.sqrt((spreads[1] + 1) / (spreads[0] + 1))
    few = shared < min(FEW_JOINTS, first.shape[1])
    if few.any():
        middles = [(np.nanmin(poses, axis=1) + np.nanmax(poses, axis=1)) / 2 for poses in (first, second)]
        apart = np.linalg.norm(middles[0][:, None] - middles[1][None], axis=-1)
        distance, ratio = np.where(few, apart, distance), np.where(few, 1.0, ratio)
    return distance, np.maximum(ratio, 1 / ratio)


def _spreads(poses, masks, count):
    """(a, b) sums of squared distances of the joints of poses (a, J, 2) from their mean, of those in masks (b, J)."""
    squares = (poses**2).sum(axis=-1) @ masks.T
    sums = poses.transpose(2, 0, 1) @ masks.T
    return (squares - (sums**2).sum(axis=0) / count).clip(0)


class Linker:
    """Tracks that are going on, and what is expected of each in the next frame."""

    def __init__(self, joints):
        self.assign = require("scipy.optimize", "scipy").linear_sum_assignment
        self.poses, self.speeds = np.zeros((0, joints, 2)), np.zeros((0, 2))
        self.scales = np.zeros(0)
        self.seen, self.turns, self.counts, self.labels = (np.zeros(0, dtype=np.int64) for _ in range(4))
        self.made = self.turn = 0

    def link(self, frame, poses, scales, quality, close):
        """Labels (d,) of the tracks of the people in a frame; -1: found twice, the better is in another place.

        close: whether two may be in the same place at all.
        """
        self.turn += 1
        recent = frame - self.seen <= ABSENCE
        if not recent.all():
            self._keep(recent)
        costs = self._costs(frame, poses)
        kept = self._once(poses, scales, quality, costs) if close else np.arange(len(poses))
        late = self.turn - self.turns > TURNS  # known still, so that two who cross are not taken for one
        back, costs[late] = late[:, None] & (costs < 0.6), np.inf
        labels = np.full(len(poses), -1)
        taken = np.zeros(len(kept), bool)
        if len(self.labels) and len(kept):
            # Of the logarithm: one that fits well and one that finds nobody are better than two that fit so so.
            tracks, people = self.assign(np.log(np.minimum(costs[:, kept], 1) + SURE_COST))
            fit = costs[tracks, kept[people]] < 1
            tracks, people = tracks[fit], people[fit]
            taken[people] = True
            labels[kept[people]] = self.labels[tracks]
            self._update(tracks, frame, poses[kept[people]], scales[kept[people]])
        new = kept[~taken]
        labels[new] = self.made + np.arange(len(new))
        if len(new):
            self._keep(~back[:, new].any(axis=1))
            self._begin(frame, poses[new], scales[new])
        return labels

    def _costs(self, frame, poses):
        """(tracks, d) distances from where the tracks are expected, as shares of what is allowed."""
        absent = (frame - self.seen).astype(float)
        expected = self.poses + (self.speeds * absent[:, None])[:, None]
        distance, ratio = pose_distances(expected, poses)
        long = absent > 3
        if long.any():  # it may have stopped
            still, _ = pose_distances(self.poses[long], poses)
            distance[long] = np.minimum(distance[long], still + 0.2 * self.scales[long, None])
        gate = np.minimum(GATE + GATE_GROWTH * absent, WIDEST_GATE) * self.scales
        largest = np.where(absent > 10, OTHER_SCALE_LATER, OTHER_SCALE)
        return np.where(ratio < largest[:, None], distance / gate[:, None], np.inf)

    def _once(self, poses, scales, quality, costs):
        """The people of a frame without those that were found twice; two that cross are two tracks' and stay."""
        distance, _ = pose_distances(poses, poses)
        same = distance < SAME_PLACE * np.maximum(scales[:, None], scales[None])
        if same.sum() == len(poses):
            return np.arange(len(poses))
        dropped = np.zeros(len(poses), bool)
        near = (costs < 0.6) & (self.counts > 2)[:, None]
        if len(costs):
            quality = quality - 0.1 * np.minimum(costs.min(axis=0), 1)
        for best in np.argsort(-quality, kind="stable"):
            for other in np.flatnonzero(same[best] & ~dropped):
                if other != best and not dropped[best] and (near[:, best] | near[:, other]).sum() < 2:
                    dropped[other] = quality[other] <= quality[best]
        return np.flatnonzero(~dropped)

    def _update(self, tracks, frame, poses, scales):
        absent = (frame - self.seen[tracks])[:, None]
        expected = self.poses[tracks] + (self.speeds[tracks] * absent)[:, None]
        off = poses - expected
        compared = np.isfinite(off)
        off = np.where(compared, off, 0).sum(axis=1) / np.maximum(compared.sum(axis=1), 1)
        share = np.maximum(1 / self.counts[tracks], 0.3)[:, None]
        self.speeds[tracks] += share * off / absent
        self.poses[tracks] = np.where(np.isfinite(poses), poses, expected)
        self.scales[tracks] += 0.1 * (scales - self.scales[tracks])
        self.seen[tracks], self.turns[tracks] = frame, self.turn
        self.counts[tracks] += 1

    def _begin(self, frame, poses, scales):
        new = len(poses)
        self.poses, self.speeds = np.concatenate([self.poses, poses]), np.concatenate([self.speeds, np.zeros((new, 2))])
        self.scales = np.concatenate([self.scales, scales])
        self.seen = np.concatenate([self.seen, np.full(new, frame)])
        self.turns = np.concatenate([self.turns, np.full(new, self.turn)])
        self.counts = np.concatenate([self.counts, np.ones(new, int)])
        self.labels = np.concatenate([self.labels, self.made + np.arange(new)])
        self.made += new
        if len(self.labels) > MOST_TRACKS:  # the briefest go
            self._keep(np.sort(np.lexsort((-self.seen, -self.counts))[:MOST_TRACKS]))

    def _keep(self, which):
        for name in ("poses", "speeds", "scales", "seen", "turns", "counts", "labels"):
            setattr(self, name, getattr(self, name)[which])


def link_people(frame, keypoints, quality):
    """Labels (n,) of tracks of people (n, J, 2), sorted by frame (n,); -1 for those that were found twice."""
    keypoints, scales = keypoints.astype(np.float64), scales_of(keypoints)
    if _is_one_track(frame, keypoints, scales):
        return np.zeros(len(frame), dtype=np.int64)
    linker, labels = Linker(keypoints.shape[1]), np.zeros(len(frame), dtype=np.int64)
    close = _frames_with_close_people(frame, keypoints, scales)
    numbers, starts = np.unique(frame, return_index=True)
    spans = zip(numbers.tolist(), starts, [*starts[1:], len(frame)], strict=True)
    for number, start, end in progress(spans, total=len(numbers), desc="linking people", unit="frame"):
        now = slice(start, end)
        labels[now] = linker.link(number, keypoints[now], scales[now], quality[now], number in close)
    return labels


def _frames_with_close_people(frame, keypoints, scales):
    """The set of the frames in which the middles of two people are near enough for them to be the same one."""
    middles, close = np.nanmean(keypoints, axis=1), set()
    for step in range(1, int(np.unique(frame, return_counts=True)[1].max())):
        apart = np.linalg.norm(middles[step:] - middles[:-step], axis=1)
        near = apart < 2 * SAME_PLACE * np.maximum(scales[step:], scales[:-step])
        close.update(frame[step:][near & (frame[step:] == frame[:-step])].tolist())
    return close


def _is_one_track(frame, keypoints, scales):
    """Whether there is one person at a time who never jumps: most videos, and no need to look further."""
    absent = np.diff(frame)
    step = np.linalg.norm(np.diff(keypoints, axis=0), axis=-1)
    if not ((absent > 0) & (absent <= ABSENCE)).all() or not np.isfinite(step).any(axis=1).all():
        return False
    ratio = scales[1:] / scales[:-1]
    near = (np.nanmean(step, axis=1) < GATE * scales[:-1]) & (np.maximum(ratio, 1 / ratio) < OTHER_SCALE)
    return bool(near.all())
