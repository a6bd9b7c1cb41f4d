"""The mask of a phase: exact, tighter than the last, the same from equal weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.base.vision import torchvision
from sms_dist.models.speedup import macs, on_meta, theoretical_speedup
from sms_dist.pruning.allocation import ALLOCATIONS, global_, num_kept
from sms_dist.pruning.filters import keep_filters
from sms_dist.pruning.mask import (
    Mask,
    apply_,
    full_mask,
    prunable_names,
)
from sms_dist.pruning.patterns import keep_allocated, keep_of_groups, tighten
from sms_dist.schedules.sparsity import geometric

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
        wanted = keep_allocated(weights, full, 270, allocate)  # of 540
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
    assert mask.num_kept == full.num_weights - round(0.8 * 25_502_912)
    assert mask["conv1.weight"].all()
    assert int(mask["fc.weight"].sum()) == mask["fc.weight"].numel() // 5
    middle = {n: k for n, k in mask.items() if n not in ("conv1.weight", "fc.weight")}
    assert Mask(middle).sparsity == pytest.approx(0.800321, abs=5e-7)
    assert theoretical_speedup(operations, mask) == pytest.approx(4.489, abs=5e-4)


def test_erk_on_resnet50_at_80_percent(resnet50, operations):
    _, weights, full = resnet50
    mask = tighten(weights, full, 0.8, allocation="erk")
    assert mask.num_kept == full.num_weights - round(0.8 * 25_502_912)
    assert theoretical_speedup(operations, mask) == pytest.approx(2.417, abs=5e-4)


def test_lamp_on_resnet50_keeps_the_count_and_a_weight_in_every_layer(resnet50):
    _, weights, full = resnet50
    mask = tighten(weights, full, 0.99, allocation="lamp")
    assert mask.num_kept == full.num_weights - round(0.99 * 25_502_912)
    assert all(kept.any() for kept in mask.values())


THREE_LAYERS = {"conv.weight": (4, 3, 3, 3), "fc1.weight": (20, 6), "fc2.weight": (10, 20)}
EVERY = pytest.mark.parametrize("allocate", ALLOCATIONS.values(), ids=ALLOCATIONS)


def random_weights(seed, decimals=1):
    """Rounded, so that there are ties."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator).round(decimals=decimals)
        for name, shape in THREE_LAYERS.items()
    }


@EVERY
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.05, 0.98), st.integers(1, 5))
def test_every_phase_keeps_exactly_its_count_and_masks_only_tighten(allocate, seed, goal, phases):
    weights = random_weights(seed)
    mask = full_mask(weights, weights)
    if allocate is ALLOCATIONS["uniform_plus"]:
        goal *= 0.66  # the convolution and a fifth of the last layer are 34 % of the weights
    for phase, target in enumerate(geometric(goal, phases)):
        tighter = keep_allocated(weights, mask, num_kept(mask.num_weights, target), allocate)
        assert tighter.num_kept == num_kept(mask.num_weights, target)
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
    mask = keep_allocated(weights, full_mask(weights, weights), count, global_)
    assert {name: kept.shape for name, kept in mask.items()} == THREE_LAYERS
    assert torch.equal(torch.cat([kept.flatten() for kept in mask.values()]), expected)


@EVERY
def test_weights_and_mask_are_left_as_they_are_and_the_answer_repeats(allocate):
    weights = random_weights(3)
    mask = full_mask(weights, weights)
    first, again = (keep_allocated(weights, mask, 200, allocate) for _ in range(2))
    assert mask.num_kept == mask.num_weights
    assert all(torch.equal(weights[name], random_weights(3)[name]) for name in weights)
    assert all(torch.equal(first[name], again[name]) for name in first)


@EVERY
def test_surviving_zeros_are_not_mistaken_for_pruned_weights(allocate):
    weights = {name: torch.zeros(shape) for name, shape in THREE_LAYERS.items()}
    mask = keep_allocated(weights, full_mask(weights, weights), 200, allocate)
    assert mask.num_kept == 200
    assert keep_allocated(weights, mask, 199, allocate).num_kept == 199


def test_keeping_all_that_is_there_changes_nothing():
    weights = random_weights(5)
    mask = keep_allocated(weights, full_mask(weights, weights), 200, global_)
    apply_(weights, mask)
    for allocate in ALLOCATIONS.values():
        same = keep_allocated(weights, mask, 200, allocate)
        assert all(torch.equal(same[name], mask[name]) for name in mask)


def test_uniform_after_an_extreme_global_cut_still_keeps_the_count():
    weights = random_weights(7)
    weights["fc2.weight"] *= 100
    mask = keep_allocated(weights, full_mask(weights, weights), 210, global_)
    assert int(mask["fc1.weight"].sum()) < 30  # fewer than its share
    tighter = keep_allocated(weights, mask, 205, ALLOCATIONS["uniform"])
    assert tighter.num_kept == 205
    assert all(not (tighter[name] & ~mask[name]).any() for name in mask)


@pytest.mark.parametrize("count", [0, -1, 429])
def test_an_impossible_count_is_refused(count):
    weights = random_weights(1)
    assert full_mask(weights, weights).num_weights == 428
    with pytest.raises(ValueError, match=rf"leaves {count} of 428 weights, of which 428"):
        keep_allocated(weights, full_mask(weights, weights), count, global_)


def weights_in_groups(seed, size, num_groups):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv.weight": (5, size * num_groups, 3, 2), "fc.weight": (3, size * num_groups)}
    return {n: torch.randn(shape, generator=generator).round() for n, shape in shapes.items()}


def groups(tensor, size):
    """Rows of `size` consecutive inputs: input channel after input channel at one position."""
    rows = tensor.flatten(2) if tensor.ndim > 2 else tensor[:, :, None]
    found = [
        rows[o, i : i + size, p]
        for o in range(rows.shape[0])
        for p in range(rows.shape[2])
        for i in range(0, rows.shape[1], size)
    ]
    return torch.stack(found)


def test_2_to_4_keeps_the_two_largest_inputs_and_of_equal_ones_the_first():
    weights = {"w": torch.tensor([[1.0, -4.0, 3.0, 2.0, 5.0, 5.0, -5.0, 5.0]])}
    kept = keep_of_groups(weights, full_mask(weights, weights), 0.5, 4)["w"]
    assert kept.tolist() == [[False, True, True, False, True, True, False, False]]


def test_the_groups_of_a_convolution_run_over_its_input_channels():
    weights = {"w": torch.tensor([[[1.0, 9.0], [2.0, 1.0], [3.0, 8.0], [0.0, 2.0]]])}  # 1 x 4 x 2
    kept = keep_of_groups(weights, full_mask(weights, weights), 0.5, 4)["w"]
    assert kept[0, :, 0].tolist() == [False, True, True, False]
    assert kept[0, :, 1].tolist() == [True, False, True, False]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 3), st.integers(1, 3), st.data())
def test_every_group_keeps_its_largest_and_masks_only_tighten(seed, size, num, phases, data):
    kept_of_size = data.draw(st.integers(1, size - 1))
    weights = weights_in_groups(seed, size, num)
    mask = full_mask(weights, weights)
    for phase, target in enumerate(geometric(1 - kept_of_size / size, phases)):
        tighter = keep_of_groups(weights, mask, target, size)
        for name, alive in mask.items():
            kept, values = groups(tighter[name], size), groups(weights[name], size).abs()
            before = groups(alive, size)
            assert not (kept & ~before).any()
            assert (kept.sum(1) == size - round(target * size)).all()
            least = values.masked_fill(~kept, float("inf")).min(1).values
            lost = values.masked_fill(kept | ~before, -1).max(1).values
            assert (least >= lost).all()
        mask, weights = tighter, weights_in_groups(seed + phase + 1, size, num)
    assert (groups(mask["conv.weight"], size).sum(1) == kept_of_size).all()


def test_pruned_weights_rank_behind_living_zeros():
    weights = {"w": torch.tensor([[9.0, 0.0, 0.0, 1.0]])}
    mask = {"w": torch.tensor([[False, True, True, True]])}
    assert keep_of_groups(weights, mask, 0.5, 4)["w"].tolist() == [[False, True, False, True]]


@pytest.mark.parametrize("left", [0, 1])
def test_a_group_with_fewer_weights_than_it_may_keep_keeps_those(left):
    mask = {"w": torch.arange(4)[None] < left}
    kept = keep_of_groups({"w": torch.ones(1, 4)}, mask, 0.5, 4)["w"]
    assert torch.equal(kept, mask["w"])
