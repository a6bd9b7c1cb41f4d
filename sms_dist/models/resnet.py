"""ResNet-18 and -50 for images of any size, by torchvision; small images get a stem of their own.

The usual stem divides height and width by four before the first block, which leaves nothing of a
32x32 image. The small one is a 3x3 convolution, and no pooling.
"""

from __future__ import annotations

from torch import nn

from sms_dist.base.lookup import lookup
from sms_dist.base.vision import torchvision
from sms_dist.models.initialise import he
from sms_dist.models.resnet18_small import SmallResNet18

CIFAR_SIZE = (32, 32)
_IS_SMALL = {"auto": None, "small": True, "large": False}


def resnet18(
    input_shape: tuple[int, int, int], num_classes: int, *, width: int = 64, stem: str = "auto"
) -> nn.Module:
    """11.2 million parameters at width 64 and 10 classes.

    `stem`: small (3x3, no pooling), large (7x7, max-pooling; torchvision's model) or auto: small
    for 32x32 images. `width` is that of the first stage.
    """
    if width < 1:
        raise ValueError(f"model.options.width={width} must be at least 1; the default is 64")
    if _has_small_stem(stem, input_shape):
        return he(SmallResNet18(num_classes, width))
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
    """25,557,032 parameters for 1,000 classes; `stem` as in resnet18, the tensors' names alike."""
    model: nn.Module = torchvision().models.resnet50(weights=None, num_classes=num_classes)
    if _has_small_stem(stem, input_shape):
        model.conv1 = he(nn.Conv2d(3, 64, 3, padding=1, bias=False))
        model.maxpool = nn.Identity()
    return model


def _has_small_stem(stem: str, input_shape: tuple[int, int, int]) -> bool:
    chosen = lookup(_IS_SMALL, stem, "model.options.stem")
    return input_shape[1:] == CIFAR_SIZE if chosen is None else chosen
