"""Who the main person of a video is, and what to do about the frames and joints that were not found.

Where a file has no track ids, people are linked (`common.linking`). Tracks that follow each other in time, place and
size are one person: an id that changed, a long occlusion. One that jumps is of several: an id that went over to
somebody else. The main person is the one with the largest sum of box sizes over time; who is there all the time weighs
more.
"""
import numpy as np

from common.keypoints import LAYOUTS
from common.linking import link_people, pose_distances, scales_of
from common.utils import UsageError

LONGEST_OCCLUSION = 300  # frames between two tracks of one person
LONGEST_JUMP = 60  # frames for which the last motion is thought to go on
GATE, GATE_GROWTH, WIDEST_GATE = 1.5, 0.015, 3.0  # how far off, in scales, the next track may begin, more every frame
OTHER_SCALE = 1.5  # ratio of scales at which it is somebody else
BRIEF = 5  # frames to the next track of somebody who was seen once only
SURE = 10  # frames from which a track is hardly a false detection
BETWEEN = 0.7  # how far off, in scales, a track may be from the way between two others
# Of a box's area: neither shall somebody twice as tall who walks through outweigh a person who is there all the time
# (as areas would), nor somebody small in the background a person with gaps (as heights would).
SIZE_POWER = 0.75
CONTINUITY = 0.35  # power of the number of frames with somebody, beside the sum of their sizes
LISTED = 8  # people in a message


# --- tracks ---

def tracks_of(labels):
    """[rows of one track] of labels (n,), -1 for none; in the order in which they begin."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    return sorted(np.split(order, np.flatnonzero(np.diff(labels[order])) + 1), key=lambda rows: rows[0])


def without_jumps(tracks, frame, keypoints):
    """The tracks, cut where the next frame has somebody elsewhere or of another size: ids go over to other people."""
    scales, parts = scales_of(keypoints), []
    for rows in tracks:
        step = np.linalg.norm(np.diff(keypoints[rows], axis=0), axis=-1)
        known, absent = np.isfinite(step), np.diff(frame[rows])
        # Where no joint is in both frames, nothing is known.
        moved = np.where(known, step, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        ratio = scales[rows][1:] / scales[rows][:-1]
        other = (moved > BETWEEN * scales[rows][:-1]) & (np.maximum(ratio, 1 / ratio) > OTHER_SCALE)
        cut = (moved > GATE * scales[rows][:-1]) | other
        parts += np.split(rows, np.flatnonzero(cut & (absent <= BRIEF)) + 1)
    return sorted(parts, key=lambda rows: rows[0])


class _Tracks:
    """What is compared of tracks: frames, scales and poses of their ends, and how they moved at last."""

    def __init__(self, tracks, frame, keypoints):
        first, last = (np.array([rows[end] for rows in tracks]) for end in (0, -1))
        scales = scales_of(keypoints)
        self.starts, self.ends = frame[first], frame[last]
        self.first_poses, self.last_poses = (keypoints[rows].astype(np.float64) for rows in (first, last))
        self.scales = np.array([np.median(scales[rows]) for rows in tracks])
        self.lengths = np.array([len(rows) for rows in tracks])
        self.speeds = np.array([_last_speed(rows[-8:], frame, keypoints) for rows in tracks])

    def followers(self, track):
        """[(cost, track, other)] of the tracks that may be the same person later; `starts` must ascend."""
        begin, end = np.searchsorted(self.starts, self.ends[track] + np.array([0, LONGEST_OCCLUSION]), "right")
        others = np.arange(begin, end)
        gaps = self.starts[others] - self.ends[track]
        ratio = self.scales[others] / self.scales[track]
        fit = np.maximum(ratio, 1 / ratio) < OTHER_SCALE
        fit &= (np.minimum(self.lengths[others], self.lengths[track]) > 1) | (gaps <= BRIEF)
        others, gaps = others[fit], gaps[fit]
        if not len(others):
            return []
        poses, pose = self.first_poses[others], self.last_poses[track]
        moved = self.speeds[track] * np.minimum(gaps, LONGEST_JUMP)[:, None]
        distance = np.minimum(pose_distances(pose[None], poses)[0][0],  # it stood still, or went on
                              pose_distances(pose[None], poses - moved[:, None])[0][0]) / self.scales[track]
        near = distance < np.minimum(GATE + GATE_GROWTH * gaps, WIDEST_GATE)
        costs = distance + 0.003 * gaps + (1 - self.lengths[others] / SURE).clip(0)
        return [(cost, track, other) for cost, other in zip(costs[near], others[near], strict=True)]


def _last_speed(rows, frame, keypoints):
    """Pixels a frame (2,) at which a person moved in the last `rows` of a track."""
    moved = keypoints[rows[-1]] - keypoints[rows[0]]
    found = np.isfinite(moved[:, 0])
    if len(rows) < 4 or not found.any():
        return np.zeros(2)
    return moved[found].mean(axis=0) / (frame[rows[-1]] - frame[rows[0]])


def join_tracks(tracks, frame, keypoints):
    """[[places of the tracks of one person, in time]] of tracks in the order of their begin; none overlap in time."""
    known = _Tracks(tracks, frame, keypoints)
    links = sorted(link for track in range(len(tracks)) for link in known.followers(track))
    following, preceded = {}, set()
    for _, track, other in links:
        if track not in following and other not in preceded:
            following[track] = other
            preceded.add(other)
    chains = []
    for track in range(len(tracks)):
        if track not in preceded:
            chain = [track]
            while chain[-1] in following:
                chain.append(following[chain[-1]])
            chains.append(chain)
    return chains


def with_tracks_between(chain, tracks, frame, keypoints):
    """Rows, in time, of the tracks of `chain` and of those that lie in its gaps, on the way from one to the next."""
    rows = np.concatenate([tracks[track] for track in chain])
    known = set(chain)
    for track, between in enumerate(tracks):
        place = np.searchsorted(frame[rows], frame[between[0]])
        if track in known or not 0 < place < len(rows) or frame[rows[place]] <= frame[between[-1]]:
            continue
        before, after = rows[place - 1], rows[place]
        ends = between[[0, -1]]
        share = (frame[ends] - frame[before]) / (frame[after] - frame[before])
        way = keypoints[before] + (keypoints[after] - keypoints[before]) * share[:, None, None]
        if not np.isfinite(way[..., 0]).any():
            continue
        scale = scales_of(keypoints[[before, after]]).mean()
        distance, ratio = (np.diagonal(value) for value in pose_distances(way.astype(np.float64), keypoints[ends]))
        if (distance < BETWEEN * scale).all() and (ratio < OTHER_SCALE).all() and frame[before] < frame[between[0]]:
            rows = np.insert(rows, place, between)
    return rows


# --- the main person ---

def choose_person(detections, person=None):
    """(rows of the detections of the main person, or of `person`, one a frame; [notices]).

    person: an id of the file, or our number, from 0 in the order of appearance. UsageError lists them if it is unknown.
    """
    frame, ids = detections.frame, detections.ids
    if ids is None:
        quality = detections.box_scores + 0.01 * np.isfinite(detections.keypoints[..., 0]).mean(axis=1)
        tracks = tracks_of(link_people(frame, detections.keypoints, quality))
        chains = join_tracks(tracks, frame, detections.keypoints)
        names, groups = list(range(len(chains))), [np.concatenate([tracks[track] for track in chain])
                                                   for chain in chains]
    else:
        groups = tracks_of(np.unique(ids, return_inverse=True)[1].reshape(-1))
        names = [int(ids[rows[0]]) for rows in groups]
        tracks = without_jumps(groups, frame, detections.keypoints) if len(groups) > 1 else groups
        chains = join_tracks(tracks, frame, detections.keypoints)
    if person is not None:
        if person not in names:
            raise UsageError(f"--person {person}: {detections.path} has no such person; there are "
                             f"{_listed(names, groups, detections)}")
        if ids is not None:
            return groups[names.index(person)], []
        return with_tracks_between(chains[person], tracks, frame, detections.keypoints), []
    main = chains[_largest(chains, tracks, detections)]
    rows = with_tracks_between(main, tracks, frame, detections.keypoints)
    if len(groups) == 1:
        return rows, []
    taken = dict.fromkeys(ids[rows].tolist()) if ids is not None else [chains.index(main)]
    return rows, [f"{len(groups)} people were found, {_listed(names, groups, detections)}: "
                  f"{', '.join(map(str, taken))} is taken, the largest over time; --person ID takes another"]


def _largest(chains, tracks, detections):
    """The place of the main person among `chains` of tracks."""
    sides = (detections.boxes[:, 2:] - detections.boxes[:, :2]).clip(1).astype(np.float64)
    sizes = sides.prod(axis=1) ** SIZE_POWER
    rows = [np.concatenate([tracks[track] for track in chain]) for chain in chains]
    return int(np.argmax([sizes[seen].sum() * len(seen) ** CONTINUITY for seen in rows]))


def _listed(names, groups, detections):
    """`0 (90 frames, 410 pixels high), ...` of those that are seen longest."""
    heights = detections.boxes[:, 3] - detections.boxes[:, 1]
    order = sorted(range(len(names)), key=lambda place: -len(groups[place]))[:LISTED]
    order.sort(key=lambda place: names[place])
    text = [f"{names[place]} ({len(groups[place])} frames, {heights[groups[place]].mean():.0f} pixels high)"
            for place in order]
    return ", ".join(text) + (f" and {len(names) - LISTED} seen more briefly" if len(names) > LISTED else "")


# --- gaps ---

def fill_gaps(detections, rows):
    """(keypoints (frames, J, 2) float32, all finite, of the person in `rows`; [notices of what was missing]).

    Each joint is interpolated linearly in time, and stays where it is before the first and after the last time that it
    was found. One that is never found lies where its parent in the skeleton does.
    """
    skeleton = LAYOUTS[detections.layout]
    joints, total = skeleton.num_joints(), detections.frames
    keypoints = np.full((total, joints, 2), np.nan, dtype=np.float32)
    keypoints[detections.frame[rows]] = detections.keypoints[rows]
    present = np.zeros(total, dtype=bool)
    present[detections.frame[rows]] = True
    found = np.isfinite(keypoints[..., 0])
    frames = np.arange(total)
    for joint in np.flatnonzero(found.any(axis=0) & ~found.all(axis=0)):
        at = np.flatnonzero(found[:, joint])
        for axis in range(2):
            keypoints[:, joint, axis] = np.interp(frames, at, keypoints[at, joint, axis])
    never = ~found.any(axis=0)
    _place_unseen(keypoints, never, skeleton)
    return keypoints, _gap_notices(detections.path, present, found, never, skeleton)


def _place_unseen(keypoints, never, skeleton):
    """Joints never found take the place of their parent; roots, of the first joint on them or else of the middle."""
    known, parents = ~never, skeleton.parents()
    middle = keypoints[:, known].mean(axis=1)
    for joint in np.flatnonzero(never):
        ancestor = joint
        while ancestor >= 0 and not known[ancestor]:
            ancestor = parents[ancestor]
        keypoints[:, joint] = keypoints[:, ancestor] if ancestor >= 0 else middle


def _gap_notices(path, present, found, never, skeleton):
    notices, missing = [], int((~present).sum())
    if missing:
        edges = np.flatnonzero(np.diff(np.concatenate([[True], present, [True]])))
        longest = int(np.diff(edges)[::2].max())
        many = "WARNING: " if missing * 2 > len(present) else ""
        notices.append(f"{many}{path}: the person is missing in {missing} of {len(present)} frames (at most {longest} "
                       f"in a row), which were interpolated{'; the result is worth little there' if many else ''}")
    if never.any():
        names = [name for name, unseen in zip(skeleton.names(), never, strict=True) if unseen]
        notices.append(f"{path}: never found, and put where the joint is that they hang on: {', '.join(names)}")
    single = int((~found[present][:, ~never]).sum())
    if single:
        notices.append(f"{path}: {single} joint positions that were not found in frames with the person were "
                       "interpolated")
    return notices
