"""The demo people: human motion made by rule, seen by Human3.6M's cameras, and detected as a 2D detector would.

Motion of any length, for the subjects and actions below, without any recorded data: see `common.synthetic_body` for
the bodies, `common.synthetic_motion` for steps and `common.synthetic_actions` for what they do.
"""
import numpy as np

from common.camera import image_coordinates, project_to_2d, world_to_camera
from common.keypoints import H36M_17, H36M_32_NAMES
from common.synthetic_actions import KINDS
from common.synthetic_body import SUBJECT_HEIGHTS, joints, make_body

SUBJECTS = tuple(SUBJECT_HEIGHTS)
ACTIONS = tuple(KINDS)
BLOCK = 8192  # frames worked on at a time: bounds the memory beside the result

# A detector's error per joint (standard deviation per coordinate) as a share of the person's size in the image: with
# people of about 400 pixels, a mean error of about 6 pixels, like that of CPN fine-tuned on Human3.6M.
JOINT_NOISE = {"nose": 0.007, "eye": 0.007, "ear": 0.009, "top": 0.010, "hip": 0.009, "spine": 0.011, "thorax": 0.010,
               "neck": 0.010, "head": 0.010, "shoulder": 0.011, "elbow": 0.016, "wrist": 0.021, "knee": 0.014,
               "ankle": 0.018, "heel": 0.018, "toe": 0.018}
DRIFT_SHARE, DRIFT_MEMORY = 0.7, 0.92  # of the variance that stays from frame to frame, and how long it does
MISS_RATE = 0.002  # misses that begin, per joint and frame; those of noisier joints are more frequent in proportion
LONGEST_MISS = 12  # frames


def action_kind(action):
    """The entry of `ACTIONS` that `action` is a trial of: `Walking`, `Walking 1` and so on; ValueError otherwise."""
    kind, _, trial = action.partition(" ")
    if kind not in KINDS or (trial and not trial.isdigit()):
        raise ValueError(f"unknown action {action!r}; known: {', '.join(ACTIONS)}, each with a number or without")
    return kind


def make_motion(subject, action, frames, seed=0):
    """Joint positions (frames, 32, 3) of one sequence: float32 world metres, z up, 50 frames per second.

    action: one of `ACTIONS`, or a further trial of it such as `Walking 1`. A sequence depends on these four arguments
    only, and a longer one begins with the shorter. ValueError names an unknown subject or action.
    """
    if subject not in SUBJECTS:
        raise ValueError(f"unknown subject {subject!r}; known: {', '.join(SUBJECTS)}")
    body = make_body(subject)
    doing = KINDS[action_kind(action)](subject, action, body, frames, seed)
    plan = doing.plan
    positions = np.empty((frames, len(H36M_32_NAMES), 3), dtype=np.float32)
    for start in range(0, frames, BLOCK):
        now = slice(start, min(start + BLOCK, frames))
        root = np.stack([plan.x[now], plan.y[now]], axis=-1)
        positions[now] = joints(body, root, plan.heading[now], doing.rows(now), doing.feet(now))
    return positions


def make_demo(subjects=SUBJECTS, actions=ACTIONS, frames=300, seed=0):
    """{subject: {action: positions (frames, 32, 3)}}; see `make_motion`."""
    return {subject: {action: make_motion(subject, action, frames, seed) for action in actions} for subject in subjects}


def project_views(positions, cameras):
    """World positions (frames, J, 3) in every camera: a list of (frames, J, 2) float32 pixels."""
    views = []
    for camera in cameras:
        seen = world_to_camera(positions, camera["orientation"], camera["translation"])
        screen = project_to_2d(seen, camera["intrinsic"])
        views.append(image_coordinates(screen, camera["res_w"], camera["res_h"]).astype(np.float32))
    return views


def detect(keypoints, seed, noise=1.0, misses=1.0, skeleton=H36M_17):
    """What a 2D detector would make of true keypoints (frames, J, 2) of a skeleton: (frames, J, 2) float32 pixels.

    The error is worst at wrists and ankles, in proportion to the person's size in the image, partly drifting (AR(1))
    and partly white. Now and then a joint is missed for some frames: found elsewhere, taken for its partner on the
    other side, or left where it was. `noise` and `misses` scale size and frequency; `seed` is an integer or a tuple.
    """
    rng = np.random.default_rng(seed)
    frames, joints_number, _ = keypoints.shape
    size = np.ptp(keypoints, axis=1).max(-1)[:, None]
    share = np.array([JOINT_NOISE[name.split("_")[-1]] for name in skeleton.names()], dtype=np.float32)
    # A miss: when it began, of which of three kinds it is, and how long it lasts.
    frame = np.arange(frames)[:, None]
    begins = rng.random((frames, joints_number), dtype=np.float32) < misses * MISS_RATE * share / share.mean()
    began = np.maximum.accumulate(np.where(begins, frame, -1), axis=0)
    kind = rng.integers(0, 3, (frames, joints_number), dtype=np.int8)
    lasts = rng.integers(1, LONGEST_MISS + 1, (frames, joints_number), dtype=np.int8)
    source = began.clip(0)
    missed = (began >= 0) & (frame - began < np.take_along_axis(lasts, source, axis=0))
    kind = np.where(missed, np.take_along_axis(kind, source, axis=0), -1)
    found = np.where((kind == 0)[..., None], keypoints[:, skeleton.mirror_order()], keypoints)
    found = np.where((kind == 1)[..., None], np.take_along_axis(keypoints, source[..., None], axis=0), found)
    away = rng.standard_normal((frames, joints_number, 2), dtype=np.float32) * 0.08 * size[..., None]
    found = np.where((kind == 2)[..., None], keypoints + np.take_along_axis(away, source[..., None], axis=0), found)
    shake = np.sqrt(DRIFT_SHARE) * _drift(rng, found.shape)
    shake += np.sqrt(1 - DRIFT_SHARE) * rng.standard_normal(found.shape, dtype=np.float32)
    return (found + noise * size[..., None] * share[:, None] * shake).astype(np.float32)


def _drift(rng, shape):
    """An AR(1) process of unit variance along the first axis.

    The sum of past shocks, weighted by powers of the memory, doubles its length with every pass.
    """
    shocks = rng.standard_normal(shape, dtype=np.float32)
    shocks[1:] *= np.sqrt(1 - DRIFT_MEMORY**2)
    step = 1
    while step < shape[0] and DRIFT_MEMORY**step > 1e-6:
        shocks[step:] += DRIFT_MEMORY**step * shocks[:-step].copy()
        step *= 2
    return shocks


# ---- miniatures of the original files, by modules that are made of the people here


def write_mpi_inf_3dhp(folder, **options):
    """The demo people as a miniature raw MPI-INF-3DHP in its original files; see `common.synthetic_raw`."""
    from common.synthetic_raw import write_mpi_inf_3dhp

    write_mpi_inf_3dhp(folder, **options)


def write_h36m(folder, **options):
    """The demo people as a miniature raw Human3.6M with videos, in its archives; see `common.synthetic_h36m`."""
    from common.synthetic_h36m import write_h36m

    write_h36m(folder, **options)


def write_h36m_positions(folder, **options):
    """All of Human3.6M's sequences, short, as CDF files, `.cdf.mat` or h36m.zip; see `common.synthetic_h36m_poses`."""
    from common.synthetic_h36m_poses import write_h36m_positions

    write_h36m_positions(folder, **options)


def write_humaneva(folder, **options):
    """HumanEva-I's exported labels and the detections in its videos; see `common.synthetic_humaneva`."""
    from common.synthetic_humaneva import write_humaneva, write_humaneva_detections

    write_humaneva(folder, **options)
    write_humaneva_detections(folder, **options)


def write_own_video(folder, **options):
    """A video of a demo person and what five detectors say of it; see `common.synthetic_video`."""
    from common.synthetic_video import write_own_video

    write_own_video(folder, **options)
