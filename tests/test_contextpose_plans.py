"""Which samples an epoch of ContextPose's training goes through."""
import itertools
import pickle

import pytest
from test_contextpose_dataset import lacking, opened, write_many

from common.utils import UsageError


def test_plans_are_pure_disjoint_and_of_one_length(tmp_path):
    write_many(tmp_path, {("S1", "Walking-1"): 61, ("S5", "Walking-1"): 40}, lacking(3, slice(10)))
    dataset = opened(tmp_path, "batch_size=4", "max_n_views=4")
    plans = [dataset.plan(3, 5, rank, 3) for rank in range(3)]
    assert plans == [pickle.loads(pickle.dumps(dataset)).plan(3, 5, rank, 3) for rank in range(3)]
    assert len({len(plan) for plan in plans}) == 1 and 6 <= len(plans[0]) <= 8
    assert all(len(batch) == 4 and len({len(views) for _, views in batch}) == 1 for plan in plans for batch in plan)
    rows = [row for plan in plans for batch in plan for row, _ in batch]
    assert len(set(rows)) == len(rows)
    for steps in zip(*plans, strict=True):
        assert len({len(batch[0][1]) for batch in steps}) == 1
    assert dataset.plan(3, 6, 0, 3) != plans[0] != dataset.plan(4, 5, 0, 3)
    drawn = [views for epoch in range(20) for batch in dataset.plan(0, epoch) for _, views in batch]
    assert {len(views) for views in drawn} == {1, 2, 3, 4}
    assert {views for views in drawn if len(views) == 2} == set(itertools.combinations(range(4), 2))


@pytest.mark.parametrize("settings, lengths", [
    (("batch_size=4", "n_objects_per_epoch=13"), [4, 4, 4]), (("batch_size=4", "n_iters_per_epoch=2"), [4, 4]),
    (("batch_size=4",), [4] * 5), (("batch_size=6", "n_iters_per_epoch=9"), [6] * 3), (("batch_size=64",), [22]),
    (("batch_size=4", "n_objects_per_epoch=3"), [4])])
def test_an_epoch_has_the_batches_that_are_set_and_no_partial_one(tmp_path, settings, lengths):
    write_many(tmp_path, {("S1", "Walking-1"): 22})
    plan = opened(tmp_path, "shuffle=false", "randomize_n_views=false", "max_n_views=2", *settings).plan(0, 0)
    assert [len(batch) for batch in plan] == lengths
    assert list(itertools.chain(*plan)) == [(row, (0, 1)) for row in range(sum(lengths))]


def test_too_few_rows_for_the_processes_are_an_error_in_all_of_them(tmp_path):
    write_many(tmp_path, {("S1", "Walking-1"): 5})
    dataset = opened(tmp_path)
    assert [len(dataset.plan(0, 0, rank, 2)[0]) for rank in range(2)] == [2, 2]
    for rank in range(6):
        with pytest.raises(UsageError, match="5 rows do not make a batch for each of 6 processes"):
            dataset.plan(0, 0, rank, 6)
