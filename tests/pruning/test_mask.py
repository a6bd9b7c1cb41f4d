"""Masks: what is prunable, what applying one does, and its figures."""

import pytest
import torch
from torch import nn

from sms_dist.pruning.mask import (
    apply_,
    digest,
    full_mask,
    num_surviving,
    num_weights,
    prunable_names,
    prunable_shapes,
    sparsity,
)


def small_mask():
    return {
        "a": torch.tensor([[True, False], [True, True]]),
        "b": torch.tensor([False, False, True, False, False, False]),
    }


def test_convolutions_and_linear_layers_are_prunable_and_nothing_else():
    model = nn.Sequential(
        nn.Conv1d(1, 1, 1),
        nn.BatchNorm1d(1),
        nn.ModuleDict({"inner": nn.Conv2d(1, 2, 3), "norm": nn.LayerNorm(3)}),
        nn.Conv3d(1, 1, 1),
        nn.Embedding(3, 3),
        nn.Linear(3, 2),
    )
    assert prunable_names(model) == ["0.weight", "2.inner.weight", "3.weight", "5.weight"]
    assert prunable_names(nn.Linear(2, 2)) == ["weight"]


def test_embeddings_are_prunable_when_asked_for():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    assert prunable_names(model, embeddings=True) == ["0.weight", "1.weight"]
    assert prunable_shapes(model, embeddings=True) == {"0.weight": (5, 3), "1.weight": (5, 3)}


@pytest.mark.parametrize(("embeddings", "names"), [(False, []), (True, ["0.weight"])])
def test_a_linear_layer_with_the_weight_of_an_embedding_is_counted_as_the_embedding(
    embeddings, names
):
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    assert prunable_names(model, embeddings=embeddings) == names


def test_weights_that_stay_dense_are_not_prunable():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2))
    assert prunable_names(model, ["0.weight"]) == ["1.weight"]
    assert prunable_shapes(model) == {"0.weight": (2, 1, 3, 3), "1.weight": (2, 2)}
    with pytest.raises(ValueError, match=r"keep_dense=1.bias is no weight .*example 0\.weight"):
        prunable_names(model, ["1.bias"])


def test_a_full_mask_keeps_everything():
    model = nn.Linear(3, 2)
    mask = full_mask(model.state_dict(), prunable_names(model))
    assert list(mask) == ["weight"]
    assert (num_surviving(mask), num_weights(mask), sparsity(mask)) == (6, 6, 0.0)


def test_sparsity_is_the_fraction_removed_over_all_tensors():
    assert (num_surviving(small_mask()), num_weights(small_mask())) == (4, 10)
    assert sparsity(small_mask()) == 0.6


def test_applying_a_mask_leaves_plus_zero_whatever_stood_there():
    awkward = torch.tensor([float("nan"), -0.0, 5.0, float("-inf"), float("inf"), -1.0])
    weights = {"a": -torch.ones(2, 2), "b": awkward, "c": torch.ones(2)}
    weights["a"].requires_grad_()
    apply_(weights, small_mask())
    assert weights["a"].tolist() == [[-1.0, 0.0], [-1.0, -1.0]]
    assert weights["b"].tolist() == [0.0, 0.0, 5.0, 0.0, 0.0, 0.0]
    assert not weights["b"].signbit().any()
    assert weights["c"].tolist() == [1.0, 1.0]


def test_a_digest_knows_every_bit_name_and_shape():
    mask = small_mask()
    flipped = mask | {"b": ~mask["b"]}
    renamed = {"a": mask["a"], "c": mask["b"]}
    reshaped = mask | {"a": mask["a"].view(4, 1)}
    assert digest(mask) == digest(small_mask())
    assert len({digest(m) for m in (mask, flipped, renamed, reshaped)}) == 4


def test_a_digest_does_not_depend_on_the_memory_layout():
    mask = small_mask()
    transposed = mask | {"a": mask["a"].t().contiguous().t()}
    assert digest(transposed) == digest(mask)
