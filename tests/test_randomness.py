"""Randomness: frozen numbers, and a stream for every address."""

import random

import numpy as np
import pytest
import torch

from sms_dist.base.randomness import Stream, seed, stream

IDS = torch.tensor([0, 1, 50_000, 2**40])


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ((0, "retrain order", 1, 0), 654293213300460980),
        ((1000, "pretrain dropout", 0, 3, 7, 1), 6627195716791775727),
        ((0, "digits split"), 4724329473911015843),
        ((0, "validation split"), 1981593589025708539),
    ],
)
def test_keys_are_golden(address, key):
    assert stream(*address) == Stream(key)


def test_the_seed_of_an_address_is_the_key_of_its_stream():
    assert seed(0, "retrain order", 1, 0) == 654293213300460980
    numbers = np.arange(2)
    assert seed(numbers[0], "retrain order", numbers[1], False) == 654293213300460980
    assert torch.Generator().manual_seed(seed(2**62, "order")).initial_seed() < 2**63


@pytest.mark.parametrize(
    "address", [(0, "order/1"), (0, ""), (0, 1), (0.0, "order"), (0, "a", "b")]
)
def test_two_addresses_never_read_alike(address):
    """Were "order/1" a purpose, ("order/1", 2) would be ("order", 1, 2)."""
    with pytest.raises(ValueError, match="must be"):
        seed(*address)


def test_uniforms_are_golden():
    found = stream(0, "augment", 1, 2).uniform(IDS[:3], 3)
    assert (found * 2**24).tolist() == [
        [8055864, 2585202, 8436543],
        [14702459, 10372365, 4763817],
        [402818, 15452498, 15861067],
    ]


def test_a_sample_has_the_same_numbers_in_every_batch():
    augment = stream(1, "augment", 2, 3)
    whole = augment.uniform(torch.arange(100), 4)
    assert torch.equal(augment.uniform(torch.arange(50, 100), 4), whole[50:])
    assert torch.equal(augment.uniform(torch.tensor([7]), 4), whole[7:8])
    backwards = augment.uniform(torch.arange(99, -1, -1), 4)
    assert torch.equal(backwards.flip(0), whole)


def test_uniforms_are_in_the_half_open_unit_interval_and_evenly_spread():
    found = stream(0, "spread").uniform(torch.arange(50_000), 4)
    assert found.dtype == torch.float32
    assert 0 <= found.min() < 1e-3
    assert 1 - 1e-3 < found.max() < 1
    counts = torch.histc(found, 20, 0, 1)
    assert ((counts - 10_000).abs() < 500).all()  # five standard deviations
    assert (found.mean(0) - 0.5).abs().max() < 0.007


def test_samples_and_draws_are_not_correlated():
    found = stream(0, "correlation").uniform(torch.arange(20_000), 3)
    neighbours = torch.cat([found[:-1], found[1:]], 1)
    off_diagonal = torch.corrcoef(neighbours.T) - torch.eye(6)
    assert off_diagonal.abs().max() < 0.04


def test_every_address_has_a_stream_of_its_own():
    addresses = [
        (seed, purpose, *rest)
        for seed in range(12)
        for purpose in ("order", "augment", "dropout")
        for rest in [(), *((i,) for i in range(12)), *((i, j) for i in range(12) for j in range(9))]
    ]
    assert len({stream(*address).key for address in addresses}) == len(addresses) > 4000


@pytest.mark.parametrize("other", [(1, "a", 2, 3), (0, "b", 2, 3), (0, "a", 3, 2), (0, "a", 23)])
def test_neighbouring_addresses_share_no_numbers(other):
    first, second = stream(0, "a", 2, 3), stream(*other)
    assert not torch.isin(first.uniform(IDS, 8), second.uniform(IDS, 8)).any()
    assert not torch.equal(first.permutation(20), second.permutation(20))


def test_a_generator_starts_afresh_each_time():
    s = stream(0, "generator")
    first, again = (torch.rand(5, generator=s.generator()) for _ in range(2))
    assert torch.equal(first, again)


def test_a_permutation_holds_every_number_once_and_repeats():
    s = stream(4, "order", 1)
    order = s.permutation(100)
    assert sorted(order.tolist()) == list(range(100)) != order.tolist()
    assert torch.equal(order, s.permutation(100))


def test_global_randomness_is_neither_used_nor_moved():
    before = (torch.get_rng_state(), random.getstate())
    first = (stream(5, "x").permutation(10).tolist(), stream(5, "x").uniform(IDS, 2).tolist())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.manual_seed(123)
    assert first == (
        stream(5, "x").permutation(10).tolist(),
        stream(5, "x").uniform(IDS, 2).tolist(),
    )
    torch.set_rng_state(before[0])
