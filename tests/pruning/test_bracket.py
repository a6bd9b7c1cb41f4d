"""One pass between sampled bounds: right wherever it answers, and it answers for likely weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning import bracket
from sms_dist.pruning.layer import Layer
from sms_dist.pruning.selection import keep_largest


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """So that some thousand weights are many, in several chunks."""
    monkeypatch.setattr(bracket, "_SMALL", 16)
    monkeypatch.setattr(bracket, "_CHUNK", 100)


def layers_of(seed, dtype=torch.float32, pruned=0.0, decimals=None):
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for scale, shape in ((1.0, (8, 3, 5)), (0.1, (40, 30)), (0.3, (2000,)), (2.0, (7, 1))):
        weight = torch.randn(shape, generator=generator) * scale
        if decimals is not None:
            weight = weight.round(decimals=decimals)
        alive = torch.rand(shape, generator=generator) >= pruned
        layers.append(Layer(weight.to(dtype), alive if pruned else None))
    return layers


def reference(layers, num_kept):
    """By a stable sort of all living weights."""
    magnitudes = [torch.where(x.keys() >= 0, x.flat.float().abs(), -1.0) for x in layers]
    flat = torch.cat(magnitudes)
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[flat.sort(descending=True, stable=True).indices[:num_kept]] = True
    return kept


def flat(masks):
    return torch.cat([mask.flatten() for mask in masks])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    st.sampled_from([0.0, 0.5, 0.99]),
    st.sampled_from([None, 2, 0]),
    st.floats(0, 1),
)
def test_the_mask_is_that_of_a_stable_sort(seed, dtype, pruned, decimals, share):
    layers = layers_of(seed, dtype, pruned, decimals)
    num_kept = max(1, round(share * sum(layer.num_alive for layer in layers)))
    assert torch.equal(flat(keep_largest(layers, num_kept)), reference(layers, num_kept))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_a_network_s_weights_little_is_set_aside(share, dtype, monkeypatch):
    seen = []
    find = bracket.find_cut
    monkeypatch.setattr(bracket, "find_cut", lambda keys, *a: seen.extend(keys) or find(keys, *a))
    weights = torch.randn(300, 1000, generator=torch.Generator().manual_seed(1)).to(dtype)
    masks = bracket.keep_largest([Layer(weights)], int(share * 300_000))
    assert masks is not None
    assert torch.equal(flat(masks), reference([Layer(weights)], int(share * 300_000)))
    assert len(seen[0]) < 0.1 * 300_000  # of 25 million it is less than a hundredth


@pytest.mark.parametrize("scale", [0.001, 1000.0])
def test_a_sample_that_misleads_costs_time_and_no_weight(scale):
    weights = torch.randn(3000, generator=torch.Generator().manual_seed(1))
    weights[:: bracket._stride(3000)] *= scale  # all that the sample looks at
    assert bracket.keep_largest([Layer(weights)], 1500) is None
    kept = flat(keep_largest([Layer(weights)], 1500))
    assert torch.equal(kept, reference([Layer(weights)], 1500))


def test_many_equal_weights_are_not_set_aside(monkeypatch):
    monkeypatch.setattr(bracket, "_FEW", 100)
    layers = [Layer(torch.ones(3000))]
    assert bracket.keep_largest(layers, 1000) is None
    assert torch.equal(flat(keep_largest(layers, 1000)), torch.arange(3000) < 1000)


def test_infinite_and_undefined_weights_are_the_largest():
    weights = torch.linspace(0, 1, 3000)
    weights[[5, 70, 900]] = torch.tensor([float("nan"), -float("inf"), -float("nan")])
    found = [keep_largest([Layer(weights)], num)[0].nonzero().flatten() for num in (1, 2, 3)]
    assert [places.tolist() for places in found] == [[5], [5, 900], [5, 70, 900]]
