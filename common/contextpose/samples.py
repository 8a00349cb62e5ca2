"""What the network is fed with: a person in one or several views, and batches of them.

A sample is asked for by its key, (row, views): the number of a moment in the dataset and those of the cameras.
"""
from typing import NamedTuple

import numpy as np
import torch

from common.contextpose.image import normalised


class Sample(NamedTuple):
    """A person at one moment in V views; positions are world millimetres in ContextPose's order of joints."""

    images: np.ndarray  # (V, H, W, 3) uint8 RGB crops
    projections: np.ndarray  # (V, 3, 4) float32, K [R|t] onto the pixels of the crops
    keypoints: np.ndarray  # (17, 3) float32
    pelvis: np.ndarray  # (3,) float32, the centre of the volume
    key: tuple  # (row, (view, ...))


class Batch(NamedTuple):
    """B samples with V views each, as tensors."""

    images: torch.Tensor  # (B, V, H, W, 3) uint8
    projections: torch.Tensor  # (B, V, 3, 4)
    keypoints: torch.Tensor  # (B, 17, 3)
    pelvis: torch.Tensor  # (B, 3)
    keys: list  # B keys

    def to(self, device):
        """The same on `device`; the copy from pinned memory does not wait."""
        return Batch(*(values.to(device, non_blocking=True) for values in self[:4]), self.keys)

    def inputs(self):
        """What the network takes: images (B, V, 3, H, W), normalised; projections; pelvis."""
        return normalised(self.images), self.projections, self.pelvis


def collate(samples):
    """A Batch of samples that have the same number of views."""
    return Batch(*(torch.from_numpy(np.stack(values)) for values in list(zip(*samples, strict=True))[:4]),
                 [sample.key for sample in samples])
