"""Windows over pose sequences, in batches, without a Python loop over windows.

All sequences lie padded one behind the other in one array (with `augment`, their mirror images behind them), so that
every window is a contiguous run of rows. A batch is a row copy out of an overlapping strided view of that array: no
copy of the dataset per window is ever made.
"""
import sys

import numpy as np
import torch

from common.augment import mirror


def _edge_padded(sequence, before, after):
    """(frames, ...) with the first frame repeated `before` times in front and the last `after` times behind."""
    widths = [(before, after)] + [(0, 0)] * (sequence.ndim - 1)
    return np.pad(sequence, widths, "edge")


class PaddedSequences:
    """Sequences (frames, J, C) padded by their edges and laid one behind the other, with windows as row copies.

    rows: (all rows, J * C) float32; first_row[i]: where the padded sequence i begins.
    """

    def __init__(self, sequences, before, after):
        lengths = np.array([len(s) + before + after for s in sequences], np.int64)
        self.first_row = np.concatenate([[0], np.cumsum(lengths)])
        self.num_rows = int(self.first_row[-1])
        self.joint_shape = sequences[0].shape[1:]
        self._buffers = []
        self.rows = torch.empty(self.num_rows, int(np.prod(self.joint_shape)), dtype=torch.float32)
        array = self.rows.numpy().reshape(self.num_rows, *self.joint_shape)
        for first, length, sequence in zip(self.first_row, lengths, sequences, strict=False):
            array[first : first + length] = _edge_padded(sequence, before, after)

    def append_mirrored(self, left, right):
        """Lay the mirror images of all rows behind them: row r is mirrored in row r + num_rows."""
        poses = self.rows.reshape(self.num_rows, *self.joint_shape)
        self.rows = torch.cat([self.rows, mirror(poses, left, right).reshape(self.rows.shape)])

    def windows(self, first_rows, length):
        """The windows of `length` rows that begin at `first_rows` (n,): (n, length, J, C) float32."""
        width = self.rows.shape[1]
        view = self.rows.as_strided((len(self.rows) - length + 1, length * width), (width, 1))
        out = self._free_buffer((len(first_rows), length * width))
        torch.index_select(view, 0, first_rows, out=out)
        return out.numpy().reshape(-1, length, *self.joint_shape)

    def _free_buffer(self, shape):
        """A tensor of `shape` that nobody else holds.

        A batch that its user has dropped is written anew: fresh memory would cost as much time in page faults as the
        copy itself. An array handed out refers to its tensor, so the reference count tells whether it lives.
        """
        unshared = 3  # the list, the loop variable and the argument of getrefcount
        for buffer in self._buffers:
            if sys.getrefcount(buffer) == unshared and buffer.shape == shape:
                return buffer
        self._buffers = self._buffers[-2:] + [torch.empty(shape)]
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
    rank, world_size: this process takes every world_size-th window of a batch.
    """

    def __init__(self, batch_size, cameras, poses_3d, poses_2d, chunk_length, pad=0, causal_shift=0, shuffle=True,
                 random_seed=1234, augment=False, kps_left=None, kps_right=None, joints_left=None, joints_right=None,
                 step=1, move=None, rank=0, world_size=1):
        _check_sequences(cameras, poses_3d, poses_2d)
        self.batch_size, self.chunk_length, self.pad = batch_size, chunk_length, pad
        self.shuffle, self.augment, self.move = shuffle, augment, move
        self.rank, self.world_size = rank, world_size
        self.joints = (joints_left or [], joints_right or [])
        self.random = np.random.RandomState(random_seed)
        self.epoch_start_state = self.random.get_state()

        frames = np.array([len(sequence) for sequence in poses_2d], np.int64)
        # A sequence is cut into chunks from its middle: the first and last chunk may reach over its edges alike.
        chunks = -(-frames // chunk_length)
        overhang = chunks * chunk_length - frames
        before = overhang // 2
        margin = int(overhang.max())
        self.inputs = PaddedSequences(poses_2d, pad + causal_shift + margin, pad - causal_shift + margin)
        self.targets = PaddedSequences(poses_3d, margin, margin) if poses_3d is not None else None
        self.cameras = np.stack(cameras).astype(np.float32) if cameras is not None else None
        if augment:
            self.inputs.append_mirrored(kps_left or [], kps_right or [])
        self._index_windows(chunks, margin - before, step)

    def _index_windows(self, chunks, offsets, step):
        """The first input row, first target row and sequence of every window, in order."""
        sequences, first = [], []
        copies = 2 if self.augment else 1
        for i, (n, offset) in enumerate(zip(chunks, offsets, strict=True)):
            start = offset + self.chunk_length * np.arange(0, n, step, dtype=np.int64)
            first.append(np.tile(start, copies))
            sequences.append(np.full(len(start) * copies, i, np.int32))
            if self.augment:
                sequences[-1][len(start) :] = ~i
        self._first = np.concatenate(first)
        self._sequence = np.concatenate(sequences)  # ~i: the mirror image of sequence i

    def __len__(self):
        return self.num_batches()

    def num_batches(self):
        """Batches in an epoch; a last batch with less than one window for each process is left out."""
        full, rest = divmod(len(self._first), self.batch_size)
        return full + (rest >= self.world_size)

    def num_frames(self):
        """Windows in an epoch, over all processes."""
        return len(self._first)

    def random_state(self):
        """The generator of the shuffles, as released checkpoints keep it."""
        return self.random

    def set_random_state(self, state):
        """Continue from a RandomState or from what `RandomState.get_state` gave."""
        self.random.set_state(state.get_state() if isinstance(state, np.random.RandomState) else state)

    def next_epoch(self, skip=0):
        """Yield (cameras or None, 3D or None, 2D) batches; `skip` leaves out the batches that are done already."""
        self.epoch_start_state = self.random.get_state()
        order = self.random.permutation(len(self._first)) if self.shuffle else None
        move_seed = self.random.randint(2**31) if self.move else 0
        for i in range(skip, self.num_batches()):
            batch = slice(i * self.batch_size + self.rank, (i + 1) * self.batch_size, self.world_size)
            windows = order[batch] if order is not None else np.arange(len(self._first))[batch]
            # Seeded by the batch's number: a resumed epoch moves its batches as the whole one did.
            yield self._batch(windows, np.random.default_rng((move_seed, i, self.rank)))

    def _batch(self, windows, rng):
        first, sequence = self._first[windows], self._sequence[windows]
        mirrored = sequence < 0
        sequence = np.where(mirrored, ~sequence, sequence)
        input_rows = self.inputs.first_row[sequence] + first + mirrored * self.inputs.num_rows
        poses_2d = self.inputs.windows(torch.from_numpy(input_rows), self.chunk_length + 2 * self.pad)
        poses_3d = cameras = None
        if self.targets is not None:
            target_rows = self.targets.first_row[sequence] + first
            poses_3d = self.targets.windows(torch.from_numpy(target_rows), self.chunk_length)
            if mirrored.any():
                poses_3d[mirrored] = mirror(poses_3d[mirrored], *self.joints)
            if self.move:
                poses_3d = self.move(poses_3d, rng)
        if self.cameras is not None:
            cameras = self.cameras[sequence]
            cameras[np.ix_(mirrored, [2, 7])] *= -1  # the centre's x and the tangential distortion's x
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
