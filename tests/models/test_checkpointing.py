"""Gradient checkpointing computes blocks twice, and changes no bit of gradients or statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sms_dist import models
from sms_dist.base import vision
from sms_dist.config import ModelConfig
from sms_dist.models.checkpointing import checkpoint_blocks_

MODELS = {
    "resnet20": ("resnet20", {"width": 4}, (3, 32, 32)),
    "wrn20": ("wrn20", {"widen": 1, "dropout": 0.3}, (3, 32, 32)),
    "timm": ("timm:test_resnet", {}, (3, 32, 32)),
    "vit": ("timm:test_vit", {}, (3, 32, 32)),
}


def built(name: str, options: dict[str, object], shape: tuple[int, ...]) -> nn.Module:
    return models.build(ModelConfig(name=name, options=options), shape, 10, seed=0, data_name="x")


def trained(model: nn.Module) -> tuple[dict[str, torch.Tensor], int]:
    """Return gradients and buffers after a step, and how often the last layers' input was asked."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    torch.manual_seed(1)
    model.train()(torch.randn(4, 3, 32, 32)).square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return gradients | dict(model.named_buffers()), calls


@pytest.mark.parametrize("case", MODELS)
def test_bits_are_those_without(case):
    if case in ("timm", "vit"):
        vision.mend()  # timm imports torchvision
        pytest.importorskip("timm")
    plain = built(*MODELS[case])
    again = copy.deepcopy(plain)
    checkpoint_blocks_(again, case)
    (one, few), (other, many) = trained(plain), trained(again)
    assert many > few
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="has no blocks"):
        checkpoint_blocks_(nn.Sequential(nn.Linear(2, 2)), "flat")
