"""Masks: what is prunable, what applying one does, and its figures."""

import pytest
import safetensors.torch
import torch
from torch import nn

from sms_dist.pruning.mask import Mask, apply_, full_mask, prunable_names


def small_mask(**others):
    kept = {
        "a": torch.tensor([[True, False], [True, True]]),
        "b": torch.tensor([False, False, True, False, False, False]),
    }
    return Mask(kept | others)


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
    with pytest.raises(ValueError, match=r"keep_dense=1.bias is no weight .*example 0\.weight"):
        prunable_names(model, ["1.bias"])


def test_a_full_mask_keeps_everything():
    model = nn.Linear(3, 2)
    mask = full_mask(model.state_dict(), prunable_names(model))
    assert list(mask) == ["weight"]
    assert (mask.num_kept, mask.num_weights, mask.sparsity) == (6, 6, 0.0)


def test_sparsity_is_the_fraction_removed_over_all_tensors():
    assert (small_mask().num_kept, small_mask().num_weights) == (4, 10)
    assert small_mask().sparsity == 0.6


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
    flipped = small_mask(b=~mask["b"])
    renamed = Mask({"a": mask["a"], "c": mask["b"]})
    reshaped = small_mask(a=mask["a"].view(4, 1))
    assert mask == small_mask()
    assert hash(mask) == hash(small_mask())
    assert len({m.digest for m in (mask, flipped, renamed, reshaped)}) == 4
    assert mask != flipped


def test_a_digest_depends_neither_on_the_memory_layout_nor_on_the_order_of_names():
    mask = small_mask()
    transposed = small_mask(a=mask["a"].t().contiguous().t())
    assert transposed.digest == mask.digest == Mask({n: mask[n] for n in "ba"}).digest


def test_a_mask_is_frozen_and_holds_bool_tensors_only():
    with pytest.raises(TypeError):
        small_mask()["a"] = torch.ones(2, 2) > 0
    with pytest.raises(ValueError, match=r"c of a mask is of torch.float32; it must be torch.bool"):
        small_mask(c=torch.ones(2))


def test_a_saved_mask_is_read_again_and_other_files_are_refused(tmp_path):
    small_mask().save(tmp_path / "mask.safetensors")
    assert Mask.load(str(tmp_path / "mask.safetensors")) == small_mask()
    assert [each.name for each in tmp_path.iterdir()] == ["mask.safetensors"]
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights.safetensors holds no mask: w .* torch.float32"):
        Mask.load(tmp_path / "weights.safetensors")


def test_a_mask_is_applied_to_the_model_that_it_fits():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    Mask({"0.weight": torch.eye(2) > 0}).apply_(model)
    assert Mask.from_zeros(model)["0.weight"].tolist() == [[True, False], [False, True]]
    assert Mask.from_zeros(model).num_kept == 4
    for name, problem in {"1.weight": r".*\(1, 2\) in the model", "2.weight": "no param"}.items():
        with pytest.raises(ValueError, match=f"{name} of the mask is {problem}"):
            Mask({name: torch.eye(2) > 0}).apply_(model)


def test_masks_of_torchs_pruning_are_taken_over():
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"no prunable weight has a mask of torch.nn.utils.prune"):
        Mask.from_torch(model)
