"""A phase's pruning goes by the pattern, and the golden ResNet-50 is pruned as published."""

import pytest
import torch

from sms_dist.base.vision import torchvision
from sms_dist.models.speedup import macs, on_meta, theoretical_speedup
from sms_dist.pruning.allocation import ALLOCATIONS
from sms_dist.pruning.filters import keep_filters
from sms_dist.pruning.mask import full_mask, num_surviving, num_weights, prunable_names, sparsity
from sms_dist.pruning.n_of_m import keep_of_groups
from sms_dist.pruning.patterns import tighten
from sms_dist.pruning.prune import prune

SHAPES = {"conv1.weight": (8, 4, 1, 3), "conv2.weight": (12, 8, 2, 2), "fc.weight": (5, 12)}


@pytest.fixture(scope="module")
def resnet50():
    """(model, seeded random weights, full mask)"""
    with torch.device("meta"):
        model = torchvision().models.resnet50()
    generator = torch.Generator().manual_seed(0)
    shapes = {name: model.get_parameter(name).shape for name in prunable_names(model)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return model, weights, full_mask(weights, weights)


@pytest.fixture(scope="module")
def operations(resnet50):
    return macs(resnet50[0], on_meta((3, 224, 224)))


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_pattern_decides_what_goes_together():
    generator = torch.Generator().manual_seed(1)
    weights = {n: torch.randn(shape, generator=generator) for n, shape in SHAPES.items()}
    full = full_mask(weights, weights)
    for name, allocate in ALLOCATIONS.items():
        wanted = prune(weights, full, 270, allocate)  # of 540
        assert same(tighten(weights, full, 0.5, allocation=name), wanted)
    found = tighten(weights, full, 0.4, pattern="filters")
    assert same(found, keep_filters(weights, full, 0.4))
    found = tighten(weights, full, 0.5, pattern="2:4")
    assert same(found, keep_of_groups(weights, full, 0.5, 4))


@pytest.mark.parametrize("keys", [{"allocation": "ekr"}, {"pattern": "filtres"}])
def test_unknown_names_are_refused(keys):
    weights = {"w": torch.ones(2, 2)}
    with pytest.raises(ValueError, match="is not known, did you mean"):
        tighten(weights, full_mask(weights, weights), 0.5, **keys)


def test_uniform_plus_on_resnet50_at_80_percent(resnet50, operations):
    _, weights, full = resnet50
    mask = tighten(weights, full, 0.8, allocation="uniform_plus")
    assert num_surviving(mask) == num_weights(full) - round(0.8 * 25_502_912)
    assert mask["conv1.weight"].all()
    assert int(mask["fc.weight"].sum()) == mask["fc.weight"].numel() // 5
    middle = {n: k for n, k in mask.items() if n not in ("conv1.weight", "fc.weight")}
    assert sparsity(middle) == pytest.approx(0.800321, abs=5e-7)
    assert theoretical_speedup(operations, mask) == pytest.approx(4.489, abs=5e-4)


def test_erk_on_resnet50_at_80_percent(resnet50, operations):
    _, weights, full = resnet50
    mask = tighten(weights, full, 0.8, allocation="erk")
    assert num_surviving(mask) == num_weights(full) - round(0.8 * 25_502_912)
    assert theoretical_speedup(operations, mask) == pytest.approx(2.417, abs=5e-4)


def test_lamp_on_resnet50_keeps_the_count_and_a_weight_in_every_layer(resnet50):
    _, weights, full = resnet50
    mask = tighten(weights, full, 0.99, allocation="lamp")
    assert num_surviving(mask) == num_weights(full) - round(0.99 * 25_502_912)
    assert all(kept.any() for kept in mask.values())
