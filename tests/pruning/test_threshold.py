"""Keys of magnitudes in their order, and the exact k-th largest of them, whatever the chunks."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning import threshold
from sms_dist.pruning.threshold import (
    PRUNED,
    ChunkKeys,
    Layer,
    Threshold,
    find_threshold,
    magnitude_keys,
)

DENORMAL = 1e-45


def keys_of(weights: list[float]) -> list[int]:
    return magnitude_keys(torch.tensor(weights)).tolist()


def test_signs_and_minus_zero_do_not_count():
    assert keys_of([1.5, -0.0, DENORMAL]) == keys_of([-1.5, 0.0, -DENORMAL])


def test_keys_are_flat_and_say_what_is_pruned():
    alive = torch.tensor([[True, False], [True, True]])
    keys = magnitude_keys(torch.tensor([[1.0, 9.0], [0.0, -2.0]]), alive)
    assert keys.shape == (4,)
    assert keys[1] == PRUNED
    assert keys[3] > keys[0] > keys[2] >= 0


def test_making_keys_leaves_the_weights_as_they_are():
    weights = torch.tensor([-1.0, 2.0])
    magnitude_keys(weights, torch.tensor([True, False]))
    assert weights.tolist() == [-1.0, 2.0]


def test_bf16_weights_are_ranked_like_their_fp32_copies():
    weights = torch.linspace(-3, 3, 1000).to(torch.bfloat16)
    assert torch.equal(magnitude_keys(weights), magnitude_keys(weights.float()))


def test_chunks_have_the_keys_of_whole_layers(monkeypatch):
    monkeypatch.setattr(threshold, "CHUNK", 7)
    weights = torch.randn(4, 3, 3, 2, generator=torch.Generator().manual_seed(1))
    layers = [
        Layer(weights.contiguous(memory_format=torch.channels_last), weights > 0),
        Layer(torch.empty(0)),
        Layer(torch.ones(())),
        Layer(weights, torch.zeros_like(weights, dtype=torch.bool)),
    ]
    whole = torch.cat([one.keys() for one in layers])
    assert torch.equal(torch.cat(list(ChunkKeys(layers))), whole)
    assert [one.num_alive for one in layers] == [int((weights > 0).sum()), 0, 1, 0]


KEYS = st.lists(
    st.sampled_from([0, 1, 255, 256, 65535, 65536, 2**31 - 1]) | st.integers(0, 2**31 - 1),
    min_size=1,
    max_size=40,
)


def tensor(keys: list[int]) -> torch.Tensor:
    return torch.tensor(keys, dtype=torch.int32)


@settings(deadline=None, max_examples=60)
@given(KEYS, st.data())
def test_the_threshold_is_that_of_a_sort_and_keys_below_zero_are_gone(keys, data):
    num_kept = data.draw(st.integers(1, len(keys)))
    key = sorted(keys)[-num_kept]
    expected = Threshold(key, num_kept - sum(other > key for other in keys))
    assert find_threshold([tensor([*keys, -1, -1])], num_kept) == expected
    pieces = tensor(keys).split(data.draw(st.integers(1, 5)))
    assert find_threshold(pieces, num_kept) == expected
