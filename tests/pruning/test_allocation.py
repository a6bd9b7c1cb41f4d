"""How many weights each layer keeps: exact sums, fair shares, never more than there are."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sms_dist.pruning.allocation import ALLOCATIONS, global_
from sms_dist.pruning.layer import Layer
from sms_dist.pruning.mask import count
from sms_dist.pruning.selection import keep_largest

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)
VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0])
LAYERS = st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=5)
EVERY = pytest.mark.parametrize("allocate", ALLOCATIONS.values(), ids=ALLOCATIONS)


def layers_of(layers, alive=None):
    """Layers given as lists of weights, one dim each; `alive` likewise (None: all)."""
    masks = alive or [[True] * len(layer) for layer in layers]
    return {
        f"layer{i}": Layer(torch.tensor(layer), torch.tensor(mask))
        for i, (layer, mask) in enumerate(zip(layers, masks, strict=True))
    }


def counts_of(allocate, layers, num_kept):
    """How many of each layer stay: every layer is in one ranking."""
    counts = {}
    for ranking in allocate(layers, num_kept):
        kept = keep_largest([layers[name] for name in ranking.names], ranking.num_kept)
        counts |= {name: count(mask) for name, mask in zip(ranking.names, kept, strict=True)}
    assert list(counts) == list(layers)
    return list(counts.values())


def uniform(layers, num_kept):
    return counts_of(ALLOCATIONS["uniform"], layers, num_kept)


def full(sizes):
    return layers_of([[1.0] * size for size in sizes])


def is_refused(allocate, layers, num_kept):
    """Two allocations promise some layers a minimum, which may be more than there is to keep."""
    if allocate is ALLOCATIONS["lamp"]:
        return num_kept < sum(layer.num_alive > 0 for layer in layers.values())
    *_, last = layers.values()
    # of layers without a convolution the last one keeps a fifth
    return allocate is ALLOCATIONS["uniform_plus"] and num_kept < last.weight.numel() / 5


@EVERY
@settings(deadline=None, max_examples=60)
@given(LAYERS, st.data())
def test_counts_sum_exactly_and_no_layer_gets_more_than_is_alive(allocate, layers, data):
    alive = [data.draw(st.lists(st.booleans(), min_size=len(x), max_size=len(x))) for x in layers]
    left = sum(map(sum, alive))
    assume(left)
    num_kept = data.draw(st.integers(1, left))
    found = layers_of(layers, alive)
    if is_refused(allocate, found, num_kept):
        with pytest.raises(ValueError, match=r"lower pruning\.goal_sparsity"):
            allocate(found, num_kept)
        return
    counts = counts_of(allocate, found, num_kept)
    assert sum(counts) == num_kept
    assert all(0 <= n <= sum(m) for n, m in zip(counts, alive, strict=True))


@settings(deadline=None, max_examples=60)
@given(LAYERS, st.data())
def test_global_counts_are_those_of_one_stable_sort_over_all_layers(layers, data):
    weights = [(w, i) for i, layer in enumerate(layers) for w in layer]
    num_kept = data.draw(st.integers(1, len(weights)))
    survivors = sorted(weights, key=lambda pair: -pair[0])[:num_kept]  # ties: earlier layer
    counts = counts_of(global_, layers_of(layers), num_kept)
    expected = [sum(i == layer for _, i in survivors) for layer in range(len(layers))]
    assert counts == expected


@settings(deadline=None, max_examples=60)
@given(SIZES, st.data())
def test_uniform_counts_are_within_one_of_the_same_fraction(sizes, data):
    num_kept = data.draw(st.integers(1, sum(sizes)))
    counts = uniform(full(sizes), num_kept)
    for num, size in zip(counts, sizes, strict=True):
        assert abs(num - num_kept / sum(sizes) * size) < 1


def test_what_rounding_leaves_goes_to_the_largest_remainders():
    # Shares of 5 of 12: 0.417, 1.25, 3.333.
    assert uniform(full([1, 3, 8]), 5) == [1, 1, 3]


def test_of_equal_remainders_the_earlier_layer_comes_first():
    # Shares 1/3, 4/3 and 7/3, whose fractions differ once they are floating-point numbers.
    assert uniform(full([1, 4, 7]), 4) == [1, 1, 2]
    assert uniform(full([7, 4, 1]), 4) == [3, 1, 0]


def test_uniform_after_an_extreme_global_mask_takes_what_there_is():
    alive = [[True] + [False] * 99, [True] * 100]
    counts = uniform(layers_of([[1.0] * 100] * 2, alive), 100)
    assert counts == [1, 99]


def test_a_layer_without_survivors_gets_none():
    alive = [[False] * 4, [True] * 4]
    for allocate in ALLOCATIONS.values():
        assert counts_of(allocate, layers_of([[9.0] * 4, [1.0] * 4], alive), 3) == [0, 3]


def test_lamp_counts_are_those_of_one_ranking_of_scores():
    layers = layers_of([[1.0, 2.0, 3.0], [1.0, 3.0, 4.0, 8.0]])
    # 1, 1, 4/13 = .31, 16/80 = .2, 9/89 = .10, 1/14 = .07, 1/90 = .01
    order = [0, 1, 0, 1, 1, 0, 1]
    for num_kept in range(2, 8):
        expected = [order[:num_kept].count(layer) for layer in (0, 1)]
        assert counts_of(ALLOCATIONS["lamp"], layers, num_kept) == expected


@settings(deadline=None, max_examples=60)
@given(LAYERS, st.data())
def test_lamp_leaves_no_layer_without_a_weight(layers, data):
    num_kept = data.draw(st.integers(len(layers), sum(map(len, layers))))
    counts = counts_of(ALLOCATIONS["lamp"], layers_of(layers), num_kept)
    assert min(counts) >= 1


def test_lamp_does_not_depend_on_the_scale_of_a_layer():
    small, large = [1.0, 2.0, 3.0], [1000.0, 2000.0, 3000.0]
    for num_kept in range(2, 7):
        first = counts_of(ALLOCATIONS["lamp"], layers_of([small, small]), num_kept)
        assert counts_of(ALLOCATIONS["lamp"], layers_of([small, large]), num_kept) == first


def test_shapes_decide_for_erk_and_living_weights_limit_it():
    weights = torch.ones(8), torch.ones(18), torch.ones(48)
    shapes = (2, 4), (3, 6), (2, 4, 6)

    def allocate(alive):
        layers = {
            str(shape): Layer(w.view(shape), (torch.arange(len(w)) < num).view(shape))
            for w, num, shape in zip(weights, alive, shapes, strict=True)
        }
        return counts_of(ALLOCATIONS["erk"], layers, 37)

    assert allocate((8, 18, 48)) == [8, 12, 17]  # 8, 12.43, 16.57
    assert allocate((4, 18, 48)) == [4, 13, 20]  # 4 more for the others, by their room
