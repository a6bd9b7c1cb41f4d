"""Mixing: a soup's bits follow from the candidates, not from slices or from who holds what."""

from fractions import Fraction
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.mesh.topology import Axis, Topology
from sms_dist.soups import merge
from sms_dist.soups.merge import CandidateShards, mix
from sms_dist.soups.rules import average

ALONE = Axis(None, 0, 1)
HERE = Topology(ALONE, ALONE, ALONE, None, torch.device("cpu"))
AWKWARD = [0.0, -0.0, 1e-45, -1e-40, 1.0, 1 + 2**-23, -3.4028235e38, 1 / 3, float("inf")]


def candidates(m, n=50, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.randint(-6, 6, (m, n), generator=generator)
    return (torch.randn(m, n, generator=generator) * scale).to(dtype)


def bits(tensor):
    return tensor.view({4: torch.int32, 2: torch.int16}[tensor.element_size()]).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("m", range(1, 21))
def test_a_soup_of_equal_candidates_is_the_identity_bit_for_bit(m, dtype):
    one = torch.cat([candidates(1, 500, m)[0], torch.tensor(AWKWARD)]).to(dtype)
    soup = mix(one.repeat(m, 1), average(range(m), m))
    assert soup.dtype == dtype
    assert bits(soup) == bits(one)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.lists(st.integers(0, 50), max_size=5), st.integers(0, 1000))
def test_mixing_in_slices_is_mixing_whole(m, cuts, seed):
    stacked, coefficients = candidates(m, seed=seed), average(range(m), m)
    pieces = [mix(s, coefficients) for s in stacked.tensor_split(sorted(cuts), dim=1)]
    assert bits(torch.cat(pieces)) == bits(mix(stacked, coefficients))


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_the_size_of_the_chunks_does_not_matter(monkeypatch, chunk):
    stacked = candidates(3)
    whole = bits(mix(stacked, [0.2, 0.5, 0.3]))
    monkeypatch.setattr(merge, "_CHUNK", chunk)
    assert bits(mix(stacked, [0.2, 0.5, 0.3])) == whole


def test_a_soup_is_the_weighted_sum():
    stacked = torch.tensor([[1.0, 2.0], [3.0, -4.0], [5.0, 0.0]])
    assert mix(stacked, [0.5, 0.25, 0.25]).tolist() == [2.5, 0.0]


def test_small_weights_are_not_lost_beside_large_ones():
    stacked = torch.tensor([[1e8], [1.0], [-1e8], [0.0]])
    assert mix(stacked, [0.25] * 4).tolist() == [0.25]


@pytest.mark.parametrize("m", range(1, 21))
def test_equal_coefficients_give_the_exact_mean(m):
    integers = torch.randint(-1000, 1000, (m, 200), generator=torch.Generator().manual_seed(m))
    exact = [float(Fraction(total, m)) for total in integers.sum(0).tolist()]
    assert mix(integers.double(), average(range(m), m)).tolist() == exact


def test_a_candidate_without_coefficient_may_hold_anything():
    stacked = torch.tensor([[1.0, 2.0], [float("nan"), float("inf")], [3.0, 4.0]])
    assert mix(stacked, [0.5, 0.0, 0.5]).tolist() == [2.0, 3.0]


def test_candidates_and_coefficients_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        mix(torch.ones(3, 2), [0.5, 0.5])


def test_it_does_not_matter_in_which_order_the_candidates_of_a_group_come():
    stacked = candidates(4)
    owners = dict.fromkeys(range(4), 0)
    soups = []
    for order in permutations(range(4)):
        shards = CandidateShards({i: stacked[i] for i in order}, owners, 50, HERE)
        soups.append(bits(shards.mix([0.4, 0.3, 0.2, 0.1])))
    assert soups == [bits(mix(stacked, [0.4, 0.3, 0.2, 0.1]))] * 24


def test_gathered_candidates_are_whole_and_in_order():
    stacked = candidates(3)
    shards = CandidateShards(
        {i: stacked[i] for i in (2, 0, 1)}, dict.fromkeys(range(3), 0), 50, HERE
    )
    assert torch.equal(shards.whole(), stacked)


def test_what_fills_a_packed_vector_up_does_not_count():
    stacked = candidates(2)
    own = {i: torch.cat([row, torch.full((7,), float("nan"))]) for i, row in enumerate(stacked)}
    shards = CandidateShards(own, dict.fromkeys(range(2), 0), 50, HERE)
    assert torch.equal(shards.whole(), stacked)
