"""Packing: only surviving weights travel, and come back where they were."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.soups.packing import pack, unpack

SHAPES = {"conv": (3, 2, 2), "scale": (), "bias": (4,), "fc": (2, 5), "empty": (0,)}


def tensors(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=generator).to(dtype) for n, s in SHAPES.items()}


def masks(seed):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(SHAPES[n], generator=generator) > 0.5 for n in ("conv", "fc")}


def masked(values, mask):
    return {n: t * mask[n] if n in mask else t for n, t in values.items()}


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.permutations(list(SHAPES)))
def test_unpacking_is_the_inverse_of_packing(seed, names):
    mask = masks(seed)
    before = masked(tensors(seed), mask)
    after = unpack(pack(before, names, mask), before, names, mask)
    assert list(after) == names
    for name in names:
        assert torch.equal(after[name], before[name])
        assert after[name].shape == before[name].shape


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_packing_is_the_inverse_of_unpacking(seed):
    mask, like, names = masks(seed), tensors(seed), list(SHAPES)
    size = sum(int(mask[n].sum()) if n in mask else like[n].numel() for n in names)
    flat = torch.arange(1.0, size + 1)
    assert torch.equal(pack(unpack(flat, like, names, mask), names, mask), flat)


def test_pruned_weights_do_not_travel_and_come_back_as_zero():
    mask = {"w": torch.tensor([[True, False], [False, True]])}
    values = {"w": torch.tensor([[1.0, float("nan")], [9.0, 2.0]]), "b": torch.tensor([3.0])}
    flat = pack(values, ["b", "w"], mask)
    assert flat.tolist() == [3.0, 1.0, 2.0]
    assert unpack(flat, values, ["b", "w"], mask)["w"].tolist() == [[1.0, 0.0], [0.0, 2.0]]


def test_types_are_those_of_the_template_and_nothing_is_shared():
    mask, like = masks(1), tensors(1, torch.bfloat16)
    flat = pack(tensors(1), list(SHAPES), mask)
    copy = flat.clone()
    back = unpack(flat, like, list(SHAPES), mask)
    assert {t.dtype for t in back.values()} == {torch.bfloat16}
    like32 = unpack(flat, tensors(1), list(SHAPES), mask)
    for tensor in like32.values():
        tensor.fill_(7)
    assert torch.equal(flat, copy)


@pytest.mark.parametrize("surplus", [1, -1])
def test_a_vector_of_another_length_is_noticed(surplus):
    mask, like = masks(2), tensors(2)
    flat = pack(like, ["fc", "conv"], mask)
    wrong = torch.zeros(len(flat) + surplus)
    with pytest.raises((AssertionError, RuntimeError)):
        unpack(wrong, like, ["fc", "conv"], mask)
