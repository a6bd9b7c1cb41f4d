"""How many weights each layer keeps: exact sums, fair shares, never more than there are."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sms_dist.pruning.allocation import ALLOCATIONS, global_, uniform
from sms_dist.pruning.selection import magnitude_keys

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)
VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0])
LAYERS = st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=5)
BOTH = pytest.mark.parametrize("allocate", ALLOCATIONS.values(), ids=ALLOCATIONS)


def keys_of(layers, alive=None):
    """Keys of layers given as lists of weights; `alive` likewise (None: all)."""
    masks = alive or [[True] * len(layer) for layer in layers]
    return {
        f"layer{i}": magnitude_keys(torch.tensor(layer), torch.tensor(mask))
        for i, (layer, mask) in enumerate(zip(layers, masks, strict=True))
    }


def full(sizes):
    return keys_of([[1.0] * size for size in sizes])


@BOTH
@settings(deadline=None, max_examples=60)
@given(LAYERS, st.data())
def test_counts_sum_exactly_and_no_layer_gets_more_than_is_alive(allocate, layers, data):
    alive = [data.draw(st.lists(st.booleans(), min_size=len(x), max_size=len(x))) for x in layers]
    left = sum(map(sum, alive))
    assume(left)
    num_kept = data.draw(st.integers(1, left))
    counts = allocate(keys_of(layers, alive), num_kept)
    assert sum(counts.values()) == num_kept
    assert all(0 <= n <= sum(m) for n, m in zip(counts.values(), alive, strict=True))


@settings(deadline=None, max_examples=60)
@given(LAYERS, st.data())
def test_global_counts_are_those_of_one_stable_sort_over_all_layers(layers, data):
    weights = [(w, i) for i, layer in enumerate(layers) for w in layer]
    num_kept = data.draw(st.integers(1, len(weights)))
    survivors = sorted(weights, key=lambda pair: -pair[0])[:num_kept]  # ties: earlier layer
    counts = global_(keys_of(layers), num_kept)
    expected = [sum(i == layer for _, i in survivors) for layer in range(len(layers))]
    assert list(counts.values()) == expected


@settings(deadline=None, max_examples=60)
@given(SIZES, st.data())
def test_uniform_counts_are_within_one_of_the_same_fraction(sizes, data):
    num_kept = data.draw(st.integers(1, sum(sizes)))
    counts = uniform(full(sizes), num_kept).values()
    for count, size in zip(counts, sizes, strict=True):
        assert abs(count - num_kept / sum(sizes) * size) < 1


def test_what_rounding_leaves_goes_to_the_largest_remainders():
    # Shares of 5 of 12: 0.417, 1.25, 3.333.
    assert list(uniform(full([1, 3, 8]), 5).values()) == [1, 1, 3]


def test_of_equal_remainders_the_earlier_layer_comes_first():
    # Shares 1/3, 4/3 and 7/3, whose fractions differ once they are floating-point numbers.
    assert list(uniform(full([1, 4, 7]), 4).values()) == [1, 1, 2]
    assert list(uniform(full([7, 4, 1]), 4).values()) == [3, 1, 0]


def test_uniform_after_an_extreme_global_mask_takes_what_there_is():
    alive = [[True] + [False] * 99, [True] * 100]
    counts = uniform(keys_of([[1.0] * 100] * 2, alive), 100)
    assert list(counts.values()) == [1, 99]


def test_a_layer_without_survivors_gets_none():
    alive = [[False] * 4, [True] * 4]
    for allocate in ALLOCATIONS.values():
        assert list(allocate(keys_of([[9.0] * 4, [1.0] * 4], alive), 3).values()) == [0, 3]
