"""The demo people's joints as 2D detectors name them: COCO-17, Halpe-26, BODY_25, with faces and feet."""
import numpy as np

from common.keypoints import H36M_32_NAMES, LAYOUTS
from common.synthetic_body import SIDES

# Places in the face, from the nose: forward, to the side, up, as shares of the length from neck to head (about 13 cm).
FACE = {"eye": (-0.12, 0.24, 0.30), "ear": (-0.75, 0.55, 0.20)}
NOSE_FORWARD = 0.25  # from Human3.6M's neck joint, which lies towards the nose
TOP_UP = 0.35  # from the head joint
TOES_APART = 0.35  # the small toe from the big one, as a share of the length from the ball to the toes
OTHER_NAMES = {"neck": "thorax", "pelvis": "hip"}  # what detectors call neck is Human3.6M's thorax


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def detector_joints(positions, layout):
    """The joints of a layout in common.keypoints.LAYOUTS out of the demo people's: (F, 32, 3) metres -> (F, J, 3)."""
    return named_joints(positions, LAYOUTS[layout].names())


def named_joints(positions, names):
    """The joints of these names out of the demo people's: (F, 32, 3) metres -> (F, J, 3).

    Joints of the same name are the same points; eyes, ears and feet follow the head and the ankles.
    """
    own = {name: positions[:, index] for index, name in enumerate(H36M_32_NAMES)}
    # What a pose shows of the way a head looks: the neck joint lies in front of the spine.
    up = _unit(own["head"] - own["neck"])
    forward = own["neck"] - own["thorax"]
    forward = _unit(forward - (forward * up).sum(-1, keepdims=True) * up)
    left = np.cross(up, forward)
    size = np.linalg.norm(own["head"] - own["neck"], axis=-1, keepdims=True)
    nose = own["neck"] + NOSE_FORWARD * size * forward
    points = {"nose": nose, "head_top": own["head"] + TOP_UP * size * up}
    for side, sign in SIDES:
        for part, (ahead, aside, above) in FACE.items():
            points[f"{side}_{part}"] = nose + size * (ahead * forward + sign * aside * left + above * up)
        ball, toe, ankle = (own[f"{side}_{part}"] for part in ("foot", "toe", "ankle"))
        outwards = sign * np.cross([0, 0, 1], toe - ball)
        points |= {f"{side}_big_toe": toe, f"{side}_small_toe": toe + TOES_APART * outwards,
                   f"{side}_heel": ball + 1.3 * (ankle - ball) * [1, 1, 0]}
    return np.stack([points[name] if name in points else own[OTHER_NAMES.get(name, name)] for name in names], axis=1)
