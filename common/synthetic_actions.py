"""What the demo people do: each action plans its steps and poses, then yields the body's controls frame by frame."""
import numpy as np

from common.synthetic_body import CHANNEL, CHANNELS, channel_row, posture, stream
from common.synthetic_motion import (
    FPS,
    MARGIN,
    Feet,
    SmoothNoise,
    active,
    bump,
    ease,
    quintic,
    stand_plan,
    walk_plan,
)

# The middle of what the four cameras of every subject see, and how far from it people stand and walk (metres).
CENTRE = np.array([0.4, 0.65])
STAND_SPREAD, WALK_RADIUS = 0.3, 0.8
GRAVITY = 9.81
# Restlessness: period in seconds and the size of the movement per channel, angles in degrees.
SWAY = {
    0.9: channel_row(spine_roll=0.5, spine_yaw=0.8, head_pitch=1.2, head_roll=0.8, left_flex=1, left_elbow=1.2,
                     right_flex=1, right_elbow=1.2),
    2.5: channel_row(height=0.002, forward=0.008, sideways=0.014, pelvis_roll=1, pelvis_yaw=1.5, spine_pitch=2,
                     spine_roll=1.5, spine_yaw=3, head_pitch=4, head_yaw=11, head_roll=2, left_flex=3, left_abduct=1.5,
                     left_twist=4, left_elbow=5, right_flex=3, right_abduct=1.5, right_twist=4, right_elbow=5),
}
# One gait cycle, as multiples of cos(2 pi phase): at phase 0 the left foot lands, so the left arm is behind.
GAIT_SWING = channel_row(left_flex=-21, right_flex=21, left_elbow=-9, right_elbow=9, pelvis_yaw=-5, spine_yaw=9,
                         head_yaw=-4)
# The same for cos(2 pi (phase - 0.3)): the left foot carries the body at phase 0.3.
GAIT_SHIFT = channel_row(sideways=0.024, pelvis_roll=3, spine_roll=-4, head_roll=1)
# The same for 1 + cos(4 pi (phase - 0.05)): the body is lowest when both feet are down; it gives way more softly.
GAIT_SINK = channel_row(height=-0.03)
GAIT_GIVE = channel_row(give=0.012)


class Action:
    """One sequence of an action: steps planned for all its frames, body controls for slices of them.

    The settings below are those of `stand_plan`; rise: shortest and longest seconds into the pose of an event. A kind
    of action says by `target(rng)` which pose an event takes, and by `add(rows, frames)` what is more than a pose.
    """

    dwell, turn, cycles, period, rise = (1.8, 3.2), 1.8, (0, 1, 2, 2), 1.2, (0.6, 1.0)
    stance, stepping, keeps_pose = 1.0, 0.4, False

    def __init__(self, subject, name, body, frames, seed):
        self._key, self.body = (seed, subject, name), body
        self.style = stream("style", subject).uniform(-1, 1, 8)
        self.seconds = (frames + MARGIN) / FPS
        self.plan = self.make_plan(self.stream("plan"), frames)
        half_stance = self.stance * body.half_hips * (1.15 + 0.2 * self.style[0])
        self.feet = Feet(self.plan, body, half_stance, np.deg2rad(9 + 4 * self.style[1]), 0.05 + 0.01 * self.style[2])
        self._sway = [(SmoothNoise(self.stream("sway", str(period)), self.seconds, period, len(CHANNELS)), size)
                      for period, size in SWAY.items()]
        rng, events = self.stream("poses"), self.plan.event[-1] + 2
        self._rise = np.empty(events)
        self._targets = np.empty((events, len(CHANNELS)))
        for event in range(events):
            self._rise[event] = rng.uniform(*self.rise)
            self._targets[event] = self.target(rng) - posture()
        self._habit = posture(
            spine_pitch=3 + 3 * self.style[3], head_pitch=2 + 5 * self.style[4],
            **{f"{side}_{name}": middle + spread * self.style[i] for side in ("left", "right")
               for name, middle, spread, i in (("abduct", 10, 3, 5), ("twist", 12, 8, 6), ("elbow", 17, 7, 7))})

    def stream(self, *signal):
        """A generator for one signal of this sequence."""
        return stream(*self._key, *signal)

    def make_plan(self, rng, frames):
        return stand_plan(rng, frames, CENTRE, STAND_SPREAD, self.dwell, self.turn, self.cycles, self.period)

    def target(self, rng):
        return posture()

    def add(self, rows, frames):
        """Change posture rows in place: the movement that this kind of action adds."""

    def rows(self, frames):
        """Postures (F, len(CHANNELS)) of the frames (a slice)."""
        t = np.arange(frames.start, frames.stop) / FPS
        rows = self._habit + self._pose(frames)
        for noise, size in self._sway:
            rows += noise(t) * size
        cycle = 2 * np.pi * self.plan.phase[frames]
        gait = self.plan.gait[frames]
        for row, size in ((GAIT_SWING, self.stepping * np.cos(cycle)),
                          (GAIT_SHIFT, self.stepping * np.cos(cycle - 0.6 * np.pi)),
                          (GAIT_SINK, self.stepping * (1 + np.cos(2 * cycle - 0.2 * np.pi))), (GAIT_GIVE, 1)):
            rows += (gait * size)[:, None] * row
        self.add(rows, frames)
        return rows

    def _pose(self, frames):
        event = self.plan.event[frames]
        if not self.keeps_pose:
            return active(self.plan, frames, self._rise)[:, None] * self._targets[event]
        rise = np.minimum(self._rise, 1.0)[event]
        rise = np.minimum(rise, self.plan.dwell[event] / 2)
        share = ease((self.plan.elapsed[frames] - self.plan.dwell[event]) / rise + 1)[:, None]
        return self._targets[event] + share * (self._targets[event + 1] - self._targets[event])


class Walking(Action):
    """Round and round the room."""

    stance, stepping = 0.6, 1.0

    def make_plan(self, rng, frames):
        speed = 1.05 + 0.1 * self.style[0] + rng.uniform(-0.15, 0.15)
        stride = self.body.leg * (1.35 + 0.08 * self.style[1]) * (0.55 + 0.45 * speed / 1.05)
        return walk_plan(rng, frames, CENTRE, WALK_RADIUS, speed, stride)

    def add(self, rows, frames):
        plan = self.plan
        turning = np.gradient(plan.heading)[frames] * FPS
        speed = np.hypot(np.gradient(plan.x), np.gradient(plan.y))[frames] * FPS
        lean = 0.5 * turning * speed / GRAVITY
        rows[:, CHANNEL["sideways"]] += lean
        rows[:, CHANNEL["pelvis_roll"]] -= 0.5 * lean
        rows[:, CHANNEL["spine_roll"]] -= 0.5 * lean
        rows[:, CHANNEL["head_yaw"]] += 0.15 * turning


class SittingDown(Action):
    """Down on a chair nobody sees, and up again."""

    dwell, turn, cycles, rise = (3.6, 6.0), 1.6, (1, 2, 2), (1.1, 1.5)

    def target(self, rng):
        elbow, flex = rng.uniform(50, 80), rng.uniform(18, 32)
        arms = {"flex": flex, "abduct": rng.uniform(6, 14), "twist": rng.uniform(15, 35), "elbow": elbow}
        return posture(
            height=rng.uniform(0.47, 0.54), forward=rng.uniform(-0.5, -0.44), pelvis_pitch=rng.uniform(-10, 2),
            spine_pitch=rng.uniform(0, 22), spine_yaw=rng.uniform(-12, 12), head_pitch=rng.uniform(-8, 15),
            head_yaw=rng.uniform(-25, 25), knees=rng.uniform(4, 14),
            **{f"{side}_{name}": value for side in ("left", "right") for name, value in arms.items()})

    def add(self, rows, frames):
        share = active(self.plan, frames, self._rise)
        # The trunk leans over the feet on the way, or one would fall.
        lean = 4 * share * (1 - share)
        rows[:, CHANNEL["pelvis_pitch"]] += np.deg2rad(18) * lean
        rows[:, CHANNEL["spine_pitch"]] += np.deg2rad(16) * lean


class Waving(Action):
    """Greet somebody with one hand, now and then with both."""

    cycles = (0, 0, 2, 2)

    def target(self, rng):
        sides = [("left",), ("right",), ("right",), ("left", "right")][rng.integers(4)]
        names = {"flex": rng.uniform(5, 40), "abduct": rng.uniform(65, 100), "twist": rng.uniform(-95, -70),
                 "elbow": rng.uniform(65, 95)}
        return posture(spine_roll=rng.uniform(-4, 4), head_yaw=rng.uniform(-20, 20), head_pitch=rng.uniform(-8, 5),
                       **{f"{side}_{name}": value for side in sides for name, value in names.items()})

    def add(self, rows, frames):
        t = np.arange(frames.start, frames.stop) / FPS
        rate = 1.5 + 0.25 * self.style[0]
        wave = np.sin(2 * np.pi * rate * t + 0.8 * self._sway[1][0](t)[:, 0])
        share = active(self.plan, frames, self._rise)
        for side in ("left", "right"):
            # Only a raised arm waves.
            raised = share * (self._targets[self.plan.event[frames], CHANNEL[f"{side}_abduct"]] > 0.5)
            rows[:, CHANNEL[f"{side}_twist"]] += np.deg2rad(20) * wave * raised
            rows[:, CHANNEL[f"{side}_elbow"]] += np.deg2rad(10) * wave * raised


class Crouching(Action):
    """Down to the floor on the balls of the feet, hands on the knees or at the floor."""

    dwell, rise = (2.4, 4.5), (0.8, 1.2)

    def target(self, rng):
        depth = rng.uniform(0, 1)
        flex, elbow = rng.uniform(35, 70), rng.uniform(25, 70)
        return posture(
            height=0.72 - 0.27 * depth, forward=-0.16 - 0.04 * depth, heels=12 + 22 * depth, knees=rng.uniform(8, 24),
            pelvis_pitch=rng.uniform(15, 28), spine_pitch=rng.uniform(12, 32), spine_yaw=rng.uniform(-15, 15),
            head_pitch=rng.uniform(-25, 10), left_flex=flex + rng.uniform(-8, 8), right_flex=flex + rng.uniform(-8, 8),
            left_elbow=elbow, right_elbow=elbow, left_abduct=rng.uniform(5, 14), right_abduct=rng.uniform(5, 14),
            left_twist=10, right_twist=10)


class Turning(Action):
    """Turn on the spot by small steps, the head first."""

    dwell, turn, cycles, rise, period = (0.5, 1.4), 3.0, (2, 3, 4), (0.3, 0.6), 1.05

    def target(self, rng):
        return posture(head_yaw=rng.uniform(-35, 35), head_pitch=rng.uniform(-10, 15), spine_yaw=rng.uniform(-12, 12))

    def add(self, rows, frames):
        event, elapsed = self.plan.event[frames], self.plan.elapsed[frames]
        # The glance begins just before the rest ends and is over within the shortest move.
        glance = bump((elapsed - self.plan.dwell[event] + 0.4) / 2.2) * np.tanh(self.plan.turn[event])
        rows[:, CHANNEL["head_yaw"]] += np.deg2rad(28) * glance
        rows[:, CHANNEL["spine_yaw"]] += np.deg2rad(12) * glance


class Reaching(Action):
    """Take something from a shelf, a table or the floor's side, with either hand."""

    cycles, rise = (0, 0, 1, 2), (0.65, 1.0)

    def target(self, rng):
        side = ("left", "right")[rng.integers(2)]
        sign = 1 if side == "left" else -1
        low, across = rng.uniform(0, 1), rng.uniform(-20, 55)
        return posture(
            height=0.997 - 0.16 * low**2, forward=-0.10 * low, heels=8 * (low < 0.2), pelvis_pitch=26 * low**2,
            spine_pitch=3 + 26 * low, spine_yaw=-sign * rng.uniform(-5, 22), spine_roll=-sign * rng.uniform(0, 6),
            head_pitch=30 * low - 18, head_yaw=sign * across / 3,
            **{f"{side}_flex": 140 - 75 * low + rng.uniform(-8, 8), f"{side}_abduct": across,
               f"{side}_twist": rng.uniform(-5, 25), f"{side}_elbow": rng.uniform(10, 40)})


class Jumping(Action):
    """Jumps from both feet, with a swing of the arms; the flight is a ballistic one."""

    dwell, cycles, turn = (2.2, 2.8), (0, 0, 0, 2), 2.0
    # Shares of the leg: the pelvis in the crouch, when the toes leave the floor and in the landing.
    crouched, leaving, landing = 0.72, 1.07, 0.78
    moments = (0.15, 0.65, 0.93)  # seconds into the event: still, lowest, off the floor

    def target(self, rng):
        return posture(head_pitch=rng.uniform(-5, 8), spine_yaw=rng.uniform(-8, 8))

    def _height(self, frames):
        """Height of the pelvis as a share of the leg (F,), and the seconds of flight (F,) of the jump."""
        event, elapsed = self.plan.event[frames], self.plan.elapsed[frames]
        flight = self._rise[event] * 0.2 + 0.14
        still, low, off = self.moments
        speed, weight = GRAVITY * flight / 2 / self.body.leg, GRAVITY / self.body.leg
        stand = posture()[CHANNEL["height"]]
        keys = [(still, stand, 0, 0), (low, self.crouched, 0, 9), (off, self.leaving, speed, -weight),
                (off + flight, self.leaving, -speed, -weight), (off + flight + 0.26, self.landing, 0, 8),
                (off + flight + 0.85, stand, 0, 0)]
        height = np.full(len(event), stand)
        for (begin, *start), (end, *stop) in zip(keys, keys[1:], strict=False):
            share = (elapsed - begin) / (end - begin)
            height = np.where((share >= 0) & (share < 1), quintic(share, end - begin, start, stop), height)
        return height, flight

    def add(self, rows, frames):
        elapsed = self.plan.elapsed[frames]
        height, flight = self._height(frames)
        _, low, off = self.moments
        land = off + flight
        rows[:, CHANNEL["height"]] += height - posture()[CHANNEL["height"]]
        # Feet leave the floor where the legs end; softly, within a centimetre.
        softness = 0.008 / self.body.leg
        rows[:, CHANNEL["air"]] = softness * np.logaddexp(0, (height - self.leaving) / softness)
        bent = 0.02 * np.logaddexp(0, (0.93 - height) / 0.02)
        rows[:, CHANNEL["forward"]] -= 0.42 * bent
        rows[:, CHANNEL["pelvis_pitch"]] += 1.0 * bent
        rows[:, CHANNEL["spine_pitch"]] += 0.9 * bent
        stretched = ease((elapsed - low - 0.06) / (off - low)) * ease((land + 0.2 - elapsed) / 0.24)
        rows[:, CHANNEL["heels"]] += np.deg2rad(48) * stretched
        back = bump(elapsed / 1.1)
        up = ease((elapsed - low + 0.2) / 0.75) * ease((land + 0.6 - elapsed) / 0.8)
        for side in ("left", "right"):
            rows[:, CHANNEL[f"{side}_flex"]] += np.deg2rad(70 + 15 * self.style[0]) * up - np.deg2rad(18) * back
            rows[:, CHANNEL[f"{side}_elbow"]] += np.deg2rad(25) * up


class Phoning(Action):
    """A telephone at one ear, the other hand idle, at the hip or talking; stand and pace."""

    dwell, cycles, rise, keeps_pose = (1.6, 3.6), (0, 1, 2, 3), (0.7, 1.0), True

    def target(self, rng):
        side = "left" if self.style[0] + 0.3 * self.style[1] > 0 else "right"
        other = "right" if side == "left" else "left"
        idle = [{}, {"flex": 30, "abduct": 14, "twist": 35, "elbow": 85},
                {"flex": -32, "abduct": 51, "twist": 38, "elbow": 95}][rng.integers(3)]
        return posture(
            head_roll=rng.uniform(0, 8) * (-1 if side == "left" else 1), head_pitch=rng.uniform(-6, 16),
            head_yaw=rng.uniform(-25, 25), spine_yaw=rng.uniform(-10, 10),
            **{f"{side}_flex": rng.uniform(56, 68), f"{side}_abduct": rng.uniform(2, 16),
               f"{side}_twist": rng.uniform(14, 22), f"{side}_elbow": rng.uniform(134, 141)},
            **{f"{other}_{name}": value for name, value in idle.items()})


KINDS = {kind.__name__: kind for kind in
         (Walking, SittingDown, Waving, Crouching, Turning, Reaching, Jumping, Phoning)}
