"""The volume network: features of a cube of space to one score volume a joint, with context attention at its bottom.

Sources: V2V-PoseNet (Moon et al., CVPR 2018) for the blocks; "Context Modeling in 3D Human Pose Estimation: A Unified
Perspective" (Ma et al., CVPR 2021). Names and shapes of the parameters are those of the released weights.
"""
import torch
import torch.nn.functional as F
from torch import nn

from common.contextpose.attention import JOINTS, AttentionConv3D
from common.cpu import is_traced

__all__ = ["AttentionConv3D", "V2VNet"]
SHALLOW, MIDDLE, DEEP = JOINTS, 2 * JOINTS, 3 * JOINTS  # channels at full size, after the front, below


class ConvolutionBlock(nn.Module):
    """3x3x3 convolution, batch norm, ReLU."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.block = nn.Sequential(nn.Conv3d(in_channels, out_channels, 3, padding=1), nn.BatchNorm3d(out_channels),
                                   nn.ReLU())

    def forward(self, x):
        return self.block(x)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions beside the input, or beside a 1x1x1 convolution of it where channels change."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.res_branch = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, 3, padding=1), nn.BatchNorm3d(out_channels), nn.ReLU(),
            nn.Conv3d(out_channels, out_channels, 3, padding=1), nn.BatchNorm3d(out_channels))
        self.skip_con = nn.Sequential()
        if in_channels != out_channels:
            self.skip_con = nn.Sequential(nn.Conv3d(in_channels, out_channels, 1), nn.BatchNorm3d(out_channels))

    def forward(self, x):
        return F.relu(self.res_branch(x) + self.skip_con(x))


class UpsampleBlock(nn.Module):
    """Twice the size: transposed 2x2x2 convolution, batch norm, ReLU."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.block = nn.Sequential(nn.ConvTranspose3d(in_channels, out_channels, 2, stride=2),
                                   nn.BatchNorm3d(out_channels), nn.ReLU())

    def forward(self, x):
        return self.block(x)


class AttentionBlock(nn.Module):
    """Context attention and a convolution beside the input: (B, C, n, n, n) -> the same, (B, 17, n^3)."""

    def __init__(self, channels, *context):
        super().__init__()
        self.atten_conv = AttentionConv3D(channels, channels, *context)
        self.res_branch = nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU(),
                                        nn.Conv3d(channels, channels, 3, padding=1), nn.BatchNorm3d(channels))

    def forward(self, x):
        features, attention = self.atten_conv(x)
        return F.relu(self.res_branch(features) + x), attention


class EncoderDecoder(nn.Module):
    """Down to a quarter of the size, attention, and up again: (B, 34, n, n, n) -> the same, (B, 17, (n / 4)^3)."""

    def __init__(self, *context, use_context_attention=True):
        super().__init__()
        self.encoder_res1 = ResidualBlock(MIDDLE, DEEP)
        self.encoder_res2 = ResidualBlock(DEEP, DEEP)
        self.mid_res = AttentionBlock(DEEP, *context) if use_context_attention else ResidualBlock(DEEP, DEEP)
        self.decoder_res2 = ResidualBlock(DEEP, DEEP)
        self.decoder_upsample2 = UpsampleBlock(DEEP, DEEP)
        self.decoder_res1 = ResidualBlock(DEEP, DEEP)
        self.decoder_upsample1 = UpsampleBlock(DEEP, MIDDLE)
        self.skip_res1 = ResidualBlock(MIDDLE, MIDDLE)
        self.skip_res2 = ResidualBlock(DEEP, DEEP)

    def forward(self, x):
        half = self.encoder_res1(F.max_pool3d(x, 2))
        quarter = self.encoder_res2(F.max_pool3d(half, 2))
        quarter = self.mid_res(quarter)
        quarter, attention = quarter if isinstance(quarter, tuple) else (quarter, None)
        half = self.decoder_upsample2(self.decoder_res2(quarter)) + self.skip_res2(half)
        return self.decoder_upsample1(self.decoder_res1(half)) + self.skip_res1(x), attention


class V2VNet(nn.Module):
    """(B, in_channels, n, n, n) -> volumes (B, out_channels, n, n, n), global attention (B, 17, (n / 4)^3).

    Scores, not probabilities, and the softmax over the voxels of the quarter-size volume in which joints exchange what
    they know. limb_mean, limb_std, temperature, cuboid_size: see AttentionConv3D; the cube is the same at any n.
    use_context_attention: False puts an ordinary residual block in the place of the attention, which is then None.
    Raises ValueError for arguments that do not fit, and where n is no multiple of 4 or below 8.
    """

    def __init__(self, in_channels, out_channels, limb_mean, limb_std, temperature, cuboid_size, *,
                 use_context_attention=True):
        super().__init__()
        self.front_layers = nn.Sequential(ConvolutionBlock(in_channels, SHALLOW), ResidualBlock(SHALLOW, MIDDLE))
        self.encoder_decoder = EncoderDecoder(limb_mean, limb_std, temperature, cuboid_size,
                                              use_context_attention=use_context_attention)
        self.output_layer = nn.Conv3d(MIDDLE, out_channels, 1)
        self.in_channels = in_channels
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)) and ".convlist." not in name:
                nn.init.normal_(module.weight, 0, 0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x):
        side = x.shape[-1]
        if x.dim() != 5 or x.shape[1:] != (self.in_channels, side, side, side) or side % 4 or side < 8:
            raise ValueError(f"the volume network needs (B, {self.in_channels}, n, n, n), n = 8, 12, 16, ..., "
                             f"got {tuple(x.shape)}")
        if x.device.type == "cpu" and not is_traced():
            # 3D convolutions are about three times faster with channels last there.
            x = x.contiguous(memory_format=torch.channels_last_3d)
        x, attention = self.encoder_decoder(self.front_layers(x))
        return self.output_layer(x), attention
