"""The k largest weights: exact, ties by lower index, whatever the values and the shards."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning import selection
from sms_dist.pruning.selection import PRUNED, find_cut, keep_largest, magnitude_keys

DENORMAL = 1e-45
AWKWARD = [0.0, -0.0, DENORMAL, -DENORMAL, 1e-40, 1.0, -1.0, 1.0 + 2**-23, float("inf"), -3e38]
WEIGHTS = st.lists(
    st.sampled_from(AWKWARD) | st.floats(allow_nan=False, width=32), min_size=1, max_size=60
)
MANY_TIES = st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=60)


def keys_of(weights: list[float], alive: list[bool] | None = None) -> torch.Tensor:
    mask = torch.ones(len(weights), dtype=torch.bool) if alive is None else torch.tensor(alive)
    return magnitude_keys(torch.tensor(weights, dtype=torch.float32), mask)


def sorted_reference(weights: list[float], num_kept: int) -> list[bool]:
    order = sorted(range(len(weights)), key=lambda i: -abs(weights[i]))  # stable
    return [i in order[:num_kept] for i in range(len(weights))]


@settings(deadline=None, max_examples=100)
@given(WEIGHTS | MANY_TIES, st.data())
def test_the_kept_weights_are_those_of_a_stable_sort(weights, data):
    num_kept = data.draw(st.integers(0, len(weights)))
    kept = keep_largest(keys_of(weights), num_kept)
    assert kept.tolist() == sorted_reference(weights, num_kept)


@settings(deadline=None, max_examples=50)
@given(MANY_TIES, st.data())
def test_pruned_weights_stay_pruned_however_large(weights, data):
    alive = data.draw(st.lists(st.booleans(), min_size=len(weights), max_size=len(weights)))
    num_kept = data.draw(st.integers(0, sum(alive)))
    kept = keep_largest(keys_of(weights, alive), num_kept)
    assert int(kept.sum()) == num_kept
    assert not (kept & ~torch.tensor(alive)).any()


@settings(deadline=None, max_examples=50)
@given(MANY_TIES, st.integers(1, 20))
def test_of_equal_weights_the_first_stay(weights, num_kept):
    num_kept = min(num_kept, len(weights))
    kept = keep_largest(keys_of([2.0] * len(weights)), num_kept)
    assert kept.tolist() == [i < num_kept for i in range(len(weights))]


def test_signs_and_minus_zero_do_not_count():
    assert keys_of([1.5, -0.0, DENORMAL]).tolist() == keys_of([-1.5, 0.0, -DENORMAL]).tolist()


def test_keys_are_flat_and_say_what_is_pruned():
    alive = torch.tensor([[True, False], [True, True]])
    keys = magnitude_keys(torch.tensor([[1.0, 9.0], [0.0, -2.0]]), alive)
    assert keys.shape == (4,)
    assert keys[1] == PRUNED
    assert keys[3] > keys[0] > keys[2] >= 0


def test_bf16_weights_are_ranked_like_their_fp32_copies():
    weights = torch.linspace(-3, 3, 1000).to(torch.bfloat16)
    alive = torch.ones(1000, dtype=torch.bool)
    assert len(weights.unique()) < 1000  # there are ties
    assert torch.equal(magnitude_keys(weights, alive), magnitude_keys(weights.float(), alive))
    kept = keep_largest(magnitude_keys(weights, alive), 137)
    assert kept.tolist() == sorted_reference(weights.tolist(), 137)


@settings(deadline=None, max_examples=50)
@given(MANY_TIES, st.integers(1, 4), st.data())
def test_histograms_summed_over_shards_give_the_cut_of_the_whole(weights, num_shards, data):
    keys = keys_of(weights)
    num_kept = data.draw(st.integers(1, len(weights)))
    shards = keys.tensor_split(num_shards)
    # The other shards do what this one does: their histograms are those of a search for the rest.
    rounds = [histograms(shards, None), histograms(shards, find_cut([keys], num_kept).key >> 16)]
    for mine in range(num_shards):
        others = iter([sum(counts[:mine] + counts[mine + 1 :]) for counts in rounds])
        cut = find_cut([shards[mine]], num_kept, lambda counts, rest=others: counts + next(rest))
        assert cut == find_cut([keys], num_kept)


def histograms(shards, high) -> list[torch.Tensor]:
    """How often each shard has each value of the high 16 bits, or of the low ones below `high`."""
    if high is None:
        return [torch.bincount(shard >> 16, minlength=1 << 15) for shard in shards]
    return [torch.bincount(s[s >> 16 == high] & 0xFFFF, minlength=1 << 16) for s in shards]


@pytest.mark.parametrize("chunk", [1, 7, 99, 100, 101])
def test_the_size_of_the_chunks_does_not_matter(monkeypatch, chunk):
    weights = torch.arange(100).remainder(13).float()
    keys = magnitude_keys(weights, weights != 5)
    whole = [keep_largest(keys, num).tolist() for num in range(0, 90, 11)]
    monkeypatch.setattr(selection, "_CHUNK", chunk)
    assert [keep_largest(keys, num).tolist() for num in range(0, 90, 11)] == whole


def test_a_layer_larger_than_a_chunk_is_cut_exactly():
    weights = torch.arange(selection._CHUNK + 5).remainder(1000).float()
    kept = keep_largest(magnitude_keys(weights, torch.ones_like(weights, dtype=torch.bool)), 12_345)
    assert int(kept.sum()) == 12_345
    assert weights[kept].min() >= weights[~kept].max()


def test_the_cut_of_several_layers_is_that_of_all_their_keys_together():
    first, second = keys_of([1.0, 5.0, 3.0]), keys_of([3.0, 2.0, 3.0, 0.0])
    assert find_cut([first, second], 3) == find_cut([torch.cat([first, second])], 3)
    assert find_cut([first, second], 3).key == keys_of([3.0]).item()
    assert find_cut([first, second], 3).num_ties == 2
