"""The paper's WRN-20: a wide pre-activation ResNet of depth 22 with dropout and biases."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.models.initialise import he

BLOCKS = 3  # a stage: depth 6 * 3 + 4 = 22


class Block(nn.Module):
    """Norm, ReLU, convolution, dropout, norm, ReLU, convolution, beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.conv1(F.relu(self.norm1(x))))
        y = self.conv2(F.relu(self.norm2(y)))
        total: Tensor = y + self.shortcut(x)
        return total


class WideResNet(nn.Module):
    """Three stages of widths 16k, 32k, 64k after a stem of 16."""

    def __init__(self, num_classes: int, widen: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.stage1 = _stage(16, 16 * widen, 1, dropout)
        self.stage2 = _stage(16 * widen, 32 * widen, 2, dropout)
        self.stage3 = _stage(32 * widen, 64 * widen, 2, dropout)
        self.norm = nn.BatchNorm2d(64 * widen)
        self.classifier = nn.Linear(64 * widen, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.conv1(images))))
        x = F.relu(self.norm(x))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def wrn20(
    input_shape: tuple[int, int, int], num_classes: int, *, widen: int = 10, dropout: float = 0.3
) -> nn.Module:
    """26,863,460 parameters at widen 10 and 100 classes."""
    if widen < 1:
        raise ValueError(f"model.options.widen={widen} must be at least 1; the default is 10")
    if not 0 <= dropout < 1:
        raise ValueError(f"model.options.dropout={dropout} must lie in [0, 1); the default is 0.3")
    return he(WideResNet(num_classes, widen, dropout))


def _stage(channels_in: int, channels: int, stride: int, dropout: float) -> nn.Sequential:
    first = Block(channels_in, channels, stride, dropout)
    others = (Block(channels, channels, 1, dropout) for _ in range(BLOCKS - 1))
    return nn.Sequential(first, *others)
