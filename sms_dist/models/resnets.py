"""Residual networks: ResNet-20 and WRN-20 for CIFAR, ResNet-18 and -50 for images of any size."""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.base.lookup import lookup
from sms_dist.base.vision import torchvision

M = TypeVar("M", bound=nn.Module)
CIFAR_SIZE = (32, 32)


def he(model: M) -> M:
    """Draw the convolutions anew after He et al. (2015) and return the model.

    Linear layers keep torch's initial weights, and models of libraries keep all of theirs.
    """
    for module in model.modules():
        # On the meta device drawing would import torch's compiler, which takes seconds.
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Where the shape changes, the shortcut is a 1x1 convolution with batch norm, or (`pads`) it skips
    pixels and pads channels with zeros: option A of He et al. (2015), without parameters.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, pads: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        self.stride, self.num_padded = stride, channels - channels_in if pads else 0
        if not pads and (stride > 1 or channels_in != channels):
            conv = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.num_padded:
            before = self.num_padded // 2
            skipped = x[:, :, :: self.stride, :: self.stride]
            return F.relu(y + F.pad(skipped, (0, 0, 0, 0, before, self.num_padded - before)))
        return F.relu(y + self.shortcut(x))


class SmallResNet(nn.Module):
    """A ResNet for small images: a 3x3 stem without pooling, then stages of widths w, 2w, 4w ...

    The stages have `blocks` blocks each; from the second on they halve height and width.
    """

    def __init__(
        self, num_classes: int, width: int, *, num_stages: int, blocks: int, pads: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.num_stages, channels = num_stages, width
        for number in range(1, num_stages + 1):
            stride, channels_in = (1, width) if number == 1 else (2, channels)
            channels = width * 2 ** (number - 1)
            first = Block(channels_in, channels, stride, pads)
            others = (Block(channels, channels, 1, pads) for _ in range(blocks - 1))
            self.add_module(f"stage{number}", nn.Sequential(first, *others))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(images)))
        for number in range(1, self.num_stages + 1):
            x = getattr(self, f"stage{number}")(x)
        # a plain mean, because the gradient of adaptive pooling is not deterministic on CUDA
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def resnet20(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 16) -> nn.Module:
    """Return the CIFAR ResNet of He et al. (2015), section 4.2: 0.27 million weights."""
    return he(SmallResNet(num_classes, width, num_stages=3, blocks=3, pads=True))


def resnet18(
    input_shape: tuple[int, int, int], num_classes: int, *, width: int = 64, stem: str = "auto"
) -> nn.Module:
    """Return a ResNet-18: 11.2 million parameters at width 64 and 10 classes.

    `stem`: small (3x3, no pooling), large (7x7, max-pooling; torchvision's model) or auto: small
    for 32x32 images, of which the large one would leave nothing. `width` is that of the first
    stage; other widths than 64 need the small stem.
    """
    if _has_small_stem(stem, input_shape):
        return he(SmallResNet(num_classes, width, num_stages=4, blocks=2, pads=False))
    if width != 64:
        raise ValueError(
            f"model.options.width={width} needs the small stem; leave it out, or set"
            " model.options.stem=small"
        )
    model: nn.Module = torchvision().models.resnet18(weights=None, num_classes=num_classes)
    return model


def resnet50(
    input_shape: tuple[int, int, int], num_classes: int, *, stem: str = "auto"
) -> nn.Module:
    """Return torchvision's ResNet-50: 25,557,032 parameters for 1,000 classes.

    `stem` as in resnet18; the tensors have the same names with both.
    """
    model: nn.Module = torchvision().models.resnet50(weights=None, num_classes=num_classes)
    if _has_small_stem(stem, input_shape):
        model.conv1 = he(nn.Conv2d(3, 64, 3, padding=1, bias=False))
        model.maxpool = nn.Identity()
    return model


def _has_small_stem(stem: str, input_shape: tuple[int, int, int]) -> bool:
    chosen = lookup({"auto": None, "small": True, "large": False}, stem, "model.options.stem")
    return input_shape[1:] == CIFAR_SIZE if chosen is None else chosen


class WideBlock(nn.Module):
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
    """Three stages of three blocks, of widths 16k, 32k, 64k, after a stem of 16: depth 22."""

    def __init__(self, num_classes: int, widen: int, dropout: float) -> None:
        super().__init__()

        def stage(channels_in: int, channels: int, stride: int) -> nn.Sequential:
            first = WideBlock(channels_in, channels, stride, dropout)
            return nn.Sequential(
                first, *(WideBlock(channels, channels, 1, dropout) for _ in range(2))
            )

        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.stage1 = stage(16, 16 * widen, 1)
        self.stage2 = stage(16 * widen, 32 * widen, 2)
        self.stage3 = stage(32 * widen, 64 * widen, 2)
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
    """Return the paper's WRN-20, a pre-activation ResNet with dropout and biases.

    It has 26,863,460 parameters at widen 10 and 100 classes.
    """
    return he(WideResNet(num_classes, widen, dropout))
