"""The k largest weights: exact, ties by lower index, whatever the values, types and layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning import layer as layers_file
from sms_dist.pruning import selection
from sms_dist.pruning.layer import Layer
from sms_dist.pruning.selection import keep_largest

DENORMAL = 1e-45
AWKWARD = [0.0, -0.0, DENORMAL, -DENORMAL, 1e-40, 1.0, -1.0, 1.0 + 2**-23, float("inf"), -3e38]
WEIGHTS = st.lists(
    st.sampled_from(AWKWARD) | st.floats(allow_nan=False, width=32), min_size=1, max_size=60
)
MANY_TIES = st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=60)
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def in_passes(layers, num_kept):
    """As on a device, where no sample is taken."""
    return selection._in_passes(layers, num_kept, selection.WHOLE)


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
