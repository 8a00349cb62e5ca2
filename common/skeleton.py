"""A skeleton: which joint hangs on which, and which joints are left and right."""
import numpy as np


class Skeleton:
    """Joint hierarchy of one dataset.

    parents: one index per joint, -1 for the root; joints_left, joints_right: index lists in mirror order;
    names: one name per joint, or None.
    """

    def __init__(self, parents, joints_left, joints_right, names=None):
        parents = [int(p) for p in parents]
        if len(joints_left) != len(joints_right):
            raise ValueError(f"{len(joints_left)} left joints but {len(joints_right)} right joints")
        if names is not None and len(names) != len(parents):
            raise ValueError(f"{len(names)} joint names for {len(parents)} joints")
        self._parents = parents
        self._left, self._right = list(joints_left), list(joints_right)
        self._names = list(names) if names is not None else None

    def num_joints(self):
        return len(self._parents)

    def parents(self):
        return list(self._parents)

    def joints_left(self):
        return list(self._left)

    def joints_right(self):
        return list(self._right)

    def names(self):
        """Joint names; `joint0`, `joint1`, ... where the dataset gives none."""
        return list(self._names) if self._names else [f"joint{i}" for i in range(self.num_joints())]

    def root(self):
        return self._parents.index(-1)

    def bones(self):
        """(child, parent) pairs, one per joint that has a parent."""
        return [(child, parent) for child, parent in enumerate(self._parents) if parent >= 0]

    def mirror_order(self):
        """Index array (J,) that swaps left and right joints: `pose[..., order, :]` names them as a mirror does."""
        order = np.arange(self.num_joints())
        order[self._left + self._right] = self._right + self._left
        return order

    def keep(self, kept, reparent=None):
        """The skeleton of the joints `kept` only, in that order; orphans hang on their nearest kept ancestor.

        reparent: {joint: parent} in the numbering of the result, for links that the dataset's users redraw.
        """
        kept = [int(j) for j in kept]
        new_index = {old: new for new, old in enumerate(kept)}
        parents = []
        for old in kept:
            parent = self._parents[old]
            while parent >= 0 and parent not in new_index:
                parent = self._parents[parent]
            parents.append(new_index[parent] if parent >= 0 else -1)
        for joint, parent in (reparent or {}).items():
            parents[joint] = parent
        names = [self._names[j] for j in kept] if self._names else None
        left = [new_index[j] for j in self._left if j in new_index]
        right = [new_index[j] for j in self._right if j in new_index]
        return Skeleton(parents, left, right, names)
