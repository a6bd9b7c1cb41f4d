"""VGG-16 with batch norm: torchvision's for ImageNet, and the usual form for CIFAR."""

from __future__ import annotations

from torch import Tensor, nn

from sms_dist.base.lookup import lookup
from sms_dist.base.vision import torchvision
from sms_dist.models.initialise import he
from sms_dist.models.resnet import CIFAR_SIZE

_IS_LINEAR = {"auto": None, "linear": True, "full": False}


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
    """15 million parameters with the linear head, 138 million with the full one.

    `head`: full (two hidden layers of 4,096 with `dropout`, on 7x7 positions), linear (one layer,
    as is usual for CIFAR) or auto: linear for 32x32 images. `width` (of the linear form) is that
    of the first convolutions.
    """
    is_linear = lookup(_IS_LINEAR, head, "model.options.head")
    if is_linear is None:
        is_linear = input_shape[1:] == CIFAR_SIZE
    if width < 1 or (width != 64 and not is_linear):
        raise ValueError(
            f"model.options.width={width} must be 64, or at least 1 with model.options.head=linear"
        )
    if min(input_shape[1:]) < 32:
        raise ValueError(f"model.name=vgg16_bn takes images from 32x32 on, not {input_shape}")
    vgg = torchvision().models.vgg
    if not is_linear:
        model: nn.Module = vgg.vgg16_bn(weights=None, num_classes=num_classes, dropout=dropout)
        return model
    plan = [size if size == "M" else size * width // 64 for size in vgg.cfgs["D"]]
    return he(LinearVGG(vgg.make_layers(plan, batch_norm=True), 8 * width, num_classes))
