"""The demo people's bodies: proportions per subject, and the 32 Human3.6M joints from posture angles.

A posture is a row of named channels (`CHANNELS`): angles in radians, lengths as a share of the leg. The trunk, head
and arms follow by forward kinematics; the legs reach from the hips to feet that stand where the steps put them, so a
planted foot cannot slide and knees and elbows bend one way only. Axes: x forward, y left, z up; metres.
"""
import zlib
from dataclasses import dataclass

import numpy as np

from common.keypoints import H36M_32_NAMES

JOINT = {name: index for index, name in enumerate(H36M_32_NAMES)}
SIDES = (("left", 1.0), ("right", -1.0))
CHANNELS = (
    "height", "forward", "sideways", "air", "give", "pelvis_pitch", "pelvis_roll", "pelvis_yaw",
    "spine_pitch", "spine_roll", "spine_yaw", "head_pitch", "head_roll", "head_yaw", "heels", "knees",
    "left_flex", "left_abduct", "left_twist", "left_elbow", "right_flex", "right_abduct", "right_twist", "right_elbow",
)
CHANNEL = {name: index for index, name in enumerate(CHANNELS)}
LENGTHS = {"height", "forward", "sideways", "air", "give"}
# Angles in degrees of a relaxed stand; what is not named is 0.
STANDING = {"height": 0.997, "give": 0.003, "spine_pitch": 3, "knees": 6, "left_flex": 2, "left_abduct": 9,
            "left_twist": 12, "left_elbow": 16, "right_flex": 2, "right_abduct": 9, "right_twist": 12,
            "right_elbow": 16}

SUBJECT_HEIGHTS = {"S1": 1.64, "S5": 1.58, "S6": 1.80, "S7": 1.90, "S8": 1.72, "S9": 1.77, "S11": 1.84}
# Shares of the stature, from adult anthropometry (Winter, Biomechanics and Motor Control of Human Movement), moved to
# where Human3.6M has its joints.
PROPORTIONS = {
    "thigh": 0.249, "shank": 0.247, "ankle_height": 0.044, "ankle_to_ball": 0.082, "ball_to_toe": 0.042,
    "heel_to_ball": 0.112, "half_hips": 0.072, "lumbar": 0.140, "chest": 0.153, "neck": 0.075, "head": 0.076,
    "half_shoulders": 0.092, "upper_arm": 0.165, "forearm": 0.146, "hand": 0.062, "thumb": 0.055,
}
SOLE = 0.015  # metres from the floor to the joints of a flat forefoot
ELBOW_SOFTNESS = np.deg2rad(4)  # the elbow comes to rest gradually where it would bend backwards
FULL_REACH = 0.9995  # of the leg's length: a knee never locks


@dataclass(frozen=True)
class Body:
    """Segment lengths of one person in metres; see `PROPORTIONS`."""

    stature: float
    thigh: float
    shank: float
    ankle_height: float
    ankle_to_ball: float
    ball_to_toe: float
    heel_to_ball: float
    half_hips: float
    lumbar: float
    chest: float
    neck: float
    head: float
    half_shoulders: float
    upper_arm: float
    forearm: float
    hand: float
    thumb: float

    @property
    def leg(self):
        return self.thigh + self.shank


def stream(*key):
    """A random generator of its own for `key` (integers and strings): signals do not depend on one another."""
    return np.random.default_rng([part if isinstance(part, int) else zlib.crc32(part.encode()) for part in key])


def make_body(subject):
    """The `Body` of `subject`: the same person whatever the seed of the motion."""
    stature = SUBJECT_HEIGHTS[subject]
    spread = stream("body", subject).uniform(-0.045, 0.045, len(PROPORTIONS))
    shares = {name: share * (1 + s) for (name, share), s in zip(PROPORTIONS.items(), spread, strict=True)}
    return Body(stature, **{name: share * stature for name, share in shares.items()})


def channel_row(**channels):
    """A row (len(CHANNELS),) of named channels, angles given in degrees; channels not named are 0."""
    row = np.zeros(len(CHANNELS))
    for name, value in channels.items():
        row[CHANNEL[name]] = value if name in LENGTHS else np.deg2rad(value)
    return row


def posture(**channels):
    """A posture row (len(CHANNELS),): angles in degrees; channels not named are those of a relaxed stand."""
    return channel_row(**{**STANDING, **channels})


def rotation(yaw, pitch, roll):
    """Rotation matrices (F, 3, 3): roll about x, then pitch about y (forward), then yaw about z. Radians (F,)."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    rows = [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr,
            sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr,
            -sp, cp * sr, cp * cr]
    return np.stack(np.broadcast_arrays(*rows), axis=-1).reshape(-1, 3, 3)


def _bend(base, middle, tip, length_1, length_2, pole):
    """The middle joint (F, 3) of a two-bone limb from `base` to `tip`, bent towards `pole` (F, 3)."""
    span = tip - base
    distance = np.linalg.norm(span, axis=-1, keepdims=True)
    along = span / distance
    side = pole - (pole * along).sum(-1, keepdims=True) * along
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    cosine = ((length_1**2 + distance**2 - length_2**2) / (2 * length_1 * distance)).clip(-1, 1)
    middle[:] = base + length_1 * (cosine * along + np.sqrt(1 - cosine**2) * side)


def joints(body, root, heading, rows, feet):
    """Joint positions (F, 32, 3) in world metres.

    root (F, 2) and heading (F,): where the person is and looks; rows (F, len(CHANNELS)): postures;
    feet: {"left", "right"}: (F, 6) with the ball's x, y, lift above the floor, the foot's yaw, heel and toe raise.
    """
    channel = dict(zip(CHANNELS, rows.T, strict=True))
    out = np.empty((len(rows), len(H36M_32_NAMES), 3))
    pelvis_frame = rotation(heading + channel["pelvis_yaw"], channel["pelvis_pitch"], channel["pelvis_roll"])
    _place_feet(body, out, feet, channel)
    _place_pelvis(body, out, root, heading, channel, pelvis_frame)
    _place_knees(out, body, channel, pelvis_frame, feet)
    chest = _place_trunk(body, out, channel, pelvis_frame)
    for side, sign in SIDES:
        _place_arm(body, out, channel, chest, side, sign)
    return out


def _place_feet(body, out, feet, channel):
    """Balls, toes and ankles: a raised heel turns the foot about its ball, raised toes turn it about the heel."""
    for side, _ in SIDES:
        x, y, lift, yaw, heel, toe = feet[side].T
        heel = heel + channel["heels"]
        ball = np.stack([x, y, SOLE + lift + channel["air"] * body.leg + body.heel_to_ball * np.sin(toe)], axis=-1)
        foot = rotation(yaw, heel - toe, np.zeros_like(yaw))
        forward = rotation(yaw, -toe, np.zeros_like(yaw))[..., 0]
        out[:, JOINT[f"{side}_foot"]] = ball
        out[:, JOINT[f"{side}_toe"]] = ball + body.ball_to_toe * forward
        out[:, JOINT[f"{side}_ankle"]] = ball + foot @ [-body.ankle_to_ball, 0, body.ankle_height - SOLE]


def _place_pelvis(body, out, root, heading, channel, pelvis_frame):
    """Pelvis and hips, as high as the posture asks but never higher than both legs reach.

    The channel `give` says how gradually the pelvis gives way to a leg that comes to its full reach.
    """
    forward, left = channel["forward"] * body.leg, channel["sideways"] * body.leg
    cosine, sine = np.cos(heading), np.sin(heading)
    pelvis = np.stack([root[:, 0] + cosine * forward - sine * left, root[:, 1] + sine * forward + cosine * left,
                       body.ankle_height + channel["height"] * body.leg], axis=-1)
    ceilings = [pelvis[:, 2]]
    offsets = {side: pelvis_frame @ [0, sign * body.half_hips, 0] for side, sign in SIDES}
    for side, offset in offsets.items():
        ankle = out[:, JOINT[f"{side}_ankle"]]
        away = (((pelvis + offset - ankle)[:, :2]) ** 2).sum(-1)
        rise = np.sqrt(((FULL_REACH * body.leg) ** 2 - away).clip(1e-4))
        ceilings.append(ankle[:, 2] + rise - offset[:, 2])
    # A soft minimum: below each ceiling, and smooth where another one becomes the lowest.
    ceilings = np.stack(ceilings)
    lowest, give = ceilings.min(0), channel["give"] * body.leg
    pelvis[:, 2] = lowest - give * np.log(np.exp((lowest - ceilings) / give).sum(0))
    out[:, JOINT["hip"]] = out[:, JOINT["spine_base"]] = pelvis
    for side, offset in offsets.items():
        out[:, JOINT[f"{side}_hip"]] = pelvis + offset


def _place_knees(out, body, channel, pelvis_frame, feet):
    """Knees point between where the pelvis and the foot point, and outwards by the channel `knees`."""
    for side, sign in SIDES:
        yaw = feet[side][:, 3] + sign * channel["knees"]
        pole = pelvis_frame[..., 0] + np.stack([np.cos(yaw), np.sin(yaw), np.full_like(yaw, 0.3)], axis=-1)
        _bend(out[:, JOINT[f"{side}_hip"]], out[:, JOINT[f"{side}_knee"]], out[:, JOINT[f"{side}_ankle"]],
              body.thigh, body.shank, pole)


def _place_trunk(body, out, channel, pelvis_frame):
    """Spine, thorax, neck and head; returns the chest's frame (F, 3, 3)."""
    bend = [channel[f"spine_{axis}"] for axis in ("yaw", "pitch", "roll")]
    turn = [channel[f"head_{axis}"] for axis in ("yaw", "pitch", "roll")]
    lumbar = pelvis_frame @ rotation(*(0.45 * angle for angle in bend))
    chest = pelvis_frame @ rotation(*bend)
    neck = chest @ rotation(*(0.6 * angle for angle in turn))
    head = chest @ rotation(*turn)
    out[:, JOINT["spine"]] = out[:, JOINT["hip"]] + body.lumbar * (lumbar @ _unit(0.06, 0, 1))
    out[:, JOINT["thorax"]] = out[:, JOINT["spine"]] + body.chest * (chest @ _unit(-0.08, 0, 1))
    # Human3.6M's neck joint lies towards the nose: the way it points shows where the person looks.
    out[:, JOINT["neck"]] = out[:, JOINT["thorax"]] + body.neck * (neck @ _unit(0.42, 0, 1))
    out[:, JOINT["head"]] = out[:, JOINT["neck"]] + body.head * (head @ _unit(-0.12, 0, 1))
    return chest


def _place_arm(body, out, channel, chest, side, sign):
    """Shoulder, elbow, wrist and hand; a raised arm takes its shoulder along, as the shoulder blade does."""
    flex, abduct, twist, elbow = (channel[f"{side}_{name}"] for name in ("flex", "abduct", "twist", "elbow"))
    elbow = ELBOW_SOFTNESS * np.logaddexp(0, elbow / ELBOW_SOFTNESS)
    zero = np.zeros_like(flex)
    arm = rotation(zero, -flex, zero) @ rotation(zero, zero, sign * abduct) @ rotation(-sign * twist, zero, zero)
    upper = arm @ np.array([0, 0, -1.0])
    collar = rotation(-sign * 0.25 * upper[:, 0], zero, sign * 0.3 * (1 + upper[:, 2]))
    forearm = chest @ arm @ rotation(zero, -elbow, zero)
    thorax = out[:, JOINT["thorax"]]
    shoulder = thorax + body.half_shoulders * ((chest @ collar) @ _unit(0, sign, -0.1))
    wrist = shoulder + body.upper_arm * np.einsum("fij,fj->fi", chest, upper) - body.forearm * forearm[..., 2]
    hand = wrist + body.hand * (forearm @ _unit(0.2, -0.1 * sign, -1))
    out[:, JOINT[f"{side}_collar"]] = thorax
    out[:, JOINT[f"{side}_shoulder"]] = shoulder
    out[:, JOINT[f"{side}_elbow"]] = shoulder + body.upper_arm * np.einsum("fij,fj->fi", chest, upper)
    out[:, JOINT[f"{side}_wrist"]] = out[:, JOINT[f"{side}_thumb_base"]] = wrist
    out[:, JOINT[f"{side}_thumb"]] = wrist + body.thumb * (forearm @ _unit(0.8, -0.3 * sign, -1))
    out[:, JOINT[f"{side}_hand"]] = out[:, JOINT[f"{side}_hand_tip"]] = hand


def _unit(x, y, z):
    return np.array([x, y, z]) / np.sqrt(x * x + y * y + z * z)
