"""Joint names, left and right, skeletons and the maps between layouts: the one place where joints have numbers."""
import numpy as np

from common.skeleton import Skeleton

H36M_32_PARENTS = [-1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 0, 11, 12, 13, 14, 12, 16, 17, 18, 19, 20, 19, 22, 12, 24, 25, 26,
                   27, 28, 27, 30]
H36M_32_NAMES = [
    "hip", "right_hip", "right_knee", "right_ankle", "right_foot", "right_toe",
    "left_hip", "left_knee", "left_ankle", "left_foot", "left_toe",
    "spine_base", "spine", "thorax", "neck", "head",
    "left_collar", "left_shoulder", "left_elbow", "left_wrist", "left_thumb_base", "left_thumb", "left_hand",
    "left_hand_tip",
    "right_collar", "right_shoulder", "right_elbow", "right_wrist", "right_thumb_base", "right_thumb", "right_hand",
    "right_hand_tip",
]
H36M_DROPPED = [4, 5, 9, 10, 11, 16, 20, 21, 22, 23, 24, 28, 29, 30, 31]
H36M_KEPT = [j for j in range(32) if j not in H36M_DROPPED]

HUMANEVA_15_NAMES = [
    "pelvis", "thorax", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle", "head",
]
HUMANEVA_20_NAMES = [
    "pelvis", "thorax", "left_shoulder", "left_elbow", "left_wrist", "left_hand", "right_shoulder", "right_elbow",
    "right_wrist", "right_hand", "left_hip", "left_knee", "left_ankle", "left_foot", "right_hip", "right_knee",
    "right_ankle", "right_foot", "neck", "head",
]
MPI_INF_3DHP_NAMES = [
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
]
COCO_17_NAMES = [
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
]
# AlphaPose's and MMPose's Halpe-26: COCO-17, then head, neck, hip and feet; OpenPose's BODY_25.
HALPE_26_NAMES = [
    *COCO_17_NAMES, "head_top", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
    "left_heel", "right_heel",
]
BODY_25_NAMES = [
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "hip",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe",
    "right_heel",
]
MPII_16_NAMES = [
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
]
# ContextPose's own order ("MPII-like"), and where its joints are among Human3.6M's 32.
CONTEXTPOSE_17_NAMES = [
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "belly", "neck", "head",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "nose",
]
CONTEXTPOSE_17_FROM_H36M_32 = [3, 2, 1, 6, 7, 8, 0, 12, 13, 15, 27, 26, 25, 17, 18, 19, 14]
# The 16 limbs, in the order of the files with their mean lengths and standard deviations.
CONTEXTPOSE_LIMBS = [(0, 1), (1, 2), (2, 6), (5, 4), (4, 3), (3, 6), (6, 7), (7, 8), (8, 16), (9, 16), (8, 12),
                     (11, 12), (10, 11), (8, 13), (13, 14), (14, 15)]

CONTEXTPOSE_17_PARENTS = [1, 2, 6, 6, 3, 4, -1, 6, 7, 16, 11, 12, 8, 8, 13, 14, 8]
COCO_17_PARENTS = [-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14]
HALPE_26_PARENTS = [18, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 0, 19, -1, 15, 16, 15, 16, 15, 16]
BODY_25_PARENTS = [1, 8, 1, 2, 3, 1, 5, 6, -1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 14, 14, 11, 11, 11]
MPII_16_PARENTS = [1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 7, 7, 13, 14]


def left_right(names):
    """Index lists of the left joints and of their right partners, paired by name."""
    left = [i for i, name in enumerate(names) if name.startswith("left_")]
    right = [names.index(names[i].replace("left_", "right_", 1)) for i in left]
    return left, right


def _skeleton(parents, names):
    return Skeleton(parents, *left_right(names), names)


H36M_32 = _skeleton(H36M_32_PARENTS, H36M_32_NAMES)
# Users of the 17 joints hang the shoulders (11 left, 14 right) on the thorax (8) instead of the spine.
H36M_17 = H36M_32.keep(H36M_KEPT, reparent={11: 8, 14: 8})
HUMANEVA_15 = _skeleton([-1, 0, 1, 2, 3, 1, 5, 6, 0, 8, 9, 0, 11, 12, 1], HUMANEVA_15_NAMES)
HUMANEVA_20 = _skeleton([-1, 0, 1, 2, 3, 4, 1, 6, 7, 8, 0, 10, 11, 12, 0, 14, 15, 16, 1, 18], HUMANEVA_20_NAMES)
MPI_INF_3DHP_17 = _skeleton([1, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1], MPI_INF_3DHP_NAMES)
COCO_17 = _skeleton(COCO_17_PARENTS, COCO_17_NAMES)
HALPE_26 = _skeleton(HALPE_26_PARENTS, HALPE_26_NAMES)
BODY_25 = _skeleton(BODY_25_PARENTS, BODY_25_NAMES)
MPII_16 = _skeleton(MPII_16_PARENTS, MPII_16_NAMES)
CONTEXTPOSE_17 = _skeleton(CONTEXTPOSE_17_PARENTS, CONTEXTPOSE_17_NAMES)
CONTEXTPOSE_PELVIS = CONTEXTPOSE_17.root()

# HumanEva-15 joints from COCO-17 detections: each is the mean of the COCO joints listed (GLA-GCN's HumanEva script).
HUMANEVA_15_FROM_COCO_17 = [[11, 12], [5, 6], [5], [7], [9], [6], [8], [10], [11], [13], [15], [12], [14], [16], [0]]

# Human3.6M-17 joints from the layouts of 2D detectors; where a layout has no spine, it is halfway between pelvis and
# thorax, and where it has no head, that is between the eyes (the neck, which Human3.6M has in the face, is the nose).
H36M_17_FROM_MPII_16 = [[6], [2], [1], [0], [3], [4], [5], [6, 7], [7], [8], [9], [13], [14], [15], [12], [11], [10]]
H36M_17_FROM_COCO_17 = [[11, 12], [12], [14], [16], [11], [13], [15], [5, 6, 11, 12], [5, 6], [0], [1, 2],
                        [5], [7], [9], [6], [8], [10]]
H36M_17_FROM_HALPE_26 = [[19], [12], [14], [16], [11], [13], [15], [18, 19], [18], [0], [17],
                         [5], [7], [9], [6], [8], [10]]
H36M_17_FROM_BODY_25 = [[8], [9], [10], [11], [12], [13], [14], [1, 8], [1], [0], [15, 16],
                        [5], [6], [7], [2], [3], [4]]
COCO_17_FROM_BODY_25 = [[BODY_25_NAMES.index(name)] for name in COCO_17_NAMES]

# The layouts of 2D joints by the names that metadata give them, and the maps from one to the other: each joint is the
# mean of a group of joints of the first.
LAYOUTS = {"h36m": H36M_17, "coco": COCO_17, "mpii": MPII_16, "humaneva15": HUMANEVA_15, "humaneva20": HUMANEVA_20,
           "halpe26": HALPE_26, "body25": BODY_25}
LAYOUT_MAPS = {
    ("mpii", "h36m"): H36M_17_FROM_MPII_16, ("coco", "h36m"): H36M_17_FROM_COCO_17,
    ("halpe26", "h36m"): H36M_17_FROM_HALPE_26, ("body25", "h36m"): H36M_17_FROM_BODY_25,
    ("halpe26", "coco"): [[joint] for joint in range(17)], ("body25", "coco"): COCO_17_FROM_BODY_25,
    ("coco", "humaneva15"): HUMANEVA_15_FROM_COCO_17,
    ("halpe26", "humaneva15"): HUMANEVA_15_FROM_COCO_17,
    ("body25", "humaneva15"): [[COCO_17_FROM_BODY_25[joint][0] for joint in group]
                               for group in HUMANEVA_15_FROM_COCO_17],
}
# MPI-INF-3DHP's 17 joints out of ContextPose's, and back, by name and these likenesses. The places are not quite the
# same, and PCK and AUC count that as error: of two people scaled to `univ_annot3`'s 92 cm from knee to neck, the top of
# the head was 25 cm above the neck (Human3.6M's head: 17), hips 23 cm apart (27), shins 35 cm long (44).
_OTHER_NAMES = {"head_top": "head", "head": "nose", "spine": "belly"}
MPI_INF_3DHP_FROM_CONTEXTPOSE_17 = [CONTEXTPOSE_17_NAMES.index(_OTHER_NAMES.get(name, name))
                                    for name in MPI_INF_3DHP_NAMES]
CONTEXTPOSE_17_FROM_MPI_INF_3DHP = [MPI_INF_3DHP_FROM_CONTEXTPOSE_17.index(joint)
                                    for joint in range(len(CONTEXTPOSE_17_NAMES))]


def layout_matrix(groups, joints_in):
    """Matrix (len(groups), joints_in) whose rows average the input joints of each group."""
    matrix = np.zeros((len(groups), joints_in), dtype=np.float32)
    for row, group in enumerate(groups):
        matrix[row, group] = 1 / len(group)
    return matrix


def layout_metadata(layout, **more):
    """The `metadata` of a 2D file whose joints are those of `LAYOUTS[layout]`, as VideoPose3D's files have it."""
    skeleton = LAYOUTS[layout]
    return {"layout_name": layout, "num_joints": skeleton.num_joints(),
            "keypoints_symmetry": [skeleton.joints_left(), skeleton.joints_right()], **more}


def identify_layout(name, num_joints, left, right):
    """The name in `LAYOUTS` of 2D joints, or None where it is none of them.

    Several layouts have 17 joints: the name in the metadata decides first, then the left and right joints given there.
    """
    if name in LAYOUTS and LAYOUTS[name].num_joints() == num_joints:
        return name
    for known, skeleton in LAYOUTS.items():
        sides = set(skeleton.joints_left()), set(skeleton.joints_right())
        if skeleton.num_joints() == num_joints and sides == (set(left), set(right)):
            return known
    return None
