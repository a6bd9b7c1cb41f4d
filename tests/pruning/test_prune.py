"""Pruning: the exact count, phase after phase, as a pure function of the weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning.allocation import ALLOCATIONS, global_
from sms_dist.pruning.apportion import num_kept
from sms_dist.pruning.mask import apply_, full_mask, num_surviving, num_weights
from sms_dist.pruning.prune import prune
from sms_dist.schedules.sparsity import geometric

SHAPES = {"conv.weight": (4, 3, 3, 3), "fc1.weight": (20, 6), "fc2.weight": (10, 20)}
EVERY = pytest.mark.parametrize("allocate", ALLOCATIONS.values(), ids=ALLOCATIONS)


def random_weights(seed, decimals=1):
    """Rounded, so that there are ties."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator).round(decimals=decimals)
        for name, shape in SHAPES.items()
    }


@EVERY
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.05, 0.98), st.integers(1, 5))
def test_every_phase_keeps_exactly_its_count_and_masks_only_tighten(allocate, seed, goal, phases):
    weights = random_weights(seed)
    mask = full_mask(weights, weights)
    if allocate is ALLOCATIONS["uniform_plus"]:
        goal *= 0.66  # the convolution and a fifth of the last layer are 34 % of the weights
    for phase, sparsity in enumerate(geometric(goal, phases)):
        tighter = prune(weights, mask, num_kept(num_weights(mask), sparsity), allocate)
        assert num_surviving(tighter) == num_kept(num_weights(mask), sparsity)
        assert all(not (tighter[name] & ~mask[name]).any() for name in mask)
        # Retraining moves all surviving weights, and another candidate's pruned ones are large.
        mask, weights = tighter, random_weights(seed + phase + 1)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 428))
def test_global_pruning_is_one_stable_sort_over_parameters_then_indices(seed, count):
    weights = random_weights(seed, decimals=0)  # many ties, also across parameters
    flat = torch.cat([w.flatten() for w in weights.values()])
    expected = torch.zeros(len(flat), dtype=torch.bool)
    expected[flat.abs().sort(descending=True, stable=True).indices[:count]] = True
    mask = prune(weights, full_mask(weights, weights), count, global_)
    assert {name: kept.shape for name, kept in mask.items()} == SHAPES
    assert torch.equal(torch.cat([kept.flatten() for kept in mask.values()]), expected)


@EVERY
def test_weights_and_mask_are_left_as_they_are_and_the_answer_repeats(allocate):
    weights = random_weights(3)
    mask = full_mask(weights, weights)
    first, again = (prune(weights, mask, 200, allocate) for _ in range(2))
    assert num_surviving(mask) == num_weights(mask)
    assert all(torch.equal(weights[name], random_weights(3)[name]) for name in weights)
    assert all(torch.equal(first[name], again[name]) for name in first)


@EVERY
def test_surviving_zeros_are_not_mistaken_for_pruned_weights(allocate):
    weights = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    mask = prune(weights, full_mask(weights, weights), 200, allocate)
    assert num_surviving(mask) == 200
    assert num_surviving(prune(weights, mask, 199, allocate)) == 199


def test_keeping_all_that_is_there_changes_nothing():
    weights = random_weights(5)
    mask = prune(weights, full_mask(weights, weights), 200, global_)
    apply_(weights, mask)
    for allocate in ALLOCATIONS.values():
        same = prune(weights, mask, 200, allocate)
        assert all(torch.equal(same[name], mask[name]) for name in mask)


def test_uniform_after_an_extreme_global_cut_still_keeps_the_count():
    weights = random_weights(7)
    weights["fc2.weight"] *= 100
    mask = prune(weights, full_mask(weights, weights), 210, global_)
    assert int(mask["fc1.weight"].sum()) < 30  # fewer than its share
    tighter = prune(weights, mask, 205, ALLOCATIONS["uniform"])
    assert num_surviving(tighter) == 205
    assert all(not (tighter[name] & ~mask[name]).any() for name in mask)


@pytest.mark.parametrize("count", [0, -1, 429])
def test_an_impossible_count_is_refused(count):
    weights = random_weights(1)
    assert num_weights(full_mask(weights, weights)) == 428
    with pytest.raises(ValueError, match=rf"leaves {count} of 428 weights, of which 428"):
        prune(weights, full_mask(weights, weights), count, global_)
