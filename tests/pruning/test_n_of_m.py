"""N:M pruning: N of every M consecutive inputs, the largest, never back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning.mask import full_mask
from sms_dist.pruning.n_of_m import keep_of_groups
from sms_dist.schedules.sparsity import geometric


def random_weights(seed, size, num_groups):
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
    weights = random_weights(seed, size, num)
    mask = full_mask(weights, weights)
    for phase, sparsity in enumerate(geometric(1 - kept_of_size / size, phases)):
        tighter = keep_of_groups(weights, mask, sparsity, size)
        for name, alive in mask.items():
            kept, values = groups(tighter[name], size), groups(weights[name], size).abs()
            before = groups(alive, size)
            assert not (kept & ~before).any()
            assert (kept.sum(1) == size - round(sparsity * size)).all()
            least = values.masked_fill(~kept, float("inf")).min(1).values
            lost = values.masked_fill(kept | ~before, -1).max(1).values
            assert (least >= lost).all()
        mask, weights = tighter, random_weights(seed + phase + 1, size, num)
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
