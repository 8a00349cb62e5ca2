"""The fixed graphs of GLA-GCN: which joints exchange features, and in which direction."""
import numpy as np

from common.keypoints import HUMANEVA_20, MPI_INF_3DHP_17

# Inward links (i, j), 0-based. Their directions are not uniform: the released weights were trained with exactly these.
H36M_LINKS = [(1, 0), (2, 1), (3, 2), (4, 0), (5, 4), (6, 5), (7, 0), (8, 7), (9, 8), (10, 9), (11, 8), (12, 11),
              (13, 12), (14, 8), (15, 14), (16, 15)]
HUMANEVA_15_LINKS = [(14, 1), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7), (1, 0), (0, 11), (11, 12), (12, 13),
                     (0, 8), (8, 9), (9, 10)]
# The weights of run_s-agcn_HE_13.py were trained with one arm and one leg cut off from the trunk.
HUMANEVA_15_HE13_LINKS = [(14, 1), (2, 3), (3, 4), (1, 2), (5, 6), (6, 7), (1, 0), (0, 11), (11, 12), (12, 13), (8, 9),
                          (9, 10)]

GRAPHS = {
    "h36m": (17, H36M_LINKS),
    "humaneva15": (15, HUMANEVA_15_LINKS),
    "humaneva15_he13": (15, HUMANEVA_15_HE13_LINKS),
    # No released weights fix these two: every link goes from a joint to its parent.
    "humaneva20": (20, HUMANEVA_20.bones()),
    "mpi_inf_3dhp": (17, MPI_INF_3DHP_17.bones()),
}
# The layout of 2D joints in common.keypoints.LAYOUTS that has the joints of a graph.
LAYOUT_OF = {"h36m": "h36m", "humaneva15": "humaneva15", "humaneva15_he13": "humaneva15", "humaneva20": "humaneva20",
             "mpi_inf_3dhp": None}


def num_joints(dataset):
    """Number of joints V of a dataset's graph; ValueError where the dataset is not known."""
    return _graph(dataset)[0]


def adjacency(dataset):
    """The graph of a dataset as an array (3, V, V): identity, inward links, outward links.

    A link (i, j) is the entry [j, i]. Features are multiplied from the left, `x @ A`, and every column that holds a
    link sums to 1. Raises ValueError for an unknown dataset. Source: ST-GCN's spatial partition, as GLA-GCN uses it.
    """
    joints, links = _graph(dataset)
    inward = np.zeros((joints, joints))
    for i, j in links:
        inward[j, i] = 1
    return np.stack([np.eye(joints), _normalize_columns(inward), _normalize_columns(inward.T)])


def _graph(dataset):
    if dataset not in GRAPHS:
        raise ValueError(f"unknown dataset {dataset!r}: GLA-GCN has graphs for {', '.join(GRAPHS)}")
    return GRAPHS[dataset]


def _normalize_columns(matrix):
    sums = matrix.sum(axis=0)
    return matrix / np.where(sums > 0, sums, 1)
