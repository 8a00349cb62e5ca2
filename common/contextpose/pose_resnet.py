"""The 2D backbone of ContextPose: a residual network, three transposed convolutions, and a heatmap per joint.

    backbone = PoseResNet(152)
    heatmaps, features = backbone(images)     # (B, 3, H, W) -> (B, 17, H/4, W/4), (B, 256, H/4, W/4)

Sources: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (the trunk); Xiao et al., "Simple
Baselines for Human Pose Estimation and Tracking", ECCV 2018 (what follows it); Iskakov et al., "Learnable Triangulation
of Human Pose", ICCV 2019 (the confidence head). Modules have torchvision's names: weights of either origin load.
"""
import torch
from torch import nn

from common import checkpoint
from common.utils import CheckpointError

# layers: (blocks of each stage, whether they are bottlenecks)
DEPTHS = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True), 101: ((3, 4, 23, 3), True),
          152: ((3, 8, 36, 3), True)}
STYLES = ("simple", "caffe")
FEATURES = 256  # channels of the features at a quarter of the image
# What a checkpoint may hold besides the network: torchvision's classifier and other models' confidence heads.
SPARE = ("fc.", "alg_confidences.", "vol_confidences.")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, C, H, W) -> (B, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, channels, width, stride=1, style="simple"):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: (B, C, H, W) -> (B, 4 * width, H/stride, W/stride).

    The stride is that of the 3x3 convolution, or of the first 1x1 in the `caffe` style.
    """

    expansion = 4

    def __init__(self, channels, width, stride=1, style="simple"):
        super().__init__()
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        self.conv1 = nn.Conv2d(channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, width * self.expansion, stride)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(channels_in, channels_out, stride):
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


class ConfidenceHead(nn.Module):
    """How far each of the unprojected channels of a view is to be trusted: (B, C, h, w) -> (B, 32) in 0..1."""

    smallest = 10  # below it nothing is left after the second pooling

    def __init__(self, channels, outputs=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 512, 3), nn.BatchNorm2d(512), nn.MaxPool2d(2), nn.ReLU(inplace=True),
            nn.Conv2d(512, 256, 3), nn.BatchNorm2d(256), nn.MaxPool2d(2), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.Linear(256, 512), nn.ReLU(inplace=True), nn.Linear(512, 256),
                                  nn.ReLU(inplace=True), nn.Linear(256, outputs), nn.Sigmoid())

    def forward(self, x):
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(f"the confidence head needs images of at least {32 * self.smallest} pixels a side "
                             f"(got {32 * x.shape[3]} x {32 * x.shape[2]}); use an aggregation without confidences")
        return self.head(self.features(x).mean((2, 3)))


class PoseResNet(nn.Module):
    """Image -> joint heatmaps and the features below them.

    num_layers: one of DEPTHS; num_joints: number of heatmaps; style: where a bottleneck has its stride, one of STYLES;
    confidences: add the head for the aggregations `conf` and `conf_norm`. Raises ValueError for other layers or styles.
    """

    def __init__(self, num_layers, num_joints=17, *, style="simple", confidences=False):
        super().__init__()
        if num_layers not in DEPTHS:
            raise ValueError(f"a backbone has {', '.join(map(str, DEPTHS))} layers, not {num_layers}")
        if style not in STYLES:
            raise ValueError(f"unknown backbone style {style!r}; choose from {', '.join(STYLES)}")
        counts, deep = DEPTHS[num_layers]
        block = Bottleneck if deep else BasicBlock
        self.num_joints = num_joints
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for i, count in enumerate(counts):
            width, stride = 64 * 2**i, 1 if i == 0 else 2
            first = block(channels, width, stride, style)
            channels = width * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *(block(channels, width) for _ in range(count - 1))))
        upsampling = []
        for channels_in in (channels, FEATURES, FEATURES):
            upsampling += [nn.ConvTranspose2d(channels_in, FEATURES, 4, 2, 1, bias=False), nn.BatchNorm2d(FEATURES),
                           nn.ReLU(inplace=True)]
        self.deconv_layers = nn.Sequential(*upsampling)
        self.final_layer = nn.Conv2d(FEATURES, num_joints, 1)
        self.vol_confidences = ConfidenceHead(channels) if confidences else None
        self._initialise()

    def _initialise(self):
        """He's normal initialisation in the trunk; small normal values after it, as in Simple Baselines."""
        for name, module in self.named_modules():
            if isinstance(module, nn.ConvTranspose2d) or module is self.final_layer:
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d) and not name.startswith("vol_confidences"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images):
        """Images (B, 3, H, W), normalised by the ImageNet mean and deviation; H and W are best multiples of 32.

        Returns heatmaps (B, num_joints, H/4, W/4) and features (B, 256, H/4, W/4), where H and W are rounded up to
        multiples of 32; with the confidence head also confidences (B, 32). Raises ValueError for other shapes.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected images of shape (batch, 3, height, width), got {tuple(images.shape)}")
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, H/4, W/4)
        trunk = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, C, H/32, W/32)
        features = self.deconv_layers(trunk)  # (B, 256, H/4, W/4)
        heatmaps = self.final_layer(features)
        if self.vol_confidences is None:
            return heatmaps, features
        return heatmaps, features, self.vol_confidences(trunk)


def backbone_state(content, path):
    """The backbone's weights out of a loaded checkpoint, under bare names.

    content: what common.checkpoint.load returned, a backbone's or a whole network's state dict, bare or under
    `state_dict`, with or without the prefixes `module.` and `backbone.`. Raises CheckpointError where it is none.
    """
    state = checkpoint.model_state(content, path)
    inner = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    return inner or state


def load_backbone(backbone, path, notice=print):
    """Load a checkpoint file into a PoseResNet, running no code that the file may hold.

    A final layer for another number of joints starts anew (Xavier uniform, zero bias) with the rows of the first joints
    copied. torchvision's ImageNet weights give the trunk only. `notice` is called with a line for whatever did not come
    from the file. Raises CheckpointError where the file is missing, damaged, hostile or of another network.
    """
    given, wanted = backbone_state(checkpoint.load(path), path), backbone.state_dict()
    check_depth(given, wanted, path)
    _adapt_final_layer(given, wanted, path, notice)
    spare = {name for name in given if name not in wanted and name.startswith(SPARE)}
    left = {name for name in wanted if name not in given and name.startswith(_may_be_missing(given))}
    if "fc.weight" in given and any(name.startswith("deconv_layers.") for name in left):
        notice(f"{path}: ImageNet weights; the layers after layer4 start anew")
    if any(name.startswith("vol_confidences.") for name in left):
        notice(f"{path}: holds no confidence head; it starts anew")
    state = {name: value for name, value in given.items() if name not in spare}
    # Files older than this counter lack it: it is not a weight.
    old = {name for name in wanted if name.endswith("num_batches_tracked") and name not in given}
    state |= {name: wanted[name] for name in left | old}
    checkpoint.load_into(backbone, state, path)


def check_depth(given, wanted, path):
    """Raise CheckpointError, that names the setting which would fit, where two backbones' state dicts differ in depth.

    given: the one out of the file `path`, under bare names; wanted: that of the network.
    """
    depth, expected = _num_layers(given), _num_layers(wanted)
    if depth not in (None, expected):
        raise CheckpointError(f"{path}: its backbone has {depth} layers, not {expected}; it would fit with "
                              f"model.backbone.num_layers: {depth}")


def _num_layers(state):
    """Which of DEPTHS a backbone's state dict is of, or None."""
    blocks = [len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)]
    form = tuple(blocks), "layer1.0.conv3.weight" in state
    return next((depth for depth, known in DEPTHS.items() if known == form), None)


def _may_be_missing(given):
    return ("vol_confidences.",) + (("deconv_layers.", "final_layer.") if "fc.weight" in given else ())


def _adapt_final_layer(given, wanted, path, notice):
    """Make the final layer in `given` fit the number of joints in `wanted`."""
    weight, target = given.get("final_layer.weight"), wanted["final_layer.weight"]
    bias = given.get("final_layer.bias")
    if weight is None or bias is None or weight.shape == target.shape:
        return
    if weight.ndim != 4 or weight.shape[1:] != target.shape[1:] or bias.shape != weight.shape[:1]:
        raise CheckpointError(f"{path}: final_layer.weight is {list(weight.shape)}, the backbone wants "
                              f"{list(target.shape)}; only the number of joints (the first) may differ")
    kept = min(len(weight), len(target))
    new_weight = nn.init.xavier_uniform_(torch.empty(target.shape, dtype=weight.dtype))
    new_bias = weight.new_zeros(len(target))
    new_weight[:kept], new_bias[:kept] = weight[:kept], bias[:kept]
    given["final_layer.weight"], given["final_layer.bias"] = new_weight, new_bias
    notice(f"{path}: its final layer is of {len(weight)} joints, not {len(target)}: it starts anew with the first "
           f"{kept} copied")
