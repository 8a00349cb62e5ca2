import numpy as np
import pytest
from conftest import GOLDEN

from common.augment import RandomMove, mirror
from common.generators import ChunkedGenerator

LEFT, RIGHT = [4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]
SIDES = {"kps_left": LEFT, "kps_right": RIGHT, "joints_left": LEFT, "joints_right": RIGHT}


@pytest.fixture
def sequences():
    rng = np.random.default_rng(0)
    lengths = (5, 1, 12, 30)
    return ([rng.normal(size=(n, 17, 3)).astype(np.float32) for n in lengths],
            [rng.normal(size=(n, 17, 2)).astype(np.float32) for n in lengths])


def epoch(generator, **kwargs):
    """All batches of an epoch, joined: (3D, 2D)."""
    batches = list(generator.next_epoch(**kwargs))
    return np.concatenate([b[1] for b in batches]), np.concatenate([b[2] for b in batches])


def plain_windows(poses_3d, poses_2d, chunk, pad, shift, augment):
    """The windows by a loop that reads as the definition."""
    out_3d, out_2d = [], []
    for pose_3d, pose_2d in zip(poses_3d, poses_2d, strict=True):
        frames = len(pose_2d)
        chunks = -(-frames // chunk)
        offset = (chunks * chunk - frames) // 2
        for flip in (False, True) if augment else (False,):
            for first in np.arange(chunks) * chunk - offset:
                rows_3d = np.arange(first, first + chunk).clip(0, frames - 1)
                rows_2d = np.arange(first - pad - shift, first + chunk + pad - shift).clip(0, frames - 1)
                a, b = pose_3d[rows_3d], pose_2d[rows_2d]
                out_3d.append(mirror(a, LEFT, RIGHT) if flip else a)
                out_2d.append(mirror(b, LEFT, RIGHT) if flip else b)
    return np.stack(out_3d), np.stack(out_2d)


def test_windows_equal_the_published_ones():
    golden = np.load(GOLDEN / "windows_pad4.npz")
    poses_2d, poses_3d = ([golden[f"seq{d}d_{i}"] for i in range(3)] for d in (2, 3))
    generator = ChunkedGenerator(7, None, poses_3d, poses_2d, 1, pad=4, shuffle=False, augment=True, **SIDES)
    windows_3d, windows_2d = epoch(generator)
    np.testing.assert_array_equal(windows_3d, golden["windows_3d"])
    np.testing.assert_array_equal(windows_2d, golden["windows_2d"])
    assert generator.num_frames() == len(windows_3d)


@pytest.mark.parametrize("chunk,pad,shift,augment", [
    (1, 4, 0, False), (1, 4, 4, True), (3, 2, 0, True), (7, 0, 0, True), (4, 5, 5, False)])
def test_windows_equal_a_plain_loop(sequences, chunk, pad, shift, augment):
    generator = ChunkedGenerator(8, None, *sequences, chunk, pad, shift, shuffle=False, augment=augment, **SIDES)
    for result, expected in zip(epoch(generator), plain_windows(*sequences, chunk, pad, shift, augment), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_a_shuffled_epoch_holds_every_window_once_and_pairs_stay_together(sequences):
    plain_3d, plain_2d = plain_windows(*sequences, 1, 4, 0, True)
    generator = ChunkedGenerator(8, None, *sequences, 1, 4, augment=True, **SIDES)
    first, second = epoch(generator), epoch(generator)
    assert not np.array_equal(first[0], second[0])
    for shuffled_3d, shuffled_2d in (first, second):
        order = np.lexsort(shuffled_3d.reshape(len(shuffled_3d), -1).T)
        expected = np.lexsort(plain_3d.reshape(len(plain_3d), -1).T)
        np.testing.assert_array_equal(shuffled_3d[order], plain_3d[expected])
        np.testing.assert_array_equal(shuffled_2d[order], plain_2d[expected])


def test_mirrored_windows_have_mirrored_cameras(sequences):
    cameras = [np.arange(1, 10, dtype=np.float32) + i for i in range(4)]
    generator = ChunkedGenerator(1000, cameras, *sequences, 1, 4, shuffle=False, augment=True, **SIDES)
    batch = next(generator.next_epoch())[0]
    np.testing.assert_array_equal(batch[0], cameras[0])
    np.testing.assert_array_equal(batch[5], cameras[0] * [1, 1, -1, 1, 1, 1, 1, -1, 1])


def test_processes_share_each_batch_without_overlap(sequences):
    whole = list(ChunkedGenerator(8, None, *sequences, 1, 4, move=RandomMove()).next_epoch())
    parts = [list(ChunkedGenerator(8, None, *sequences, 1, 4, move=RandomMove(), rank=r, world_size=3).next_epoch())
             for r in range(3)]
    assert {len(part) for part in parts} == {len(whole)}
    for i, batch in enumerate(whole):
        joined = np.empty_like(batch[2])
        for r in range(3):
            joined[r::3] = parts[r][i][2]
        np.testing.assert_array_equal(joined, batch[2])


def test_an_epoch_repeats_from_its_random_state_and_skips_to_where_it_stopped(sequences):
    def make():
        return ChunkedGenerator(8, None, *sequences, 1, 4, augment=True, move=RandomMove(), **SIDES)

    generator = make()
    epoch(generator)
    generator.finish_epoch()
    state = generator.random_state()
    expected = epoch(generator)
    again = make()
    again.set_random_state(generator.random_state())  # still that of the epoch's beginning
    repeated = epoch(again)
    resumed = make()
    resumed.set_random_state(state)
    rest = epoch(resumed, skip=2)
    for a, b, c in zip(expected, repeated, rest, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[16:], c)


def test_a_batch_that_is_kept_is_never_written_again(sequences):
    generator = ChunkedGenerator(4, None, *sequences, 1, 4)
    kept = [batch[2] for batch in generator.next_epoch()]
    copies = [array.copy() for array in kept]
    for _ in generator.next_epoch():
        pass
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_sequence_targets_are_the_poses_of_the_window(sequences):
    poses_3d, _ = sequences
    generator = ChunkedGenerator(100, None, poses_3d, [p[..., :2] for p in poses_3d], 1, 4, sequence_targets=True)
    _, targets, inputs = next(generator.next_epoch())
    assert targets.shape[1] == 9
    np.testing.assert_array_equal(targets[..., :2], inputs)


def test_random_move_scales_and_turns_x_and_y_only():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(500, 1, 17, 3)).astype(np.float32)
    moved = RandomMove()(poses.copy(), rng)
    np.testing.assert_array_equal(moved[..., 2], poses[..., 2])
    length, angle = (np.hypot(p[..., 0], p[..., 1]) for p in (moved, poses))
    scales = np.round(length / angle, 3)
    assert set(np.unique(scales)) == {np.float32(0.95), np.float32(1.0), np.float32(1.05)}
    turned = np.rad2deg(np.arctan2(moved[..., 1], moved[..., 0]) - np.arctan2(poses[..., 1], poses[..., 0]))
    assert set(np.unique(np.round((turned + 180) % 360 - 180))) == {-5, 0, 5}
    assert (np.ptp(scales, axis=2) < 1e-3).all()  # one draw for all joints of a sample


@pytest.mark.parametrize("change,message", [
    (lambda p3, p2: (p3, []), "no sequences"),
    (lambda p3, p2: (p3[:-1], p2), "4 2D sequences but 3"),
    (lambda p3, p2: (p3, [p2[0][:-1], *p2[1:]]), "4 2D frames but 5 3D"),
    (lambda p3, p2: ([p3[0][:0], *p3[1:]], [p2[0][:0], *p2[1:]]), "sequence 0 is empty"),
])
def test_sequences_that_do_not_fit_are_refused(sequences, change, message):
    with pytest.raises(ValueError, match=message):
        ChunkedGenerator(8, None, *change(*sequences), 1)
