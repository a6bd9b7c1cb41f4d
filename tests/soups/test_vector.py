"""Packing: only surviving weights travel, and come back where they were."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.soups import vector
from sms_dist.soups.vector import SurvivingVector

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
def test_unflattening_is_the_inverse_of_flattening(seed, names):
    mask = masks(seed)
    before = masked(tensors(seed), mask)
    travel = SurvivingVector(before, names, mask)
    after = travel.unflatten(travel.flatten(before))
    assert list(after) == names
    for name in names:
        assert torch.equal(after[name], before[name])
        assert after[name].shape == before[name].shape


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6))
def test_flattening_is_the_inverse_of_unflattening(seed):
    mask, like = masks(seed), tensors(seed)
    travel = SurvivingVector(like, list(SHAPES), mask)
    size = sum(int(mask[n].sum()) if n in mask else like[n].numel() for n in SHAPES)
    assert travel.num_values == size
    flat = torch.arange(1.0, size + 1)
    assert torch.equal(travel.flatten(travel.unflatten(flat)), flat)


def test_pruned_weights_do_not_travel_and_come_back_as_zero():
    mask = {"w": torch.tensor([[True, False], [False, True]])}
    values = {"w": torch.tensor([[1.0, float("nan")], [9.0, 2.0]]), "b": torch.tensor([3.0])}
    travel = SurvivingVector(values, ["b", "w"], mask)
    flat = travel.flatten(values)
    assert flat.tolist() == [3.0, 1.0, 2.0]
    assert travel.unflatten(flat)["w"].tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert travel.flatten(values, multiple=4).tolist() == [3.0, 1.0, 2.0, 0.0]


def test_shapes_alone_are_enough_of_a_template():
    mask, like, names = masks(3), tensors(3), list(SHAPES)
    flat = SurvivingVector(like, names, mask).flatten(like)
    shapes = {name: tensor.to("meta") for name, tensor in like.items()}
    found = SurvivingVector(shapes, names, mask).unflatten(flat)
    assert all(torch.equal(found[n], masked(like, mask)[n]) for n in names)


def test_values_come_in_the_order_of_their_indices_not_of_the_memory():
    weight = torch.arange(24.0).view(2, 3, 2, 2)
    kept = weight % 5 != 0
    travel = SurvivingVector({"w": weight}, ["w"], {"w": kept})
    other = {"w": weight.contiguous(memory_format=torch.channels_last)}
    assert travel.flatten(other).tolist() == weight[kept].tolist()


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_the_size_of_the_chunks_does_not_matter(monkeypatch, chunk):
    mask, like, names = masks(4), tensors(4), list(SHAPES)
    flat = SurvivingVector(like, names, mask).flatten(like)
    monkeypatch.setattr(vector, "_CHUNK", chunk)
    chunked = SurvivingVector(like, names, mask)
    assert torch.equal(chunked.flatten(like), flat)
    assert all(torch.equal(t, masked(like, mask)[n]) for n, t in chunked.unflatten(flat).items())


def test_types_are_those_of_the_template_and_nothing_is_shared():
    mask, like = masks(1), tensors(1, torch.bfloat16)
    whole = SurvivingVector(tensors(1), list(SHAPES), mask)
    flat = whole.flatten(tensors(1))
    copy = flat.clone()
    back = SurvivingVector(like, list(SHAPES), mask).unflatten(flat)
    assert {t.dtype for t in back.values()} == {torch.bfloat16}
    found = whole.unflatten(flat)
    for value, tensor in enumerate(found.values()):
        tensor.fill_(value)
    assert torch.equal(flat, copy)
    assert all(bool((t == value).all()) for value, t in enumerate(found.values()))


def test_tensors_of_several_types_travel_as_the_widest_and_come_back_as_they_were():
    mask, like = masks(5), tensors(5)
    like["fc"] = like["fc"].bfloat16()
    like["bias"] = like["bias"].half()
    travel = SurvivingVector(like, list(SHAPES), mask)
    back = travel.unflatten(travel.flatten(like))
    assert travel.flatten(like).dtype == torch.float32
    assert list(back) == list(SHAPES)
    for name, tensor in masked(like, mask).items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


@pytest.mark.parametrize("period", [1, 2, 7, 8, 9, 100])
def test_many_survivors_and_few_come_back_alike(period):
    like = {"w": torch.arange(1.0, 1001.0)}
    mask = {"w": torch.arange(1000) % period == 0}
    travel = SurvivingVector(like, ["w"], mask)
    assert torch.equal(travel.unflatten(travel.flatten(like))["w"], like["w"] * mask["w"])


@pytest.mark.parametrize("surplus", [1, -1])
def test_a_vector_of_another_length_is_noticed(surplus):
    mask, like = masks(2), tensors(2)
    travel = SurvivingVector(like, ["fc", "conv"], mask)
    wrong = torch.zeros(travel.num_values + surplus)
    with pytest.raises(AssertionError):
        travel.unflatten(wrong)
