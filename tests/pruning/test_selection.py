"""The k largest weights: exact, ties by lower index, whatever the values, types, layers and way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning import selection
from sms_dist.pruning import threshold as layers_file
from sms_dist.pruning.selection import keep_largest
from sms_dist.pruning.threshold import Layer

DENORMAL = 1e-45
AWKWARD = [0.0, -0.0, DENORMAL, -DENORMAL, 1e-40, 1.0, -1.0, 1.0 + 2**-23, float("inf"), -3e38]
WEIGHTS = st.lists(
    st.sampled_from(AWKWARD) | st.floats(allow_nan=False, width=32), min_size=1, max_size=60
)
MANY_TIES = st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=60)
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def in_passes(layers, num_kept):
    """As on a device, where no sample is taken."""
    return selection._in_passes(layers, num_kept)


WAYS = pytest.mark.parametrize("way", [keep_largest, in_passes])


def kept_of(way, weights, num_kept, alive=None, dtype=torch.float32) -> list[bool]:
    mask = None if alive is None else torch.tensor(alive)
    (kept,) = way([Layer(torch.tensor(weights, dtype=dtype), mask)], num_kept)
    return kept.tolist()


def sorted_reference(weights: list[float], num_kept: int) -> list[bool]:
    order = sorted(range(len(weights)), key=lambda i: -abs(weights[i]))  # stable
    return [i in order[:num_kept] for i in range(len(weights))]


@WAYS
@settings(deadline=None, max_examples=60)
@given(WEIGHTS | MANY_TIES, st.sampled_from(TYPES), st.data())
def test_the_kept_weights_are_those_of_a_stable_sort(way, weights, dtype, data):
    num_kept = data.draw(st.integers(1, len(weights)))
    rounded = torch.tensor(weights, dtype=dtype).float().tolist()
    assert kept_of(way, weights, num_kept, dtype=dtype) == sorted_reference(rounded, num_kept)


@WAYS
@settings(deadline=None, max_examples=30)
@given(MANY_TIES, st.data())
def test_pruned_weights_stay_pruned_however_large(way, weights, data):
    alive = data.draw(st.lists(st.booleans(), min_size=len(weights), max_size=len(weights)))
    alive[0] = True
    num_kept = data.draw(st.integers(1, sum(alive)))
    kept = kept_of(way, weights, num_kept, alive)
    living = [abs(w) if lives else -1.0 for w, lives in zip(weights, alive, strict=True)]
    order = sorted(range(len(weights)), key=lambda i: -living[i])
    assert kept == [i in order[:num_kept] for i in range(len(weights))]


@WAYS
@pytest.mark.parametrize("num_kept", [1, 5, 19, 20])
def test_of_equal_weights_the_first_stay(way, num_kept):
    assert kept_of(way, [2.0] * 20, num_kept) == [i < num_kept for i in range(20)]


def test_none_are_kept_when_none_are_wanted():
    assert kept_of(keep_largest, [1.0, 2.0], 0) == [False, False]


@WAYS
def test_several_layers_are_one_ranking_and_keep_their_shapes(way):
    weights = [torch.tensor([[1.0, 5.0], [3.0, 0.0]]), torch.tensor([3.0, -4.0, 3.0]).bfloat16()]
    layers = [Layer(w) for w in (weights[0], torch.empty(0, 3), torch.tensor(3.0), weights[1])]
    found = [kept.tolist() for kept in way(layers, 4)]
    assert found == [[[False, True], [True, False]], [], True, [False, True, False]]


@WAYS
def test_order_is_that_of_the_indices_not_of_the_memory(way):
    weight = torch.ones(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    (kept,) = way([Layer(weight, weight > 0)], 7)
    assert kept.flatten().tolist() == [i < 7 for i in range(24)]


@pytest.mark.parametrize("chunk", [1, 7, 99, 100, 101])
def test_the_size_of_the_chunks_does_not_matter(monkeypatch, chunk):
    weights = torch.arange(100).remainder(13).float()
    layers = [Layer(weights, weights != 5)]
    whole = [in_passes(layers, num)[0].tolist() for num in range(1, 90, 11)]
    monkeypatch.setattr(layers_file, "CHUNK", chunk)
    monkeypatch.setattr(selection, "CHUNK", chunk)
    assert [in_passes(layers, num)[0].tolist() for num in range(1, 90, 11)] == whole


def test_weights_of_a_network_may_require_gradients():
    (kept,) = keep_largest([Layer(torch.nn.Parameter(torch.tensor([1.0, -2.0])))], 1)
    assert kept.tolist() == [False, True]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """So that some thousand weights are many, in several chunks."""
    monkeypatch.setattr(selection, "_SMALL", 16)
    monkeypatch.setattr(selection, "_HOST_CHUNK", 100)


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
    aside = []
    find = selection.find_threshold

    def find_and_note(keys, num):
        aside.extend(keys)
        return find(keys, num)

    monkeypatch.setattr(selection, "find_threshold", find_and_note)
    weights = torch.randn(300, 1000, generator=torch.Generator().manual_seed(1)).to(dtype)
    masks = selection._in_one_pass([Layer(weights)], int(share * 300_000))
    assert masks is not None
    assert torch.equal(flat(masks), reference([Layer(weights)], int(share * 300_000)))
    assert len(aside[0]) < 0.1 * 300_000  # of 25 million it is less than a hundredth


@pytest.mark.parametrize("scale", [0.001, 1000.0])
def test_a_sample_that_misleads_costs_time_and_no_weight(scale):
    weights = torch.randn(3000, generator=torch.Generator().manual_seed(1))
    weights[:: selection._stride(3000)] *= scale  # all that the sample looks at
    assert selection._in_one_pass([Layer(weights)], 1500) is None
    kept = flat(keep_largest([Layer(weights)], 1500))
    assert torch.equal(kept, reference([Layer(weights)], 1500))


def test_many_equal_weights_are_not_set_aside(monkeypatch):
    monkeypatch.setattr(selection, "_FEW", 100)
    layers = [Layer(torch.ones(3000))]
    assert selection._in_one_pass(layers, 1000) is None
    assert torch.equal(flat(keep_largest(layers, 1000)), torch.arange(3000) < 1000)


def test_infinite_and_undefined_weights_are_the_largest():
    weights = torch.linspace(0, 1, 3000)
    weights[[5, 70, 900]] = torch.tensor([float("nan"), -float("inf"), -float("nan")])
    found = [keep_largest([Layer(weights)], num)[0].nonzero().flatten() for num in (1, 2, 3)]
    assert [places.tolist() for places in found] == [[5], [5, 900], [5, 70, 900]]
