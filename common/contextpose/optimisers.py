"""ContextPose's two optimisers, and how their rates fall.

Source: Ma et al., "Context Modeling in 3D Human Pose Estimation: A Unified Perspective", CVPR 2021.
"""
import bisect
import collections

import torch


def make_optimizers(model, settings):
    """Adam for the backbone, None where it stays fixed, and Adam for the rest; settings: section `train`."""
    # One pass over the weights instead of ten; there is no such kernel for MPS in all versions of torch.
    options = {"fused": next(model.parameters()).device.type in ("cpu", "cuda")}
    two = None
    if settings.backbone_epochs or not model.backbone_is_fixed:
        two = torch.optim.Adam(model.backbone.parameters(), lr=settings.backbone_lr, **options)
    three = torch.optim.Adam([{"params": model.process_features.parameters(), "lr": settings.process_features_lr},
                              {"params": model.volume_net.parameters(), "lr": settings.volume_net_lr}], **options)
    return two, three


def check_moments(optimizer, state):
    """ValueError unless the moments in an optimiser's state have the shapes of its weights."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, moments in state["state"].items():
        if number >= len(weights) or moments["exp_avg"].shape != weights[number].shape:
            raise ValueError("it is of another network")


class Schedule:
    """MultiStepLR of one optimiser: every rate times `factor` once an epoch of `milestones` is reached."""

    def __init__(self, optimizer, milestones, factor):
        self.optimizer, self.milestones, self.factor = optimizer, sorted(milestones), factor
        self.base, self.epoch = [group["lr"] for group in optimizer.param_groups], 0

    def set_epoch(self, epoch):
        """Set the rates of an epoch, counted from 0."""
        self.epoch = epoch
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = group["initial_lr"] = base
            group["lr"] *= self.factor ** bisect.bisect_right(self.milestones, epoch)

    def state_dict(self):
        """What torch's MultiStepLR would save."""
        return {"milestones": collections.Counter(self.milestones), "gamma": self.factor, "base_lrs": self.base,
                "last_epoch": self.epoch, "_step_count": self.epoch + 1,
                "_last_lr": [group["lr"] for group in self.optimizer.param_groups]}
