"""The weights of a ResNet-50, drawn as they are before training, for benchmarks to work on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sms_dist import models
from sms_dist.config import ModelConfig
from sms_dist.pruning.mask import prunable_names

CONFIG = ModelConfig(name="resnet50")


def model() -> nn.Module:
    """On the meta device."""
    return models.build_on_meta(CONFIG, (3, 224, 224), 1000, data_name="imagenet")


def parameters(seed: int) -> dict[str, Tensor]:
    """Of the whole model, 25.6 million values: normal, in the scale of He et al. 2015."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(one.shape, generator=generator).mul_(
            math.sqrt(2 / max(math.prod(one.shape[1:]), 1))
        )
        for name, one in model().named_parameters()
    }


def prunable(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a state, the weights of convolutions and of the linear layer."""
    return {name: state[name] for name in prunable_names(model())}
