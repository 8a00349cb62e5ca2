"""MPI-INF-3DHP: its subjects, cameras, joints, activities and scenes.

Source: Mehta et al., "Monocular 3D Human Pose Estimation in the Wild Using Improved CNN Supervision", 3DV 2017.
Poses are `univ_annot3`, the ground truth of people scaled to one height, in millimetres in the camera's space; joints
are those of `common.keypoints.MPI_INF_3DHP_17`, the root is the pelvis.
"""

GROUND_TRUTH = "univ_annot3"
# Frames and frames per second of the training sequences.
TRAINING_SEQUENCES = {
    "S1 Seq1": (6416, 25), "S1 Seq2": (12430, 50), "S2 Seq1": (6502, 25), "S2 Seq2": (6081, 25),
    "S3 Seq1": (12488, 50), "S3 Seq2": (12283, 50), "S4 Seq1": (6171, 25), "S4 Seq2": (6675, 25),
    "S5 Seq1": (12820, 50), "S5 Seq2": (12312, 50), "S6 Seq1": (6188, 25), "S6 Seq2": (6145, 25),
    "S7 Seq1": (6239, 25), "S7 Seq2": (6320, 25), "S8 Seq1": (6468, 25), "S8 Seq2": (6054, 25),
}
TRAINING_CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # of the fourteen: those at the height of a chest
TRAINING_IMAGE = 2048, 2048  # pixels, width and height
TEST_IMAGES = {"TS1": (2048, 2048), "TS2": (2048, 2048), "TS3": (2048, 2048), "TS4": (2048, 2048),
               "TS5": (1920, 1080), "TS6": (1920, 1080)}
TEST_SEQUENCES = tuple(TEST_IMAGES)
# Of the 28 joints in a training annotation, those of the 17 that the test set has, in its order.
JOINTS_OF_28 = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
ACTIVITIES = {1: "Standing/Walking", 2: "Exercising", 3: "Sitting", 4: "Reaching/Crouching", 5: "On The Floor",
              6: "Sports", 7: "Miscellaneous"}
SCENES = {"Studio with green screen": ("TS1", "TS2"), "Studio without green screen": ("TS3", "TS4"),
          "Outdoor": ("TS5", "TS6")}
# The joints that PCK and AUC count, in the groups of the official tables.
JOINT_GROUPS = {"Head": [0], "Neck": [1], "Shou": [2, 5], "Elbow": [3, 6], "Wrist": [4, 7], "Hip": [8, 11],
                "Knee": [9, 12], "Ankle": [10, 13]}
