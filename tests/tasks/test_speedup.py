"""Multiply-accumulates counted truly, and the speedup that a mask promises."""

import pytest
import torch
from torch import nn

from sms_dist.base.vision import torchvision
from sms_dist.config import ModelConfig
from sms_dist.models import build_on_meta
from sms_dist.models.speedup import OTHER, macs, on_meta, theoretical_speedup
from sms_dist.pruning.mask import prunable_names


def num_prunable(model):
    return sum(model.get_parameter(name).numel() for name in prunable_names(model))


def test_resnet50_at_224_is_golden():
    with torch.device("meta"):
        model = torchvision().models.resnet50()
    counts = macs(model, on_meta((3, 224, 224)))
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
    assert sum(macs(model, on_meta((3, 32, 32))).values()) == operations


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
        (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), 27 * 3 * 2 * 8),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 3), 15 * 4 * 3 * 9),
        (nn.Linear(7, 5), (7,), 35),
        (nn.Linear(7, 5), (4, 7), 4 * 35),  # at each of 4 places
        (nn.Linear(7, 5), (3, 4, 7), 12 * 35),
    ],
)
def test_each_output_uses_each_weight_of_its_filter(layer, shape, expected):
    assert macs(layer, on_meta(shape)) == {"weight": expected}


def test_a_layer_that_is_called_twice_counts_twice():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert macs(model, on_meta((3,))) == {"0.weight": 18}


def test_a_layer_of_two_parents_counts_twice_under_its_first_name():
    layer = nn.Linear(3, 3)
    model = nn.ModuleDict({"b": nn.Sequential(layer), "a": nn.Sequential(layer, layer)})
    model.forward = lambda x: model["a"](model["b"](x))
    assert macs(model, on_meta((3,))) == {"b.0.weight": 27}


class Hidden(nn.Module):
    """Calls its layer through a wrapper that is not registered."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.wrappers = [nn.Sequential(self.layer)]

    def forward(self, x):
        return self.wrappers[0](x)


def test_the_names_are_those_of_the_model_whoever_calls_the_layer():
    assert macs(Hidden(), on_meta((3,))) == {"layer.weight": 12}


class SelfAttention(nn.Module):
    def __init__(self, is_fused):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True) if is_fused else None
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        if self.attention is not None:
            return self.last(self.attention(x, x, x)[0])
        return self.last(nn.functional.scaled_dot_product_attention(x, x, x))


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("is_fused", [False, True])
def test_attention_counts_beside_the_layers_and_its_projections_are_weights(
    is_fused, is_frozen, device
):
    model = SelfAttention(is_fused).requires_grad_(not is_frozen)
    counts = macs(model, (torch.zeros(3, 5, 8, device=device),))
    projections = {"attention.in_proj_weight": 3 * 5 * 8 * 8, "attention.out_proj.weight": 320}
    expected = {"last.weight": 5 * 8 * 3, OTHER: 2 * 5 * 5 * 8} | (projections if is_fused else {})
    assert counts == expected


def test_attention_is_never_pruned():
    counts = {"a": 600, OTHER: 400}
    mask = {"a": torch.tensor([True, False, False])}
    assert theoretical_speedup(counts, mask) == pytest.approx(1000 / 600)


class TwoInputs(nn.Module):
    """Embedded tokens of two languages, and a head that only training uses."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(10, 4)
        self.layer = nn.Linear(4, 6)
        self.auxiliary = nn.Linear(6, 10)

    def forward(self, source, target):
        outputs = self.layer(self.tokens(source)), self.layer(self.tokens(target))
        return (*outputs, self.auxiliary(outputs[0])) if self.training else outputs


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("num_samples", [1, 5])
def test_several_inputs_are_counted_for_one_sample_as_in_evaluation(device, num_samples):
    with torch.device("meta"):
        model = TwoInputs()
    model.layer.eval()
    inputs = (
        torch.zeros(num_samples, 8, dtype=torch.int64, device=device),
        torch.zeros(num_samples, 3, dtype=torch.int64, device=device),
    )
    assert macs(model, inputs) == {"layer.weight": (8 + 3) * 24}
    assert model.training
    assert not model.layer.training


def test_a_model_that_cannot_run_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))
    with pytest.raises(RuntimeError):
        macs(model, on_meta((3,)))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_counting_computes_nothing_and_leaves_the_model_alone():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model.training
    assert macs(model, on_meta((1, 3, 3))) == {"0.weight": 18, "3.weight": 4}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_speedup_weighs_layers_by_their_operations():
    counts = {"a": 900, "b": 100}
    mask = {"a": torch.tensor([True, False]), "b": torch.tensor([True, True])}
    assert theoretical_speedup(counts, mask) == 1000 / 550
    assert theoretical_speedup(counts, {"a": mask["a"]}) == 1000 / 550  # others are dense
    assert theoretical_speedup(counts, {}) == 1
