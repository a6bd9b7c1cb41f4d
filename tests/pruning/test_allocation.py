"""How many weights each layer keeps: exact counts near the shares of each allocation."""

from __future__ import annotations

from fractions import Fraction
from math import prod

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sms_dist.pruning.allocation import (
    ALLOCATIONS,
    apportion,
    erk,
    global_,
    lamp_keys,
    num_kept,
    uniform,
    uniform_plus,
)
from sms_dist.pruning.mask import count
from sms_dist.pruning.selection import keep_largest
from sms_dist.pruning.threshold import Layer, magnitude_keys

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


def uniform_counts(layers, num_kept):
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
    counts = uniform_counts(full(sizes), num_kept)
    for num, size in zip(counts, sizes, strict=True):
        assert abs(num - num_kept / sum(sizes) * size) < 1


def test_what_rounding_leaves_goes_to_the_largest_remainders():
    # Shares of 5 of 12: 0.417, 1.25, 3.333.
    assert uniform_counts(full([1, 3, 8]), 5) == [1, 1, 3]


def test_of_equal_remainders_the_earlier_layer_comes_first():
    # Shares 1/3, 4/3 and 7/3, whose fractions differ once they are floating-point numbers.
    assert uniform_counts(full([1, 4, 7]), 4) == [1, 1, 2]
    assert uniform_counts(full([7, 4, 1]), 4) == [3, 1, 0]


def test_uniform_after_an_extreme_global_mask_takes_what_there_is():
    alive = [[True] + [False] * 99, [True] * 100]
    counts = uniform_counts(layers_of([[1.0] * 100] * 2, alive), 100)
    assert counts == [1, 99]


def test_a_layer_without_survivors_gets_none():
    alive = [[False] * 4, [True] * 4]
    for allocate in ALLOCATIONS.values():
        assert counts_of(allocate, layers_of([[9.0] * 4, [1.0] * 4], alive), 3) == [0, 3]


def test_lamp_counts_are_those_of_one_ranking_of_scores():
    layers = layers_of([[1.0, 2.0, 3.0], [1.0, 3.0, 4.0, 8.0]])
    # 1, 1, 4/13 = .31, 16/80 = .2, 9/89 = .10, 1/14 = .07, 1/90 = .01
    order = [0, 1, 0, 1, 1, 0, 1]
    for num in range(2, 8):
        expected = [order[:num].count(layer) for layer in (0, 1)]
        assert counts_of(ALLOCATIONS["lamp"], layers, num) == expected


@settings(deadline=None, max_examples=60)
@given(LAYERS, st.data())
def test_lamp_leaves_no_layer_without_a_weight(layers, data):
    num_kept = data.draw(st.integers(len(layers), sum(map(len, layers))))
    counts = counts_of(ALLOCATIONS["lamp"], layers_of(layers), num_kept)
    assert min(counts) >= 1


def test_lamp_does_not_depend_on_the_scale_of_a_layer():
    small, large = [1.0, 2.0, 3.0], [1000.0, 2000.0, 3000.0]
    for num in range(2, 7):
        first = counts_of(ALLOCATIONS["lamp"], layers_of([small, small]), num)
        assert counts_of(ALLOCATIONS["lamp"], layers_of([small, large]), num) == first


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


THREE = {str(shape): shape for shape in ((2, 4), (3, 6), (2, 4, 6))}
NET = {"conv": (4, 3, 3, 3), "hidden": (20, 6), "last": (10, 20)}  # 108, 120 and 200 weights
SHAPES = st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4), min_size=1, max_size=6)


def sparsities(shapes, shares):
    return [float(1 - kept / prod(shapes[name])) for name, kept in shares.items()]


@pytest.mark.parametrize(
    ("num_kept", "expected"),
    [
        (37, [0, 0.309524, 0.654762]),  # of 74: half
        # The published example "at .8" rounds what goes down in every layer, so that 16 stay.
        (16, [0.555556, 0.703704, 0.851852]),
        (15, [0.583333, 0.722222, 0.861111]),  # 80 % of all together
    ],
)
def test_erk_of_three_layers(num_kept, expected):
    assert sparsities(THREE, erk(THREE, num_kept)) == pytest.approx(expected, abs=5e-7)


@given(SHAPES, st.data())
def test_erk_shares_what_there_is_and_no_layer_gets_more_than_it_has(shapes, data):
    named = {str(i): tuple(shape) for i, shape in enumerate(shapes)}
    sizes = {name: prod(shape) for name, shape in named.items()}
    num_kept = data.draw(st.integers(0, sum(sizes.values())))
    shares = erk(named, num_kept)
    assert list(shares) == list(named)
    assert sum(shares.values()) == num_kept
    assert all(0 <= shares[name] <= sizes[name] for name in named)
    # of the layers that are not whole the density times prod / sum of the dims is one number
    partial = {shares[n] / sum(named[n]) for n in named if shares[n] < sizes[n]}
    assert len(partial) <= 1
    assert all(
        Fraction(sizes[n], sum(named[n])) <= max(partial, default=0)
        for n in named
        if partial and shares[n] == sizes[n]
    )


@given(st.integers(0, 428))
def test_uniform_takes_the_same_fraction_of_every_layer(num_kept):
    shares = uniform(NET, num_kept)
    assert {shares[name] / prod(shape) for name, shape in NET.items()} == {Fraction(num_kept, 428)}


def test_uniform_plus_keeps_the_first_convolution_whole():
    assert uniform_plus(NET, 268) == {"conv": 108, "hidden": 60, "last": 100}


def test_uniform_plus_keeps_a_fifth_of_the_last_layer_at_least():
    assert uniform_plus(NET, 172) == {"conv": 108, "hidden": 24, "last": 40}  # just so
    assert uniform_plus(NET, 160) == {"conv": 108, "hidden": 12, "last": 40}
    assert uniform_plus(NET, 148) == {"conv": 108, "hidden": 0, "last": 40}


def test_uniform_plus_refuses_what_leaves_less_than_nothing_for_the_middle():
    message = "keeps conv and 20 % of last: 148 weights, more than the 147 of 428 weights"
    with pytest.raises(ValueError, match=message):
        uniform_plus(NET, 147)


def test_uniform_plus_without_convolutions_has_no_first_one():
    shapes = {"first": (10, 10), "last": (10, 5)}
    assert uniform_plus(shapes, 75) == {"first": 50, "last": 25}
    assert uniform_plus(shapes, 15) == {"first": 5, "last": 10}


def test_a_single_convolution_cannot_be_pruned_by_uniform_plus():
    assert uniform_plus({"conv": (2, 2, 1, 1)}, 4) == {"conv": 4}
    with pytest.raises(ValueError, match="keeps conv: 4 weights"):
        uniform_plus({"conv": (2, 2, 1, 1)}, 3)


SHARES_AND_ROOM = st.lists(
    st.tuples(st.fractions(0, 30, max_denominator=9), st.integers(0, 30)), min_size=1
)


@given(SHARES_AND_ROOM, st.data())
def test_counts_add_up_and_stay_within_the_capacities(layers, data):
    capacities = {str(i): capacity for i, (_, capacity) in enumerate(layers)}
    shares = {str(i): share for i, (share, _) in enumerate(layers)}
    wanted = sum(min(shares[n], Fraction(capacities[n])) for n in shares)
    total = data.draw(st.integers(-(-wanted // 1), sum(capacities.values())))
    counts = apportion(shares, capacities, total)
    assert sum(counts.values()) == total
    assert all(0 <= counts[name] <= capacities[name] for name in counts)


@given(st.lists(st.fractions(0, 30, max_denominator=9), min_size=1))
def test_where_there_is_room_counts_are_shares_rounded_up_or_down(fractions):
    shares = {str(i): share for i, share in enumerate(fractions)}
    shares["rest"] = -sum(fractions) % 1
    counts = apportion(shares, dict.fromkeys(shares, 31), int(sum(shares.values())))
    assert all(abs(counts[name] - shares[name]) < 1 for name in shares)


def test_what_a_layer_has_no_room_for_goes_to_the_others_by_their_room():
    shares = {"a": Fraction(10), "b": Fraction(10), "c": Fraction(10)}
    assert apportion(shares, {"a": 4, "b": 12, "c": 14}, 30) == {"a": 4, "b": 12, "c": 14}
    assert apportion(shares, {"a": 7, "b": 11, "c": 12}, 30) == {"a": 7, "b": 11, "c": 12}
    assert apportion(shares, {"a": 4, "b": 14, "c": 18}, 30) == {"a": 4, "b": 12, "c": 14}


def test_the_number_that_goes_is_rounded():
    assert num_kept(10, 0.54) == 5
    assert num_kept(160, 0.6) == 64
    assert num_kept(7, 0.0) == 7


def scores(weights, alive=None):
    """In descending order."""
    mask = torch.tensor(alive or [True] * len(weights))
    keys = lamp_keys(magnitude_keys(torch.tensor(weights), mask))
    return keys.view(torch.float32).tolist()


def test_scores_of_1_2_3():
    assert scores([2.0, -1.0, 3.0]) == pytest.approx([1, 4 / 13, 1 / 14])


def test_of_equal_weights_all_count_and_one_of_the_largest_has_the_highest_score():
    assert scores([2.0, 1.0, 1.0]) == pytest.approx([1, 1 / 6, 1 / 6])
    assert scores([3.0, 3.0, 3.0]) == pytest.approx([1, 1 / 3, 1 / 3])


def test_pruned_weights_neither_count_nor_get_a_score():
    assert scores([1.0, 9.0, 2.0, 3.0], [True, False, True, True]) == scores([1.0, 2.0, 3.0])
    assert scores([1.0, 2.0], [False, False]) == []


def test_a_layer_of_zeros_has_one_score_above_zero():
    assert scores([0.0, 0.0, 0.0]) == [1, 0, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_scores_follow_the_definition(weights):
    found = scores([float(w) for w in weights])
    ordered = sorted(weights, reverse=True)
    for w, score in list(zip(ordered, found, strict=True))[1:]:
        total = sum(v * v for v in weights if v >= w)
        assert score == pytest.approx(w * w / total if total else 0.0)
    assert found == sorted(found, reverse=True)
