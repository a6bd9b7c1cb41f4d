"""Filter pruning: the published counts, whole filters, the smallest norms, never back."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning.apportion import num_kept
from sms_dist.pruning.filters import keep_filters, living_filters
from sms_dist.pruning.mask import full_mask
from sms_dist.schedules.sparsity import geometric

SHAPES = {"conv1.weight": (7, 3, 3, 3), "conv2.weight": (10, 7, 1), "fc.weight": (4, 10)}


def random_weights(seed):
    """Rounded, so that there are ties."""
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(shape, generator=generator).round() for n, shape in SHAPES.items()}


def test_a_layer_of_160_filters_has_lost_42_73_and_96():
    weights = {"w": torch.randn(160, 2, 3, 3, generator=torch.Generator().manual_seed(0))}
    mask, lost = full_mask(weights, weights), []
    for sparsity in geometric(0.6, 3):
        mask = keep_filters(weights, mask, sparsity)
        lost.append(160 - int(living_filters(mask["w"]).sum()))
    assert lost == [42, 73, 96]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(0.05, 0.95), st.integers(1, 4))
def test_every_convolution_loses_its_count_of_whole_filters_for_good(seed, goal, phases):
    weights = random_weights(seed)
    mask = full_mask(weights, weights)
    for phase, sparsity in enumerate(geometric(goal, phases)):
        tighter = keep_filters(weights, mask, sparsity)
        assert all(not (tighter[name] & ~mask[name]).any() for name in mask)
        assert tighter["fc.weight"].all()
        for name in ("conv1.weight", "conv2.weight"):
            filters = tighter[name].flatten(1)
            assert torch.equal(filters.any(1), filters.all(1))
            assert int(filters.any(1).sum()) == num_kept(len(filters), sparsity)
        again = keep_filters(weights, mask, sparsity)
        assert all(torch.equal(again[name], tighter[name]) for name in mask)
        mask, weights = tighter, random_weights(seed + phase + 1)


def test_filters_with_the_smallest_norm_go_and_of_equal_ones_the_later():
    norms = torch.tensor([3.0, -1.0, 2.0, 1.0, -2.0])
    weights = {"w": norms.view(5, 1, 1).repeat(1, 2, 2)}
    full = full_mask(weights, weights)
    assert living_filters(keep_filters(weights, full, 0.2)["w"]).tolist() == [1, 1, 1, 0, 1]
    assert living_filters(keep_filters(weights, full, 0.6)["w"]).tolist() == [1, 0, 1, 0, 0]


def test_of_many_equal_filters_the_first_stay():
    weights = {"w": torch.ones(1000, 1, 1)}
    kept = keep_filters(weights, full_mask(weights, weights), 0.6)["w"].flatten()
    assert torch.equal(kept, torch.arange(1000) < 400)


def test_a_dead_filter_ranks_behind_living_zeros():
    weights = {"w": torch.tensor([9.0, 0.0, 0.0]).view(3, 1, 1)}
    mask = {"w": torch.tensor([False, True, True]).view(3, 1, 1)}
    assert keep_filters(weights, mask, 1 / 3)["w"].flatten().tolist() == [False, True, True]


def test_weights_pruned_one_by_one_do_not_count_and_stay_pruned():
    weights = {"w": torch.tensor([[9.0, 1.0], [2.0, 2.0]]).view(2, 2, 1)}
    mask = {"w": torch.tensor([[False, True], [True, True]]).view(2, 2, 1)}
    kept = keep_filters(weights, mask, 0.5)["w"]
    assert kept.flatten(1).tolist() == [[False, False], [True, True]]
    assert torch.equal(keep_filters(weights, mask, 0.0)["w"], mask["w"])
