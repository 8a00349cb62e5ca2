"""Where the demo people go and stand: smooth random signals, walks, turns on the spot, and the steps they take.

Every table of random numbers is drawn row by row, so a longer motion begins with the shorter one. Times in seconds,
lengths in metres, angles in radians. A gait cycle is one unit of phase: the left foot lands at whole numbers, the
right one at halves; a foot stands for 0.6 of its cycle and swings for 0.4.
"""
from dataclasses import dataclass

import numpy as np

FPS = 50
MARGIN = 8 * FPS  # frames planned beyond the end, so that the last steps know where they go
SWING_START = 0.6
OVERHEAD = 0.26  # share of its cycle at which the body passes over a standing foot
REST_PHASE = 0.05  # both feet on the floor


def ease(s):
    """0 to 1 with zero velocity and acceleration at both ends (the minimum-jerk curve); constant outside [0, 1]."""
    s = np.clip(s, 0, 1)
    return s**3 * (10 + s * (6 * s - 15))


def bump(s):
    """0 to 1 and back over [0, 1], smooth to the second derivative; 0 outside."""
    s = np.clip(s, 0, 1)
    return 64 * (s * (1 - s)) ** 3


def quintic(s, duration, start, end):
    """Position at share `s` of a piece of motion with (position, velocity, acceleration) given at both ends."""
    p0, v0, a0 = start[0], start[1] * duration, start[2] * duration**2
    p1, v1, a1 = end[0], end[1] * duration, end[2] * duration**2
    gap = p1 - p0 - v0 - a0 / 2
    speed, bend = v1 - v0 - a0, a1 - a0
    c3, c4, c5 = 10 * gap - 4 * speed + bend / 2, -15 * gap + 7 * speed - bend, 6 * gap - 3 * speed + bend / 2
    return p0 + s * (v0 + s * (a0 / 2 + s * (c3 + s * (c4 + s * c5))))


class SmoothNoise:
    """Random signals of unit variance that vary over about `period` seconds (cubic B-splines of random knots)."""

    def __init__(self, rng, seconds, period, channels=1):
        self._knots = rng.standard_normal((int(seconds / period) + 5, channels))
        self._period = period

    def __call__(self, t):
        """Values (F, channels) at the times (F,)."""
        index, u = np.divmod(t / self._period, 1)
        index = index.astype(int)
        weights = [(1 - u) ** 3 / 6, (3 * u**3 - 6 * u**2 + 4) / 6, (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6, u**3 / 6]
        # The four weights shrink white knots to a variance of 0.479 on average.
        return sum(w[:, None] * self._knots[index + i] for i, w in enumerate(weights)) / np.sqrt(0.479)


@dataclass
class Plan:
    """Per frame: gait phase, the way of the root (F,) each, and how much of a gait is under way (0 to 1).

    event (F,): number of the current event, elapsed (F,): seconds since it began; per event: dwell, the seconds it
    rests, and turn, by how much the heading changes after that.
    """

    phase: np.ndarray
    x: np.ndarray
    y: np.ndarray
    heading: np.ndarray
    gait: np.ndarray
    event: np.ndarray
    elapsed: np.ndarray
    dwell: np.ndarray
    turn: np.ndarray


def walk_plan(rng, frames, centre, radius, speed, stride):
    """Walk round and round `centre` on a loop whose radius breathes; the direction is drawn."""
    lead = 2  # frames cut off again: slopes are one-sided at the first
    t = np.arange(frames + MARGIN + lead) / FPS
    seconds = t[-1]
    side, start = rng.choice([-1.0, 1.0]), rng.uniform(0, 2 * np.pi)
    noise_seeds = rng.spawn(2)
    drift = SmoothNoise(noise_seeds[0], seconds, 3.0, 2)(t)
    wander = SmoothNoise(noise_seeds[1], seconds, 2.5)(t)[:, 0]
    pace = speed * (1 + 0.08 * np.tanh(drift[:, 0]))
    r = radius * (1 + 0.1 * np.tanh(wander) + 0.07 * np.tanh(drift[:, 1]))
    angle = start + side * np.cumsum(pace / r) / FPS
    x, y = centre[0] + r * np.cos(angle), centre[1] + r * np.sin(angle)
    heading = np.unwrap(np.arctan2(np.gradient(y), np.gradient(x)))
    phase = REST_PHASE + np.cumsum(pace / stride) / FPS
    phase, x, y, heading, t = (signal[lead:] for signal in (phase, x, y, heading, t))
    return Plan(phase, x, y, heading, np.ones(len(t)), np.zeros(len(t), dtype=int), t, np.array([seconds]), np.zeros(1))


def stand_plan(rng, frames, centre, spread, dwell, turn, cycles, period):
    """Stand for a while, step to another place and heading nearby, stand again, and so on.

    dwell: (shortest, longest) seconds of a rest; turn: largest change of heading; cycles: the numbers of gait cycles
    of a move to draw from (0: stay); spread: radius of the area to stand in; period: seconds per gait cycle.
    """
    t = np.arange(frames + MARGIN) / FPS
    count = int(t[-1] / dwell[0]) + 2
    draws = rng.random((count, 5))
    rests = dwell[0] + (dwell[1] - dwell[0]) * draws[:, 0]
    steps = np.array(cycles)[(draws[:, 1] * len(cycles)).astype(int)]
    moving = steps > 0
    # A move of few steps turns and goes as far as legs allow.
    furthest = np.minimum(turn, 0.6 + 0.6 * steps)
    turns = np.where(moving, furthest * (2 * draws[:, 2] - 1), 0)
    heading = 2 * np.pi * draws[0, 2] + np.concatenate([[0], np.cumsum(turns)])
    wished = spread * np.sqrt(draws[:, 3:4]) * np.stack(
        [np.cos(2 * np.pi * draws[:, 4]), np.sin(2 * np.pi * draws[:, 4])], axis=-1)
    places = _reachable(centre + wished, np.where(moving, 0.15 + 0.13 * steps, 0))
    length = rests + steps * period
    begin = np.concatenate([[0], np.cumsum(length)[:-1]])
    event = np.searchsorted(begin, t, side="right") - 1
    elapsed = t - begin[event]
    travelled = ((elapsed - rests[event]) / period).clip(0, None)
    phase = REST_PHASE + np.concatenate([[0], np.cumsum(steps)[:-1]])[event] + travelled
    # The body moves between the first lift-off and the last landing: resting feet are those of the place and heading.
    whole = np.maximum(steps[event], 1)
    share = ease((travelled + REST_PHASE - 0.3) / (whole - 0.3 - OVERHEAD))
    x, y = (places[event, i] + share * (places[event + 1, i] - places[event, i]) for i in (0, 1))
    gait = np.where(moving[event], ease(travelled / 0.3) * ease((whole - travelled) / 0.3), 0)
    return Plan(phase, x, y, heading[event] + share * turns[event], gait, event, elapsed, rests, turns)


def _reachable(wished, limits):
    """Places (events + 1, 2) from the first wished one on, each at most `limits` (events,) from the one before."""
    places = [wished[0]]
    for wish, limit in zip(wished, limits, strict=True):
        way = wish - places[-1]
        places.append(places[-1] + way * min(1, limit / max(np.hypot(*way), 1e-9)))
    return np.array(places)


def active(plan, frames, rise):
    """0 to 1 and back within each rest (F,): how far the action of the rest is under way; `rise` seconds (events,)."""
    event, elapsed = plan.event[frames], plan.elapsed[frames]
    rise = np.minimum(rise[event], plan.dwell[event] / 2)
    return ease(elapsed / rise) * ease((plan.dwell[event] - elapsed) / rise)


class Feet:
    """The feet of a plan: planted while they stand, on a minimum-jerk way to the next place while they swing."""

    def __init__(self, plan, body, half_stance, toe_out, step_height):
        self._plan, self._step_height = plan, step_height
        self._full_stride = 1.4 * body.leg
        self._places = {}
        for side, sign, offset in (("left", 1, 0.0), ("right", -1, 0.5)):
            # In cycle c a foot stands under the body of phase c + offset + OVERHEAD; one cycle more at either end.
            middle = np.arange(int(plan.phase[-1]) + 3) - 1 + offset + OVERHEAD
            x, y, heading = (np.interp(middle, plan.phase, way) for way in (plan.x, plan.y, plan.heading))
            ahead, aside = body.ankle_to_ball - 0.02, sign * half_stance
            self._places[side] = offset, np.stack([
                x + np.cos(heading) * ahead - np.sin(heading) * aside,
                y + np.sin(heading) * ahead + np.cos(heading) * aside,
                heading + sign * toe_out], axis=-1)

    def __call__(self, frames):
        """{"left", "right"}: (F, 6) ball x, y, lift, yaw, heel raise, toe raise of the frames (a slice)."""
        return {side: self._foot(frames, *placed) for side, placed in self._places.items()}

    def _foot(self, frames, offset, places):
        cycle, u = np.divmod(self._plan.phase[frames] - offset, 1)
        cycle = cycle.astype(int) + 1
        here, there = places[cycle], places[cycle + 1]
        swing = ease((u - SWING_START) / (1 - SWING_START))[:, None]
        place = here + swing * (there - here)
        strides = np.linalg.norm(np.diff(places[:, :2], axis=0), axis=-1) / self._full_stride
        vigour = (0.25 + strides).clip(0, 1)
        before, now = vigour[(cycle - 1).clip(0)], vigour[cycle]
        lift = self._step_height * (0.5 + now) * bump((u - SWING_START + 0.03) / (1.01 - SWING_START))
        # Rests fall into the roll of a foot: it goes with the gait, so that who rests stands on flat feet.
        roll = self._plan.gait[frames]
        heel = np.deg2rad(52) * roll * now * ease((u - 0.34) / 0.28) * ease((0.95 - u) / 0.31)
        toe = np.deg2rad(16) * roll * np.where(u < 0.5, before * (1 - ease(u / 0.11)), now * ease((u - 0.78) / 0.22))
        return np.column_stack([place[:, :2], lift, place[:, 2], heel, toe])
