"""ContextPose for export: its network with the weights of a file, and inputs to compare with."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from common.contextpose.image import DEVIATION, MEAN, normalised
from common.contextpose.pairwise import limb_groups
from common.contextpose.recipe import STRIDE, load_model
from common.contextpose.volumetric import scale_projections
from common.h36m_raw import CAMERAS, pixel_camera
from common.keypoints import CONTEXTPOSE_17, CONTEXTPOSE_17_FROM_H36M_32, CONTEXTPOSE_PELVIS
from common.onnx_export import Exportable
from common.source import make_source
from common.synthetic_h36m import demo_positions
from common.synthetic_images import render_person
from common.utils import UsageError

SUBJECT, SEQUENCE = "S9", "Walking-1"
GREY = 128
CASES = ((2, 2), (1, 1))  # samples and views to compare with; the first are recorded


class KeypointsAndHeatmaps(nn.Module):
    """Of what ContextPose says: the joints, and the heatmaps of the views."""

    def __init__(self, model):
        super().__init__()
        self.model = model.requires_grad_(False)

    def forward(self, images, projections, pelvis):
        output = self.model(images, projections, pelvis)
        return output.keypoints, output.heatmaps


def load_contextpose(config, weights):
    """(the network of a configuration with its weights, their file). weights: a path, or None for the newest run's.

    Raises UsageError for what cannot be exported, CheckpointError, DataError.
    """
    shape, settings = config.model.image_shape, config.model.volume_net
    if any(side % STRIDE for side in shape):
        raise UsageError(f"model.image_shape must be multiples of {STRIDE}, not {shape}")
    one_process = SimpleNamespace(is_main=False, device=torch.device("cpu"))
    model, weights = load_model(SimpleNamespace(weights=weights), config, one_process)
    model.eval()
    if settings.use_context_attention:
        layer = model.volume_net.encoder_decoder.mid_res.atten_conv
        side = settings.volume_size // 4
        groups = limb_groups(layer.limbs, layer.cuboid_size / (side - 1), side, torch.float32, "cpu")
        if any(group.underflows for group in groups):
            raise UsageError("not exported: limbs whose lengths hardly vary (their deviations, and model.volume_net."
                             "temperature) need logarithms voxel by voxel, which no ONNX operation has")
    return model, weights


def exportable(model, weights):
    """The `Exportable` of a network with the weights in a file."""
    module = KeypointsAndHeatmaps(model).eval()
    settings = model.config.model
    source = make_source(weights)
    metadata = {
        "network": "ContextPose", "dataset": model.config.dataset.kind, "units": "mm",
        "axes": "those of the world that the projections are from, z up", "joint_names": CONTEXTPOSE_17.names(),
        "parents": CONTEXTPOSE_17.parents(), "joints_left": CONTEXTPOSE_17.joints_left(),
        "joints_right": CONTEXTPOSE_17.joints_right(), "root": CONTEXTPOSE_17.names()[CONTEXTPOSE_PELVIS],
        "image_mean": MEAN, "image_deviation": DEVIATION, "cuboid_size": settings.volume_net.cuboid_size,
        "normalisation": "(RGB / 255 - image_mean) / image_deviation, channels before rows and columns",
        "projections": "K [R|t] from world mm onto the pixels of the images, pixel centres at whole numbers",
        "pelvis": "world mm, the centre of the volume that joints are looked for in",
        "checkpoint": Path(weights).name, "checkpoint_sha256": source["checkpoint_sha256"],
    }
    views = ("batch", "views", None, None)
    cases = [(f"noise, batch {batch}, views {count}", _noise(settings.image_shape, batch, count))
             for batch, count in CASES]
    cases.append(("a demo person, batch 1, views 1", (picture(settings.image_shape), *scene(settings.image_shape, 1))))
    return Exportable(module, {"images": (*views, None), "projections": views, "pelvis": ("batch", None)},
                      {"keypoints_3d": ("batch", None, None), "heatmaps": (*views, None)},
                      {"keypoints_3d": "mm", "heatmaps": ""}, cases, module, metadata)


def _noise(shape, batch, views):
    projections, pelvis = scene(shape, views)
    return (torch.randn(batch, views, 3, *shape), projections.expand(batch, -1, -1, -1),
            pelvis + 100 * torch.randn(batch, 3))


def scene(shape, views):
    """Cameras of Human3.6M and a demo person before them: projections (1, V, 3, 4), pelvis (1, 3) in world mm.

    shape: (height, width) that their pictures are resized to.
    """
    cameras = [pixel_camera(name, SUBJECT) for name in CAMERAS[:views]]
    projections = [scale_projections(torch.from_numpy(camera["K"] @ np.c_[camera["R"], camera["t"]]).float(),
                                     shape[1] / camera["size"][0], shape[0] / camera["size"][1]) for camera in cameras]
    pelvis = _person()[CONTEXTPOSE_17_FROM_H36M_32[CONTEXTPOSE_PELVIS]]
    return torch.stack(projections)[None], torch.from_numpy(pelvis)[None]


def picture(shape):
    """The person of `scene` before a grey wall, seen by its first camera: (1, 1, 3, H, W), as the network takes it."""
    width, height = pixel_camera(CAMERAS[0], SUBJECT)["size"]
    image = np.full((height, width, 3), GREY, np.uint8)
    render_person(image, _person(), SUBJECT, CAMERAS[0])
    image = normalised(torch.from_numpy(image))[None]  # (1, 3, height, width)
    return nn.functional.interpolate(image, size=tuple(shape), mode="bilinear")[None]


def _person():
    return demo_positions(SUBJECT, SEQUENCE, 1)[0].astype(np.float32)  # (32, 3) world mm
