"""The exact k-th largest key, whatever the chunks and the ranks that hold them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning.cut import Cut, Parts, find_cut

KEYS = st.lists(
    st.sampled_from([0, 1, 255, 256, 65535, 65536, 2**31 - 1]) | st.integers(0, 2**31 - 1),
    min_size=1,
    max_size=40,
)


def tensor(keys: list[int]) -> torch.Tensor:
    return torch.tensor(keys, dtype=torch.int32)


@settings(deadline=None, max_examples=60)
@given(KEYS, st.data())
def test_the_cut_is_that_of_a_sort_and_keys_below_zero_are_gone(keys, data):
    num_kept = data.draw(st.integers(1, len(keys)))
    key = sorted(keys)[-num_kept]
    expected = Cut(key, num_kept - sum(other > key for other in keys))
    assert find_cut([tensor([*keys, -1, -1])], num_kept) == expected
    pieces = tensor(keys).split(data.draw(st.integers(1, 5)))
    assert find_cut(pieces, num_kept) == expected


@settings(deadline=None, max_examples=30)
@given(KEYS, st.integers(1, 4), st.data())
def test_histograms_summed_over_parts_give_the_cut_of_the_whole(keys, num_ranks, data):
    num_kept = data.draw(st.integers(1, len(keys)))
    shards = tensor(keys).tensor_split(num_ranks)
    whole = find_cut([tensor(keys)], num_kept)
    for mine in range(num_ranks):
        # What the other ranks count in each pass, once they know what is found so far.
        others = [s for rank, s in enumerate(shards) if rank != mine]
        passes = iter([(16, 15), (8, 8), (0, 8)])

        def total(counts, others=others, passes=passes):
            low, bits = next(passes)
            for s in others:
                same = s[s >> (low + bits) == whole.key >> (low + bits)] if bits == 8 else s
                counts = counts + torch.bincount(same >> low & (2**bits - 1), minlength=2**bits)
            return counts

        assert find_cut([shards[mine]], num_kept, Parts(total, mine, num_ranks)) == whole


@pytest.mark.parametrize("num_ties", range(7))
def test_the_first_ties_over_all_parts_stay(num_ties):
    equal = [2, 0, 3, 1]

    def stay(rank):
        parts = Parts(lambda own: torch.tensor(equal), rank, len(equal))
        return parts.own_ties(equal[rank], num_ties)

    expected = [[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0], [2, 0, 1, 0], [2, 0, 2, 0], [2, 0, 3, 0]]
    assert [stay(rank) for rank in range(4)] == [*expected, [2, 0, 3, 1]][num_ties]
