"""Keys of magnitudes: their order, and what they say of pruned weights."""

import torch

from sms_dist.pruning import layer
from sms_dist.pruning.layer import PRUNED, ChunkKeys, Layer, magnitude_keys

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
    monkeypatch.setattr(layer, "CHUNK", 7)
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
