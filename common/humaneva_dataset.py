"""HumanEva-I: its three colour cameras, and its 15- and 20-joint skeletons.

Camera parameters: HumanEva-I (Sigal et al., 2010), as distributed with VideoPose3D. Lengths in pixels and millimetres.
"""
from common.keypoints import HUMANEVA_15, HUMANEVA_20
from common.mocap_dataset import MocapDataset, prepare_camera

HUMANEVA_INTRINSICS = [
    {"id": "C1", "res_w": 640, "res_h": 480, "azimuth": 0},
    {"id": "C2", "res_w": 640, "res_h": 480, "azimuth": -90},
    {"id": "C3", "res_w": 640, "res_h": 480, "azimuth": 90},
]

HUMANEVA_EXTRINSICS = {
    "S1": [
        {
            "orientation": [0.424207, -0.4983646, -0.5802981, 0.4847012],
            "translation": [4062.227, 663.2477, 1528.397],
        },
        {
            "orientation": [0.6503354, -0.7481602, -0.0919284, 0.0941766],
            "translation": [844.8131, -3805.2092, 1504.9929],
        },
        {
            "orientation": [0.0664734, -0.0690535, 0.7416416, -0.6639132],
            "translation": [-797.67377, 3916.3174, 1433.6602],
        },
    ],
    "S2": [
        {
            "orientation": [0.4214752, -0.4961493, -0.5838273, 0.4851187],
            "translation": [4112.9121, 626.4929, 1545.2988],
        },
        {
            "orientation": [0.6501393, -0.7476588, -0.0954617, 0.0959808],
            "translation": [923.574, -3877.9243, 1504.5518],
        },
        {
            "orientation": [0.0699353, -0.0712403, 0.7421637, -0.662742],
            "translation": [-781.4915, 3838.8853, 1444.9929],
        },
    ],
    "S3": [
        {
            "orientation": [0.424207, -0.4983646, -0.5802981, 0.4847012],
            "translation": [4062.2271, 663.2477, 1528.397],
        },
        {
            "orientation": [0.6503354, -0.7481602, -0.0919284, 0.0941766],
            "translation": [844.8131, -3805.2092, 1504.9929],
        },
        {
            "orientation": [0.0664734, -0.0690535, 0.7416416, -0.6639132],
            "translation": [-797.6738, 3916.3174, 1433.6602],
        },
    ],
    "S4": [
        {},
        {},
        {},
    ],
}


def humaneva_cameras(subject):
    """The three cameras of `subject` ("S1") in screen coordinates and metres."""
    return [
        prepare_camera({**intrinsic, **extrinsic})
        for intrinsic, extrinsic in zip(HUMANEVA_INTRINSICS, HUMANEVA_EXTRINSICS[subject], strict=True)
        if extrinsic
    ]


class HumanEvaDataset(MocapDataset):
    """HumanEva-I: {"Train/S1": {"Walking 1 chunk0": (frames, 15 or 20, 3) world metres}}, three cameras, 60 fps."""

    def __init__(self, positions, num_joints=15):
        super().__init__(fps=60, skeleton={15: HUMANEVA_15, 20: HUMANEVA_20}[num_joints])
        for subject, actions in positions.items():
            person = subject.split("/")[-1]
            self._cameras[subject] = humaneva_cameras(person) if person in HUMANEVA_EXTRINSICS else []
            for action, poses in actions.items():
                self.add(subject, action, poses)
