"""Pictures of people: read, cut out, hidden in part, and normalised; and the camera that goes with what was cut out.

Images are uint8 RGB (H, W, 3); pixel centres lie at whole coordinates. Boxes are tlbr: top, left, bottom, right in
whole pixels, the last two the first row and column outside.

Sources: Iskakov et al., "Learnable Triangulation of Human Pose", ICCV 2019 (crops and their cameras); Ma et al.,
"Context Modeling in 3D Human Pose Estimation: A Unified Perspective", CVPR 2021 (the occlusion test).
"""
from pathlib import Path

import numpy as np
import torch

from common.h36m_images import crop_and_resize, scale_box
from common.keypoints import CONTEXTPOSE_17_NAMES
from common.utils import DataError, require

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images, in RGB from 0 to 1
ERASED = [CONTEXTPOSE_17_NAMES.index(name) for name in ("pelvis", "right_knee", "left_knee", "right_elbow",
                                                       "left_elbow")]
ERASED_SIDE = 70  # pixels of a crop
# From the world (x right, y ahead, z up, as the network learnt it) to the axes of a camera that stands level in it.
LEVEL_CAMERA = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def read_image(path):
    """The image file `path`, or DataError where it is missing, damaged or no image."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error})") from None
    return decode_image(content, path)


def decode_image(content, where):
    """The image in the bytes of a JPEG or PNG file; `where` names it in the DataError for anything else."""
    cv2 = require("cv2", "opencv-python-headless")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{where}: damaged, or no image that OpenCV reads; get it again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def cropped_camera(K, box, size):
    """Intrinsics K (..., 3, 3) of images -> those of the boxes (..., 4) resized to `size` (height, width)."""
    top, left, bottom, right = np.moveaxis(np.asarray(box, dtype=np.float64), -1, 0)
    cropped = np.array(K, dtype=np.float64)
    cropped[..., 0, 2] -= left
    cropped[..., 1, 2] -= top
    cropped[..., 0, :] *= (size[1] / (right - left))[..., None]
    cropped[..., 1, :] *= (size[0] / (bottom - top))[..., None]
    return cropped


def crop_view(image, K, box, size, scale=1.0):
    """What a box (4,), scaled about its centre, shows of an image, and its camera: (h, w, 3) uint8, (3, 3).

    size: (height, width) in pixels. Raises ValueError for an empty box.
    """
    box = scale_box(box, scale)
    return np.ascontiguousarray(crop_and_resize(image, box, size)), cropped_camera(K, box, size)


def erase(crop, keypoints, projection):
    """Fill the squares round five joints of a crop with their own mean colours, in place: an occlusion test.

    keypoints: (17, 3) world mm, in ContextPose's order; projection: K [R|t] (3, 4) onto the pixels of the crop.
    """
    seen = np.c_[keypoints, np.ones(len(keypoints))] @ projection.T  # (17, 3)
    joints, hidden = seen[:, :2] / seen[:, 2:], []
    for x, y in np.round(joints[ERASED] - ERASED_SIDE / 2).astype(int):
        square = crop[max(y, 0):max(y + ERASED_SIDE, 0), max(x, 0):max(x + ERASED_SIDE, 0)]
        if square.size:
            hidden.append((square, square.mean(axis=(0, 1))))
    for square, colour in hidden:  # the colours are those of the whole picture: squares overlap
        square[:] = np.round(colour)


def normalised(images):
    """uint8 RGB (..., H, W, 3) -> float32 (..., 3, H, W) less ImageNet's mean and over its deviation."""
    mean, deviation = (torch.tensor(values, device=images.device) for values in (MEAN, DEVIATION))
    return ((images.float() / 255 - mean) / deviation).movedim(-1, -3)
