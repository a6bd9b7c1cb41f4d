"""A small convolutional net with batch norm for grey images from 8x8 pixels on."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.models.initialise import he


class DigitsCNN(nn.Module):
    """Three 3x3 convolutions, two of them at half resolution, then the mean over positions."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(4 * width)
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(images)))
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.relu(self.norm3(self.conv3(x)))
        # a plain mean, because the gradient of adaptive pooling is not deterministic on CUDA
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def digits_cnn(
    input_shape: tuple[int, int, int], num_classes: int, *, width: int = 16
) -> nn.Module:
    """About 24 thousand weights at width 16, growing with its square."""
    if min(input_shape[1:]) < 8:
        raise ValueError(f"model.name=digits_cnn takes images from 8x8 on, not {input_shape}")
    if width < 1:
        raise ValueError(f"model.options.width={width} must be at least 1; the default is 16")
    return he(DigitsCNN(num_classes, width))
