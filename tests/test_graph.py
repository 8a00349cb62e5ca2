import numpy as np
import pytest

from common.graph import GRAPHS, adjacency, num_joints
from common.keypoints import MPI_INF_3DHP_17


@pytest.mark.parametrize("dataset", GRAPHS)
def test_columns_of_directed_subsets_sum_to_one_or_are_empty(dataset):
    identity, inward, outward = adjacency(dataset)
    assert np.array_equal(identity, np.eye(num_joints(dataset)))
    for subset in (inward, outward):
        sums = subset.sum(axis=0)
        assert np.all(np.isclose(sums, 1) | (sums == 0))


@pytest.mark.parametrize("dataset", GRAPHS)
def test_a_link_lies_at_target_and_source_inward_and_the_other_way_round_outward(dataset):
    _, inward, outward = adjacency(dataset)
    links = GRAPHS[dataset][1]
    assert {(i, j) for j, i in np.argwhere(inward)} == set(links)
    assert np.array_equal(outward > 0, (inward > 0).T)


def test_he13_graph_is_humaneva_less_two_links():
    missing = set(GRAPHS["humaneva15"][1]) - set(GRAPHS["humaneva15_he13"][1])
    assert missing == {(1, 5), (0, 8)}


def test_3dhp_links_run_from_child_to_parent():
    parents = MPI_INF_3DHP_17.parents()
    links = GRAPHS["mpi_inf_3dhp"][1]
    assert len(links) == 16 and all(parents[child] == parent for child, parent in links)


def test_unknown_dataset_is_refused_by_name_with_the_choices():
    with pytest.raises(ValueError, match=r"'coco'.*h36m.*mpi_inf_3dhp"):
        adjacency("coco")
