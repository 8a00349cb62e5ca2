"""Motion as BVH, for Blender and other animation programs: a T-pose of constant bones, and their rotations in time.

    notices = write_bvh("walking.bvh", prediction)          # metres; unit="cm" for centimetres

Y is up; in the rest pose the person faces +Z, with the left side at +X. Every bone has the direction that it has in the
prediction, exactly, and its median length.
"""
import re
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from common.export_tables import BVH_UNITS, even_frames, joint_labels, write_rows, y_up
from common.utils import progress

NO_LENGTH = 1e-5  # metres: shorter bones have no direction
LOCKED = 1e-7  # cosine of the middle angle below which the other two only have a sum
CHANNELS = "Zrotation Xrotation Yrotation"
UP, DOWN, FORWARD, SIDEWAYS = (0, 1, 0), (0, -1, 0), (0, 0, 1), (1, 0, 0)
# From a joint's parent to the joint in the T-pose, by name without side; x is for left joints, of right ones it is -x.
# In pairs: to that joint where it hangs on this one.
REST = {
    "spine_base": UP, "spine": UP, "belly": UP, "thorax": UP, "neck": UP, "head": UP, "head_top": UP,
    "hip": SIDEWAYS, "knee": DOWN, "ankle": DOWN, "foot": FORWARD, "toe": FORWARD, "big_toe": (0, -0.3, 1),
    "small_toe": (0.4, -0.3, 1), "heel": (0, -1, -0.7), "shoulder": SIDEWAYS, "elbow": SIDEWAYS, "wrist": SIDEWAYS,
    "thumb_base": SIDEWAYS, "thumb": (1, 0, 1), "hand": SIDEWAYS, "hand_tip": SIDEWAYS,
    "nose": (0, 1, 0.7), "eye": (0.7, 1, -0.5), "ear": (0.7, 0, -1),
    ("nose", "shoulder"): (0.7, -1, -0.5), ("shoulder", "hip"): DOWN,
}
# Of several children, the one that continues the bone is the first of these.
CONTINUES = ("spine_base", "spine", "belly", "thorax", "neck", "nose", "head", "head_top", "elbow", "wrist", "hand",
             "knee", "ankle", "foot", "big_toe")


@dataclass
class Node:
    """A joint of the file: where it hangs on `parent` (a number in the list of nodes) in the rest pose, and its turns.

    offset: (3,) metres; turns: T rotations from the rest pose, of the world and not of the parent; end: the offset
    (3,) of the end of a bone that no other joint ends.
    """

    name: str
    parent: int
    offset: np.ndarray
    turns: Rotation
    end: np.ndarray | None = None


def write_bvh(path, prediction, unit="m"):
    """Write a `common.export.Prediction` as BVH in a unit of BVH_UNITS; returns lines to print, on its fit too.

    A joint of several children turns with the one that continues it. Each of its other children, and every child of a
    root of several, hangs on a joint of its own at the same place (`thorax_to_left_shoulder`) that turns with it.
    """
    joints, fps, notices = even_frames(prediction)
    joints, parents = y_up(joints), prediction.skeleton.parents()
    lengths, directions = measure(joints, parents)
    fitted = constant_lengths(joints, parents, lengths, directions)
    nodes = pose_nodes(prediction.skeleton, lengths, directions)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in _hierarchy(nodes, BVH_UNITS[unit]))
        file.write(f"MOTION\nFrames: {len(joints)}\nFrame Time: {1 / fps:.9f}\n")
        angles = np.concatenate([euler_angles(_local(nodes, node).as_matrix())
                                 for node in progress(nodes, desc="angles", unit="bone")], axis=-1)
        root = BVH_UNITS[unit] * joints[:, prediction.skeleton.root()]
        write_rows(file, np.concatenate([root, angles], axis=-1), "%.6f", " ")
    return [*notices, f"unit {unit}; axes: y up, in the rest pose facing +z with the left side at +x",
            *_fit_notices(prediction.skeleton, joints, fitted, lengths)]


# ---- bones


def measure(joints, parents):
    """Median bone lengths (J,) and bone directions (T, J, 3) of joints (T, J, 3); the root has none.

    Where a bone has no length in some frames, it keeps the direction of the frame before, or of the first after.
    """
    bones = joints - joints[:, [joint if parent < 0 else parent for joint, parent in enumerate(parents)]]
    lengths = np.linalg.norm(bones, axis=-1)  # (T, J)
    known = lengths > NO_LENGTH
    last = np.maximum.accumulate(np.where(known, np.arange(len(joints))[:, None], -1), axis=0)
    last = np.where(last < 0, known.argmax(axis=0), last)
    directions = bones / np.where(known, lengths, 1)[..., None]
    median = np.median(lengths, axis=0)
    return np.where(median > NO_LENGTH, median, 0), np.take_along_axis(directions, last[..., None], axis=0)


def constant_lengths(joints, parents, lengths, directions):
    """Joints (T, J, 3) with the bones of `measure`, from the root's own path on."""
    fitted = joints.copy()
    for joint in from_root(parents)[1:]:
        fitted[:, joint] = fitted[:, parents[joint]] + lengths[joint] * directions[:, joint]
    return fitted


def from_root(parents):
    """Joint numbers, each after its parent."""
    order = [parents.index(-1)]
    for joint in order:
        order.extend(child for child, parent in enumerate(parents) if parent == joint)
    return order


def _fit_notices(skeleton, joints, fitted, lengths):
    error_mm = 1000 * np.linalg.norm(fitted - joints, axis=-1)
    notices = [f"constant bone lengths move joints by {error_mm.mean():.1f} mm on average, "
               f"{np.quantile(error_mm, 0.95):.1f} mm at the 95th percentile, {error_mm.max():.1f} mm at most"]
    bones = skeleton.bones()
    if bones:
        spread = [np.linalg.norm(joints[:, child] - joints[:, parent], axis=-1).std() for child, parent in bones]
        child, parent = bones[int(np.argmax(spread))]
        names = skeleton.names()
        notices.append(f"the bone whose length varies most, {names[parent]} to {names[child]}, has "
                       f"{1000 * lengths[child]:.0f} mm with a standard deviation of {1000 * max(spread):.1f} mm")
    return notices


# ---- rest pose and rotations


class Bones:
    """Directions of the bones in the rest pose and over time.

    rest: {joint: (3,)}, from its parent to it, unit vectors; directions: (T, J, 3); lengths: (J,). A bone without
    length points where the one that continues it does: `aim` names that bone, or None.
    """

    def __init__(self, skeleton, lengths, directions):
        self.parents, self.lengths, self.directions = skeleton.parents(), lengths, directions
        self.bare = [re.sub("^(left|right)_", "", name) for name in skeleton.names()]
        self.rest = {joint: rest for joint in range(skeleton.num_joints())
                     if (rest := self._by_name(joint, skeleton)) is not None}
        self.aim = {}
        for joint in reversed(from_root(self.parents)):
            continuing = self.children(joint)[:1]
            self.aim[joint] = joint if lengths[joint] else self.aim[continuing[0]] if continuing else None

    def _by_name(self, joint, skeleton):
        parent, name = self.parents[joint], self.bare[joint]
        rest = REST.get((self.bare[parent], name), REST.get(name))
        if parent < 0 or rest is None:
            return None
        side = (joint in skeleton.joints_left()) - (joint in skeleton.joints_right())
        if rest[0] and not side:
            return None
        rest = rest * np.array([side or 1, 1, 1])
        return rest / np.linalg.norm(rest)

    def children(self, joint):
        """The children whose bones point somewhere, first the one that continues the joint.

        Of names that say nothing, that is the one of the longest bone.
        """
        def rank(child):
            name = self.bare[child]
            return CONTINUES.index(name) if name in CONTINUES else len(CONTINUES), -self.lengths[self.aim[child]]
        return sorted((child for child, parent in enumerate(self.parents)
                       if parent == joint and self.aim[child] is not None), key=rank)

    def learn(self, joint, inherited):
        """Give the children that no name gives a rest direction the mean of theirs, as the joint sees them.

        inherited: the rotations (T) of the joint's parent.
        """
        aims = [self.aim[child] for child in self.children(joint)]
        seen_from = self.turns(inherited, [aim for aim in aims if aim in self.rest])
        for aim in aims:
            if aim not in self.rest:
                seen = seen_from.inv().apply(self.directions[:, aim])
                mean = seen.mean(axis=0)
                length = np.linalg.norm(mean)
                self.rest[aim] = mean / length if length > 0.1 else seen[0]

    def turns(self, inherited, aims):
        """The rotations (T) that turn the first bone of `aims` exactly, and the others as nearly as its twist can.

        Nearly: by least squares over the positions of their ends. A single bone is turned by the shortest way from
        where the rotations `inherited` have it.
        """
        if not aims:
            return inherited
        axis = self.directions[:, aims[0]]
        turns = shortest_turn(inherited.apply(self.rest[aims[0]]), axis) * inherited
        along = across = np.zeros(len(axis))
        for aim in aims[1:]:
            now, wanted, weight = turns.apply(self.rest[aim]), self.directions[:, aim], self.lengths[aim] ** 2
            along = along + weight * (_dot(now, wanted) - _dot(now, axis) * _dot(wanted, axis))
            across = across + weight * _dot(axis, np.cross(now, wanted))
        twist = np.where(np.hypot(along, across) > NO_LENGTH ** 2, np.arctan2(across, along), 0)
        return Rotation.from_rotvec(twist[:, None] * axis) * turns


def _dot(a, b):
    return (a * b).sum(axis=-1)


def shortest_turn(start, end):
    """The shortest rotations from unit vectors (T, 3) to others (T, 3); of opposite ones, one of the half turns."""
    middle = start + end
    length = np.linalg.norm(middle, axis=-1, keepdims=True)
    # Perpendicular to the start, by way of the axis of the world that is farthest from it.
    square = np.cross(start, np.eye(3)[np.abs(start).argmin(axis=-1)])
    middle = np.where(length > 1e-7, middle / np.maximum(length, 1e-7), square)
    return Rotation.from_quat(np.concatenate([np.cross(start, middle), _dot(start, middle)[:, None]], axis=-1))


def pose_nodes(skeleton, lengths, directions):
    """The `Node`s of a skeleton, parents first, children right after: what a BVH file lists."""
    bones, names, nodes = Bones(skeleton, lengths, directions), joint_labels(skeleton), []
    still = Rotation.from_quat(np.tile([0.0, 0, 0, 1], (len(directions), 1)))
    waiting = [(skeleton.root(), -1, still, False)]  # joint, node that it hangs on, its rotations, is it a side branch
    bar = progress(total=skeleton.num_joints(), desc="rotations", unit="bone")
    while waiting:
        joint, above, inherited, beside = waiting.pop()
        bar.update()
        if beside:
            inherited = bones.turns(inherited, [joint])
            nodes.append(_side_node(nodes, above, _free(f"{nodes[above].name}_to_{names[joint]}", names), inherited))
            above = len(nodes) - 1
        bones.learn(joint, inherited)
        pointing = bones.children(joint)
        turns = bones.turns(inherited, [bones.aim[child] for child in pointing])
        rest = bones.rest.get(joint, np.array(UP))
        nodes.append(Node(names[joint], above, lengths[joint] * rest, turns))
        here, children = len(nodes) - 1, [child for child, parent in enumerate(bones.parents) if parent == joint]
        if not children:
            nodes[here].end = max(0.3 * lengths[joint], 0.02) * rest
        sides = pointing if nodes[here].parent < 0 and len(pointing) > 1 else pointing[1:]
        sides = [child for child in children if child in sides and lengths[child] > 0]
        waiting += [(child, here, turns, True) for child in reversed(sides)]
        waiting += [(child, here, turns, False) for child in reversed(children) if child not in sides]
    bar.close()
    return nodes


def _side_node(nodes, number, name, turns):
    """A node at the place of another that turns by itself.

    It hangs where the other hangs and not on it: from a joint to the middle of all that hangs on it is where Blender
    draws a bone. The root hangs nowhere; such nodes are then all that hangs on it.
    """
    other = nodes[number]
    if other.parent < 0:
        return Node(name, number, np.zeros(3), turns)
    return Node(name, other.parent, other.offset, turns)


def _free(name, taken):
    while name in taken:
        name += "_"
    return name


# ---- the file


def _hierarchy(nodes, scale):
    """The lines of the rest pose."""
    yield "HIERARCHY"
    depth = []
    for number, node in enumerate(nodes):
        depth.append(0 if node.parent < 0 else depth[node.parent] + 1)
        tab = "\t" * depth[-1]
        yield f"{tab}{'ROOT' if node.parent < 0 else 'JOINT'} {node.name}"
        yield f"{tab}{{"
        yield f"{tab}\tOFFSET {_words(scale * node.offset)}"
        place = "6 Xposition Yposition Zposition" if node.parent < 0 else "3"
        yield f"{tab}\tCHANNELS {place} {CHANNELS}"
        if node.end is not None:
            yield from (f"{tab}\t{line}" for line in ("End Site", "{", f"\tOFFSET {_words(scale * node.end)}", "}"))
        following = nodes[number + 1].parent if number + 1 < len(nodes) else -1
        for closed in range(depth[-1], depth[following] if following >= 0 else -1, -1):
            yield "\t" * closed + "}"


def _words(vector):
    return " ".join(f"{value:.6f}" for value in vector)


def _local(nodes, node):
    """Rotations of a node against its parent."""
    return node.turns if node.parent < 0 else nodes[node.parent].turns.inv() * node.turns


def euler_angles(matrices):
    """Rotation matrices (T, 3, 3) as angles (T, 3) in degrees about Z, X and Y (Z X Y from left to right).

    Of the two solutions of a frame, and of all turns, the one that is next to the frame before: what interpolates
    between frames does not spin. Where the middle angle is 90 degrees, which leaves one freedom, Z is kept.
    """
    r = np.moveaxis(matrices, 0, -1)
    cos = np.hypot(r[2, 0], r[2, 2])
    z, x, y = np.arctan2(-r[0, 1], r[1, 1]), np.arctan2(r[2, 1], cos), np.arctan2(-r[2, 0], r[2, 2])
    locked = cos < LOCKED
    if locked.any():
        last = np.maximum.accumulate(np.where(locked, -1, np.arange(len(z))))
        z = np.where(last < 0, 0 if locked.all() else z[locked.argmin()], z[last])
        y = np.where(locked, np.sign(r[2, 1]) * (np.arctan2(r[1, 0], r[0, 0]) - z), y)
    angles = np.stack([z, x, y], axis=-1)
    other = np.stack([z + np.pi, np.pi - x, y + np.pi], axis=-1)
    stays, changes = (np.abs(_wrapped(choice[1:] - angles[:-1])).sum(axis=-1) for choice in (angles, other))
    # Changing twice is staying: whether a frame takes the other solution is the number of changes so far.
    changed = np.concatenate([[0], np.cumsum(changes < stays)]) % 2 == 1
    angles = np.where(changed[:, None], other, angles)
    return np.rad2deg(np.unwrap(angles, axis=0))


def _wrapped(angles):
    """Angles in radians as those of (-pi, pi]."""
    return np.pi - (np.pi - angles) % (2 * np.pi)
