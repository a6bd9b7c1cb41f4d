"""PSPNet (Zhao et al., 2017): a dilated ResNet whose features are pooled on four scales."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.base.lookup import lookup
from sms_dist.base.vision import torchvision
from sms_dist.models.resnets import he

BINS = (1, 2, 3, 6)
# stride -> dilation of the last two stages, where it takes the place of their own stride
DILATIONS = {8: (2, 4), 16: (1, 2), 32: (1, 1)}
BACKBONES = ("resnet18", "resnet50", "resnet101")


class Pyramid(nn.Module):
    """The features, and beside them their means over 1, 4, 9 and 36 parts of the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        each = channels // len(BINS)
        self.scales = nn.ModuleList(_layer(channels, each, 1) for _ in BINS)

    def forward(self, features: Tensor) -> Tensor:
        size = features.shape[-2:]
        scales = [
            _resized(scale(pooled(features, bins)), size)
            for scale, bins in zip(self.scales, BINS, strict=True)
        ]
        return torch.cat([features, *scales], dim=1)


class PSPNet(nn.Module):
    """Logits of every pixel; in training mode also those of the auxiliary head.

    The backbone's tensors are named as in torchvision's ResNet, so that its weights can be loaded
    (with model.weights_except: [fc, pyramid, head, auxiliary]).
    """

    def __init__(self, backbone: Any, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv1, self.bn1 = backbone.conv1, backbone.bn1
        self.relu, self.maxpool = backbone.relu, backbone.maxpool
        self.layer1, self.layer2 = backbone.layer1, backbone.layer2
        self.layer3, self.layer4 = backbone.layer3, backbone.layer4
        channels: int = backbone.fc.in_features
        self.pyramid = he(Pyramid(channels))
        self.head = he(_head(2 * channels, channels // 4, num_classes, dropout))
        self.auxiliary = he(_head(channels // 2, channels // 8, num_classes, dropout))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map N x C x H x W to N x classes x H x W, (main, auxiliary) in training mode."""
        size = images.shape[-2:]
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer3(self.layer2(self.layer1(x)))
        main = _resized(self.head(self.pyramid(self.layer4(x))), size)
        return (main, _resized(self.auxiliary(x), size)) if self.training else main


def pspnet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    backbone: str = "resnet101",
    stride: int = 8,
    dropout: float = 0.1,
) -> nn.Module:
    """Return a PSPNet: 68 million parameters with resnet101, 49 with resnet50, 13 with resnet18.

    `stride` is by how much the features are smaller than the image: 8 as published, 16 or 32 for
    a fraction of the time.
    """
    lookup(dict.fromkeys(BACKBONES), backbone, "model.options.backbone")
    if stride not in DILATIONS:
        raise ValueError(f"model.options.stride={stride} is not known; valid values: 8, 16, 32")
    resnet = getattr(torchvision().models, backbone)(weights=None)
    for stage, dilation in zip((resnet.layer3, resnet.layer4), DILATIONS[stride], strict=True):
        if dilation > 1:
            dilate_(stage, dilation)
    return PSPNet(resnet, num_classes, dropout)


def dilate_(stage: nn.Module, dilation: int) -> None:
    """Replace the strides of a stage by dilation; torchvision can do so with bottlenecks only.

    The shapes of the weights stay the same.
    """
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)


def pooled(features: Tensor, bins: int) -> Tensor:
    """Return the adaptive average pooling to bins x bins.

    It is two products of matrices: the gradient of torch's own is not deterministic on CUDA.
    """
    rows = _means(features.shape[-2], bins, features)
    columns = _means(features.shape[-1], bins, features)
    return rows @ features @ columns.T


def _means(size: int, bins: int, like: Tensor) -> Tensor:
    """Return bins x size weights of the mean over each part; parts may overlap."""
    positions = torch.arange(size, device=like.device)
    part = torch.arange(bins, device=like.device)[:, None]
    first, end = part * size // bins, -(-(part + 1) * size // bins)
    inside = ((positions >= first) & (positions < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _layer(channels_in: int, channels: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _head(channels_in: int, channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    layer = _layer(channels_in, channels, 3)
    return nn.Sequential(*layer, nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))
