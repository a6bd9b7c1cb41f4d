"""Multiply-accumulates counted truly, and the speedup that a mask promises."""

import pytest
import torch
from torch import nn

from sms_dist.config import ModelConfig
from sms_dist.metrics.speedup import macs, theoretical_speedup
from sms_dist.models import build_on_meta
from sms_dist.pruning.mask import prunable_names
from sms_dist.vision import torchvision


def num_prunable(model):
    return sum(model.get_parameter(name).numel() for name in prunable_names(model))


def test_resnet50_at_224_is_golden():
    with torch.device("meta"):
        model = torchvision().models.resnet50()
    counts = macs(model, (3, 224, 224))
    assert sum(counts.values()) == 4_089_184_256
    assert num_prunable(model) == 25_502_912
    assert set(counts) == set(prunable_names(model))


@pytest.mark.parametrize(
    ("name", "prunable", "operations"),
    # by hand: positions x weights, stage after stage
    [("resnet18", 11_164_352, 555_422_720), ("resnet20", 268_336, 40_551_040)],
)
def test_cifar_resnets_are_golden(name, prunable, operations):
    model = build_on_meta(ModelConfig(name=name), (3, 32, 32), 10, data_name="cifar10")
    assert num_prunable(model) == prunable
    assert sum(macs(model, (3, 32, 32)).values()) == operations


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 6), 60 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3), (3, 10, 6), 8 * 4 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (3, 10, 6), 5 * 3 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3, dilation=2), (3, 10, 6), 6 * 2 * 8 * 3 * 9),
        (nn.Conv2d(4, 8, 3, padding=1, groups=2), (4, 10, 6), 60 * 8 * 2 * 9),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 10, 6), 60 * 4 * 9),
        (nn.Conv1d(2, 3, 5), (2, 9), 5 * 3 * 2 * 5),
        (nn.Linear(7, 5), (7,), 35),
        (nn.Linear(7, 5), (4, 7), 4 * 35),  # at each of 4 places
    ],
)
def test_each_output_uses_each_weight_of_its_filter(layer, shape, expected):
    assert macs(layer, shape) == {"weight": expected}


def test_a_layer_that_is_called_twice_counts_twice():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert macs(model, (3,)) == {"0.weight": 18}


def test_counting_computes_nothing_and_leaves_the_model_alone():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model.training
    assert macs(model, (1, 3, 3)) == {"0.weight": 18, "3.weight": 4}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_speedup_weighs_layers_by_their_operations():
    counts = {"a": 900, "b": 100}
    mask = {"a": torch.tensor([True, False]), "b": torch.tensor([True, True])}
    assert theoretical_speedup(counts, mask) == 1000 / 550
    assert theoretical_speedup(counts, {"a": mask["a"]}) == 1000 / 550  # others are dense
    assert theoretical_speedup(counts, {}) == 1
