"""Convolutional nets and MaxViT: a small one for digits, VGG-16, and torchvision's MaxViT."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.base.lookup import lookup
from sms_dist.base.vision import torchvision
from sms_dist.models.resnets import CIFAR_SIZE, he


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
    """Return a small net with batch norm for grey images: 24 thousand weights at width 16."""
    if min(input_shape[1:]) < 8:
        raise ValueError(f"model.name=digits_cnn takes images from 8x8 on, not {input_shape}")
    return he(DigitsCNN(num_classes, width))


class LinearVGG(nn.Module):
    """The convolutions, the mean over positions, then one linear layer."""

    def __init__(self, features: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def vgg16_bn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    head: str = "auto",
    width: int = 64,
    dropout: float = 0.5,
) -> nn.Module:
    """Return VGG-16 with batch norm: 15 million parameters with the linear head, else 138 million.

    `head`: full (two hidden layers of 4,096 with `dropout`, on 7x7 positions), linear (one layer,
    as is usual for CIFAR) or auto: linear for 32x32 images. `width` (of the linear form) is that
    of the first convolutions.
    """
    heads = {"auto": None, "linear": True, "full": False}
    is_linear = lookup(heads, head, "model.options.head")
    if is_linear is None:
        is_linear = input_shape[1:] == CIFAR_SIZE
    if width != 64 and not is_linear:
        raise ValueError(
            f"model.options.width={width} must be 64, or set model.options.head=linear"
        )
    if min(input_shape[1:]) < 32:
        raise ValueError(f"model.name=vgg16_bn takes images from 32x32 on, not {input_shape}")
    vgg = torchvision().models.vgg
    if not is_linear:
        model: nn.Module = vgg.vgg16_bn(weights=None, num_classes=num_classes, dropout=dropout)
        return model
    plan = [size if size == "M" else size * width // 64 for size in vgg.cfgs["D"]]
    return he(LinearVGG(vgg.make_layers(plan, batch_norm=True), 8 * width, num_classes))


def maxvit_t(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    layers: Sequence[int] = (2, 2, 5, 2),
    width: int = 64,
    head_dim: int = 32,
    window: int = 7,
    stochastic_depth: float = 0.2,
) -> nn.Module:
    """Return MaxViT (Tu et al., 2022) by torchvision: convolutions, attention in windows and grids.

    The defaults are MaxViT-T: 30,919,624 parameters for 1,000 classes.

    The model is made for the images' size. There is a stage for each entry of `layers`; they halve
    the image, starting from a quarter, and double the `width`. `window` has to divide each
    stage's height and width: 7 for 224x224, and 4 for 32x32 with two stages.
    """
    if not layers or min(layers) < 1:
        raise ValueError(f"model.options.layers={list(layers)} needs a number above 0 a stage")
    if width % head_dim:
        raise ValueError(
            f"model.options.width={width} must be a multiple of model.options.head_dim={head_dim}"
        )
    for stage in range(len(layers)):
        sizes = [-(-size // 2 ** (stage + 2)) for size in input_shape[1:]]
        if any(size % window for size in sizes):
            raise ValueError(
                f"model.options.window={window} does not divide the {sizes[0]}x{sizes[1]} positions"
                f" of stage {stage + 1}; with {len(layers)} stages it takes images whose height and"
                f" width are multiples of {window * 2 ** (len(layers) + 1)} (data.size)"
            )
    model: nn.Module = torchvision().models.MaxVit(
        input_size=input_shape[1:],
        stem_channels=width,
        block_channels=[width * 2**stage for stage in range(len(layers))],
        block_layers=list(layers),
        head_dim=head_dim,
        partition_size=window,
        stochastic_depth_prob=stochastic_depth,
        num_classes=num_classes,
    )
    return model
