"""The order of samples: complete, reproducible, and the same for any number of ranks."""

from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.base.randomness import Stream, stream
from sms_dist.data.loader import cut, part_indices, steps_per_epoch, windowed

ORDER = stream(3, "order", 1, 2)


def epoch(num_samples, batch_size, order, rank, num_ranks, start_step=0):
    return cut(order.permutation(num_samples), batch_size, rank, num_ranks, start_step)


def flat(pieces):
    return list(chain.from_iterable(pieces))


def chunks(num_samples: int, batch_size: int, num_ranks: int) -> list[list[int]]:
    """The samples of each step, gathered from all ranks in rank order."""
    ranks = [
        [step.own.tolist() for step in epoch(num_samples, batch_size, ORDER, rank, num_ranks)]
        for rank in range(num_ranks)
    ]
    return [flat(pieces) for pieces in zip(*ranks, strict=True)]


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 200), st.integers(4, 50), st.integers(1, 4))
def test_every_epoch_sees_every_sample_once(num_samples, batch_size, num_ranks):
    if num_samples // steps_per_epoch(num_samples, batch_size) < num_ranks:
        return
    steps = chunks(num_samples, batch_size, num_ranks)
    assert sorted(flat(steps)) == list(range(num_samples))
    sizes = {len(step) for step in steps}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_a_step_holds_the_same_samples_for_any_number_of_ranks(num_ranks):
    assert chunks(103, 16, num_ranks) == chunks(103, 16, 1)


def test_the_ranks_shares_differ_by_one_sample_at_most_and_know_the_whole():
    shares = [next(epoch(103, 16, ORDER, rank, 4)) for rank in range(4)]
    lengths = [len(share.own) for share in shares]
    assert max(lengths) - min(lengths) <= 1
    together = torch.cat([share.own for share in shares])
    assert all(torch.equal(share.everyone, together) for share in shares)


def test_starting_later_gives_the_rest_of_the_same_epoch():
    whole = list(epoch(50, 8, ORDER, 1, 2))
    rest = list(epoch(50, 8, ORDER, 1, 2, start_step=3))
    assert len(rest) == len(whole) - 3 > 0
    for again, before in zip(rest, whole[3:], strict=True):
        assert torch.equal(again.own, before.own)
        assert torch.equal(again.everyone, before.everyone)


def test_another_stream_gives_another_order():
    other = stream(3, "order", 1, 3)
    first, second = (next(epoch(100, 100, s, 0, 1)).own for s in (ORDER, other))
    assert not torch.equal(first, second)


def test_a_rank_without_samples_is_refused_before_the_first_step():
    with pytest.raises(ValueError, match=r"engine\.ranks_per_candidate=1"):
        epoch(5, 2, ORDER, 0, 3)
    with pytest.raises(ValueError, match=r"data\.batch_size=4"):
        epoch(5, 4, ORDER, 0, 4)


@pytest.mark.parametrize("num_parts", [1, 2, 3, 20])
def test_parts_together_hold_every_sample_once_in_stored_order(num_parts):
    batches = [b.tolist() for p in range(num_parts) for b in part_indices(103, 16, p, num_parts)]
    assert flat(batches) == list(range(103))
    assert batches == [b.tolist() for b in part_indices(103, 16, 0, 1)]


SIZES = st.lists(st.integers(0, 30), max_size=12)


@settings(deadline=None, max_examples=60)
@given(SIZES, st.integers(1, 14), st.integers(0, 2**63 - 1))
def test_mixing_few_shards_at_a_time_sees_every_sample_once(sizes, num_mixed, key):
    order = windowed(sizes, num_mixed, Stream(key))
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    assert torch.equal(order, windowed(sizes, num_mixed, Stream(key)))


@settings(deadline=None, max_examples=60)
@given(SIZES, st.integers(1, 14), st.integers(0, 2**63 - 1))
def test_no_more_shards_are_open_than_are_mixed(sizes, num_mixed, key):
    """A shard is open from its first sample to its last."""
    shard = [i for i, size in enumerate(sizes) for _ in range(size)]
    read = [shard[sample] for sample in windowed(sizes, num_mixed, Stream(key)).tolist()]
    last = {i: place for place, i in enumerate(read)}
    is_open: set[int] = set()
    for place, i in enumerate(read):
        is_open.add(i)
        assert len(is_open) <= num_mixed
        is_open -= {i} if last[i] == place else set()


def test_shards_and_the_samples_in_a_window_come_in_random_order():
    order = windowed([50] * 40, 4, ORDER)
    first = order[:200]
    assert len({int(i) // 50 for i in first}) == 4
    assert {int(i) // 50 for i in first} != {0, 1, 2, 3}
    neighbours = (first[1:] // 50 == first[:-1] // 50).double().mean()
    assert 0.15 < neighbours < 0.35  # of four shards, a quarter
    assert not torch.equal(order, windowed([50] * 40, 4, stream(3, "order", 1, 3)))


def test_all_shards_at_once_and_any_order_are_cut_alike():
    order = windowed([10] * 5, 5, ORDER)
    steps = [step.own for step in cut(order, 8, 0, 1)]
    assert torch.equal(torch.cat(steps), order)
    assert [len(i) for i in steps] == [len(step.everyone) for step in epoch(50, 8, ORDER, 0, 1)]
