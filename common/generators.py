"""Windows over pose sequences, in batches, without a Python loop over windows.

All sequences lie padded one behind the other in one array (with `augment`, their mirror images behind them), so that
every window is a contiguous run of rows. A batch is a row copy out of an overlapping strided view of that array: no
copy of the dataset per window is ever made.
"""
import sys

import numpy as np
import torch

from common.augment import mirror, mirror_intrinsics


def _edge_padded(sequence, before, after):
    """(frames, ...) with the first frame repeated `before` times in front and the last `after` times behind."""
    widths = [(before, after)] + [(0, 0)] * (sequence.ndim - 1)
    return np.pad(sequence, widths, "edge")


def _references(items, i):
    """How many references the i-th item has."""
    return sys.getrefcount(items[i])


_UNSHARED = _references([np.empty(0)], 0)


class PaddedSequences:
    """Sequences (frames, J, C) padded by their edges and laid one behind the other, with windows as row copies.

    sides: None, or (left, right) joints: then the mirror images of all rows lie behind them, that of row r in row
    r + num_rows. rows: (all rows, J * C) float32; first_row[i]: where the padded sequence i begins.
    """

    def __init__(self, sequences, before, after, sides=None):
        lengths = np.array([len(s) + before + after for s in sequences], np.int64)
        self.first_row = np.concatenate([[0], np.cumsum(lengths)])
        self.num_rows = int(self.first_row[-1])
        self.joint_shape = sequences[0].shape[1:]
        # NumPy asks for huge pages: rows at random places are found faster in them.
        poses = np.empty(((2 if sides else 1) * self.num_rows, *self.joint_shape), np.float32)
        for first, length, sequence in zip(self.first_row, lengths, sequences, strict=False):
            poses[first : first + length] = _edge_padded(sequence, before, after)
            if sides:
                mirrored = self.num_rows + first
                poses[mirrored : mirrored + length] = mirror(poses[first : first + length], *sides)
        self.rows = torch.from_numpy(poses.reshape(len(poses), -1))
        self._buffers = []

    def windows(self, first_rows, length):
        """The windows of `length` rows that begin at `first_rows` (n,): (n, length, J, C) float32."""
        width = self.rows.shape[1]
        view = self.rows.as_strided((len(self.rows) - length + 1, length * width), (width, 1))
        out = self._free_buffer((len(first_rows), length * width))
        torch.index_select(view, 0, torch.from_numpy(first_rows), out=torch.from_numpy(out))
        return out.reshape(-1, length, *self.joint_shape)

    def _free_buffer(self, shape):
        """An array of `shape` that nobody else holds.

        A batch that its user has dropped is written anew: fresh memory would cost as much time in page faults as the
        copy itself. Every view handed out refers to the array, so its reference count tells whether one lives.
        """
        for i in range(len(self._buffers)):
            if _references(self._buffers, i) == _UNSHARED and self._buffers[i].shape == shape:
                return self._buffers[i]
        self._buffers = [*self._buffers[-2:], np.empty(shape, np.float32)]
        return self._buffers[-1]


class ChunkedGenerator:
    """Batches of windows for training, in VideoPose3D's order and with its arguments.

    Each target chunk of `chunk_length` frames comes with its input window of chunk_length + 2 * pad frames; sequences
    are padded by their edges. With `augment` each sequence's windows are followed by their mirror images.

    batch_size: windows in a batch, over all processes.
    cameras: None or one parameter vector per sequence (the nine intrinsics: mirrored windows get mirrored ones).
    poses_3d: None or [(frames, J, 3)]; poses_2d: [(frames, J, 2)]; equal lengths.
    pad: frames on each side; causal_shift: frames by which the window moves into the past (pad for a causal model).
    kps_left, kps_right, joints_left, joints_right: joint pairs that a mirror swaps, of the 2D and the 3D poses.
    step: distance between consecutive chunks, in chunks. move: an augmentation (poses, rng) of the 3D batch, or None.
    sequence_targets: the 3D batch holds the poses of all frames of the input window, not of its chunk only.
    rank, world_size: this process takes every world_size-th window of a batch.
    """

    def __init__(self, batch_size, cameras, poses_3d, poses_2d, chunk_length, pad=0, causal_shift=0, shuffle=True,
                 random_seed=1234, augment=False, kps_left=None, kps_right=None, joints_left=None, joints_right=None,
                 step=1, move=None, sequence_targets=False, rank=0, world_size=1):
        _check_sequences(cameras, poses_3d, poses_2d)
        self.batch_size, self.chunk_length = batch_size, chunk_length
        self.shuffle, self.move = shuffle, move
        self.rank, self.world_size = rank, world_size
        self._random = np.random.RandomState(random_seed)  # noqa: NPY002 - released checkpoints keep one
        self.finish_epoch()

        frames = np.array([len(sequence) for sequence in poses_2d], np.int64)
        # A sequence is cut into chunks from its middle: the first and last chunk may reach over its edges alike.
        chunks = -(-frames // chunk_length)
        overhang = chunks * chunk_length - frames
        before = overhang // 2
        margin = int(overhang.max())
        window_margins = pad + causal_shift + margin, pad - causal_shift + margin
        self.window = chunk_length + 2 * pad
        self.target_length = self.window if sequence_targets else chunk_length
        target_margins = window_margins if sequence_targets else (margin, margin)
        sides = (kps_left or [], kps_right or []), (joints_left or [], joints_right or [])
        self.inputs = PaddedSequences(poses_2d, *window_margins, sides[0] if augment else None)
        self.targets = self.cameras = None
        if poses_3d is not None:
            self.targets = PaddedSequences(poses_3d, *target_margins, sides[1] if augment else None)
        if cameras is not None:
            cameras = np.stack(cameras).astype(np.float32)
            self.cameras = np.concatenate([cameras, mirror_intrinsics(cameras)])
        self._index_windows(chunks, margin - before, step, (False, True) if augment else (False,))

    def _index_windows(self, chunks, offsets, step, mirrored):
        """For every window, in order: its first input row, its first target row and its camera."""
        inputs, targets, cameras = [], [], []
        for i, (n, offset) in enumerate(zip(chunks, offsets, strict=True)):
            start = offset + self.chunk_length * np.arange(0, n, step, dtype=np.int64)
            for flip in mirrored:
                inputs.append(start + self.inputs.first_row[i] + flip * self.inputs.num_rows)
                if self.targets is not None:
                    targets.append(start + self.targets.first_row[i] + flip * self.targets.num_rows)
                if self.cameras is not None:
                    cameras.append(np.full(len(start), i + flip * len(chunks), np.int32))
        self._input_rows = np.concatenate(inputs)
        self._target_rows = np.concatenate(targets) if targets else None
        self._camera_rows = np.concatenate(cameras) if cameras else None

    def num_batches(self):
        """Batches in an epoch; a last batch with less than one window for each process is left out."""
        full, rest = divmod(len(self._input_rows), self.batch_size)
        return full + (rest >= self.world_size)

    def windows_in_batch(self, i):
        """Windows of the i-th batch, over all processes."""
        return min(self.batch_size, len(self._input_rows) - i * self.batch_size)

    def num_frames(self):
        """Windows in an epoch, over all processes."""
        return len(self._input_rows)

    def random_state(self):
        """The RandomState that the epoch under way (or, between two, the next) begins with, as checkpoints keep it."""
        random = np.random.RandomState(0)  # noqa: NPY002 - one without a seed would pickle its entropy too
        random.set_state(self._epoch_start)
        return random

    def set_random_state(self, state):
        """Begin the next epoch with a RandomState, so that it repeats the one that `random_state` belonged to."""
        self._random.set_state(state.get_state())
        self.finish_epoch()

    def finish_epoch(self):
        """The epoch is over: from now on `random_state` is that of the next one."""
        self._epoch_start = self._random.get_state()

    def next_epoch(self, skip=0):
        """Yield (cameras or None, 3D or None, 2D) batches; `skip` leaves out the batches that are done already."""
        self.finish_epoch()
        order = self._random.permutation(len(self._input_rows)) if self.shuffle else None
        move_seed = self._random.randint(2**31) if self.move else 0
        for i in range(skip, self.num_batches()):
            batch = slice(i * self.batch_size + self.rank, (i + 1) * self.batch_size, self.world_size)
            windows = order[batch] if order is not None else np.arange(len(self._input_rows))[batch]
            # Seeded by the batch's number: a resumed epoch moves its batches as the whole one did.
            yield self._batch(windows, np.random.default_rng((move_seed, i, self.rank)))

    def _batch(self, windows, rng):
        poses_2d = self.inputs.windows(self._input_rows[windows], self.window)
        poses_3d = cameras = None
        if self.targets is not None:
            poses_3d = self.targets.windows(self._target_rows[windows], self.target_length)
            if self.move:
                poses_3d = self.move(poses_3d, rng)
        if self.cameras is not None:
            cameras = self.cameras[self._camera_rows[windows]]
        return cameras, poses_3d, poses_2d


def _check_sequences(cameras, poses_3d, poses_2d):
    if not poses_2d:
        raise ValueError("no sequences to make windows of")
    for name, others in (("cameras", cameras), ("3D sequences", poses_3d)):
        if others is not None and len(others) != len(poses_2d):
            raise ValueError(f"{len(poses_2d)} 2D sequences but {len(others)} {name}")
    for i, pose_2d in enumerate(poses_2d):
        if len(pose_2d) == 0:
            raise ValueError(f"sequence {i} is empty")
        if poses_3d is not None and len(poses_3d[i]) != len(pose_2d):
            raise ValueError(f"sequence {i} has {len(pose_2d)} 2D frames but {len(poses_3d[i])} 3D frames")
