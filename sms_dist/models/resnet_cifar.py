"""The CIFAR ResNets of He et al. (2015), section 4.2, their shortcuts without parameters."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.models.initialise import he


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut that skips pixels and pads channels (option A)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.new_channels == 0:
            return x
        before = self.new_channels // 2
        skipped = x[:, :, :: self.stride, :: self.stride]
        return F.pad(skipped, (0, 0, 0, 0, before, self.new_channels - before))


class ResNetCifar(nn.Module):
    """Depth 6n + 2 with n blocks a stage; widths w, 2w, 4w."""

    def __init__(self, num_classes: int, blocks: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.stage1 = _stage(width, width, blocks, stride=1)
        self.stage2 = _stage(width, 2 * width, blocks, stride=2)
        self.stage3 = _stage(2 * width, 4 * width, blocks, stride=2)
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(images)))
        x = self.stage3(self.stage2(self.stage1(x)))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def resnet20(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 16) -> nn.Module:
    """About 0.27 million weights at width 16."""
    if width < 1:
        raise ValueError(f"model.options.width={width} must be at least 1; the default is 16")
    return he(ResNetCifar(num_classes, blocks=3, width=width))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(channels_in, channels, stride)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))
