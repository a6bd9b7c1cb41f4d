"""What is pruned already in weights that a run is given, and where its phases begin."""

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import prune

from sms_dist.config import Config, PruningConfig
from sms_dist.models.sparse_start import finished, start_sparsity
from sms_dist.pruning.layers import weights as layers
from sms_dist.pruning.mask import Mask
from sms_dist.soups.states import bare_state


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(4, 8, 3), nn.Linear(16, 10)


LAYERS = layers(Net())


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def sparse(net):
    """The weights with 60 % zeros."""
    state = bare_state(net)
    weights = {name: state[name] for name in ("conv.weight", "fc.weight")}
    cut = torch.cat([each.flatten().abs() for each in weights.values()]).quantile(0.6)
    return state | {name: each.masked_fill(each.abs() < cut, 0) for name, each in weights.items()}


@pytest.fixture
def given(tmp_path):
    """Return what a run begins with that is given a state, other files and keys."""

    def given(state, mask=None, word=None, **pruning):
        folder = tmp_path / "given"
        folder.mkdir(exist_ok=True)
        for name, tensors in {"weights": state, "mask": mask}.items():
            if tensors is not None:
                safetensors.torch.save_file(tensors, folder / f"{name}.safetensors")
        word = folder / word if word and word.endswith("tensors") else word
        keys = {"from": str(folder), "mask": None if word is None else str(word)}
        config = Config.model_validate({"pretrain": keys, "pruning": pruning})
        with torch.device("meta"):
            net = Net()
        return finished(config, net, layers(net, pruning.get("keep_dense", ())))

    return given


def zeros(state):
    return {name: state[name] != 0 for name in ("conv.weight", "fc.weight")}


def is_same(found, wanted):
    return found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in found)


def test_dense_weights_have_no_mask(given, net):
    found = given(bare_state(net))
    assert found.mask is None
    assert is_same(found.state, bare_state(net))


def test_a_mask_beside_the_weights_is_kept(given, sparse):
    mask = zeros(sparse)
    mask["conv.weight"][0] = True  # zeros that are not pruned
    found = given(sparse, mask)
    assert is_same({**found.mask}, mask)
    assert is_same(found.state, sparse)


def test_zeros_without_a_word_are_refused_with_both_ways_out(given, sparse):
    with pytest.raises(ValueError, match=r"60.04% of its prunable weights are exactly zero") as e:
        given(sparse)
    assert str(e.value).endswith(
        "set pretrain.mask=zeros to keep these pruned, or pretrain.mask=none to train them again"
    )
    assert is_same({**given(sparse, word="zeros").mask}, zeros(sparse))
    assert given(sparse, word="none").mask is None
    few = sparse | {"conv.weight": torch.ones(8, 4, 3, 3), "fc.weight": torch.ones(10, 16)}
    few["fc.weight"][0, :4] = 0  # 4 of 448
    assert given(few).mask is None


def test_what_is_kept_dense_does_not_count(given, sparse):
    state = sparse | {"conv.weight": torch.ones(8, 4, 3, 3)}
    assert given(state, keep_dense=["fc.weight"]).mask is None
    with pytest.raises(ValueError, match="exactly zero"):
        given(state)


def test_a_mask_that_is_named_makes_dense_weights_sparse(given, net, sparse):
    dense, mask = bare_state(net), zeros(sparse)
    found = given(dense, mask, "mask.safetensors")
    assert is_same({**found.mask}, mask)
    assert is_same(found.state, dense | {name: dense[name] * mask[name] for name in mask})
    with pytest.raises(ValueError, match=r"prunes 269 weights that are not zero; set pretrain.mas"):
        given(dense, mask)


def test_numbers_and_prefixes_make_a_mask_and_layers_without_one_are_kept(given, sparse):
    state = sparse | {"conv.weight": torch.ones(8, 4, 3, 3)}
    found = given(state, {"module.fc.weight_mask": (state["fc.weight"] != 0).float()})
    assert is_same({**found.mask}, zeros(state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda mask: mask | {"fc.weight": torch.ones(10, 15) > 0},
            r"fc.weight, \(10, 15\), which",
        ),
        (
            lambda mask: mask | {"head.weight": torch.ones(2) > 0},
            "head.weight.*is not in the model",
        ),
        (
            lambda mask: mask | {"fc.bias": torch.zeros(10) > 0},
            "prunes fc.bias, which this run doe",
        ),
        (lambda mask: mask | {"fc.weight": torch.full((10, 16), 0.5)}, "values besides 0 and 1"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(change, message, given, sparse):
    with pytest.raises(ValueError, match=message) as caught:
        given(sparse, change(zeros(sparse)))
    assert "\n" not in str(caught.value)


def test_a_network_that_torch_has_pruned_keeps_its_mask(net, tmp_path):
    prune.global_unstructured(
        [(net.conv, "weight"), (net.fc, "weight")], prune.L1Unstructured, amount=0.25
    )
    torch.save({"model": net.state_dict()}, tmp_path / "w.pt")
    config = Config.model_validate({"pretrain": {"from": str(tmp_path / "w.pt")}})
    found = finished(config, Net(), LAYERS)
    masks = {"conv.weight": net.conv.weight_mask > 0, "fc.weight": net.fc.weight_mask > 0}
    assert is_same({**found.mask}, masks)
    assert torch.equal(found.state["fc.weight"], net.fc.weight)
    assert start_sparsity(found.mask, LAYERS, PruningConfig()) == 0.25


def test_the_candidate_of_a_phase_has_the_mask_of_its_soup(sparse, tmp_path):
    for name, tensors in {"candidate_0/weights": sparse, "soup/mask": zeros(sparse)}.items():
        (tmp_path / name).parent.mkdir()
        safetensors.torch.save_file(tensors, tmp_path / f"{name}.safetensors")
    config = Config.model_validate({"pretrain": {"from": str(tmp_path / "candidate_0")}})
    assert is_same({**finished(config, Net(), LAYERS).mask}, zeros(sparse))


def test_finished_weights_are_whole_and_what_the_model_lacks_can_be_left_out(net, tmp_path):
    state, extra = bare_state(net), {"head.weight": torch.ones(2, 2)}
    safetensors.torch.save_file(state | extra, tmp_path / "w.safetensors")

    def read(*left_out):
        keys = {"from": str(tmp_path / "w.safetensors")}
        model = {"weights_except": left_out}
        config = Config.model_validate({"pretrain": keys, "model": model})
        return finished(config, Net(), LAYERS).state

    with pytest.raises(
        ValueError, match=r"has head.weight besides; name tensors to leave out in mod"
    ):
        read()
    for left_out in (["head"], ["head.weight", "fc", "a layer of the file that it began with"]):
        assert is_same(read(*left_out), state)
    safetensors.torch.save_file(
        state | {"fc.weight": torch.ones(9, 16)}, tmp_path / "w.safetensors"
    )
    with pytest.raises(
        ValueError, match=r"fc.weight has the shape \(9, 16\), .* wants \(10, 16\)$"
    ):
        read("fc")


def test_values_that_fp32_rounds_are_told(given, net):
    state = {name: tensor.double() for name, tensor in bare_state(net).items()}
    assert given(state).notes == ()
    state["fc.bias"] += 1e-12
    assert "10 float64 values are rounded to fp32" in given(state).notes[0]


def mask(conv, fc=None):
    return Mask({"conv.weight": conv, "fc.weight": torch.ones(10, 16) > 0 if fc is None else fc})


def test_a_start_is_as_sparse_as_its_mask():
    conv = torch.ones(8, 4, 3, 3) > 0
    conv.view(-1)[:112] = False
    assert start_sparsity(mask(conv), LAYERS, PruningConfig()) == 0.25  # 112 of 448
    # what a run of the same goal has left, of numbers that do not divide
    fc = torch.ones(10, 16) > 0
    conv[:], fc[0, :3] = False, False  # 291 of 448
    assert mask(conv, fc).sparsity != 0.65
    assert start_sparsity(mask(conv, fc), LAYERS, PruningConfig(goal_sparsity=0.65)) == 0.65


def test_filters_begin_at_the_fraction_of_filters_that_are_gone():
    conv = torch.ones(8, 4, 3, 3) > 0
    conv[:2] = False
    filters = PruningConfig(pattern="filters", goal_sparsity=0.5)
    assert start_sparsity(mask(conv), LAYERS, filters) == 0.25
    with pytest.raises(ValueError, match=r"leaves a part of fc.weight; set pruning.pattern=unstr"):
        start_sparsity(mask(conv, torch.eye(10, 16) > 0), LAYERS, filters)
    with pytest.raises(ValueError, match=r"only 6 filters of conv.weight"):
        start_sparsity(mask(conv), LAYERS, PruningConfig(pattern="filters", goal_sparsity=0.125))
    conv[3, 0] = False
    with pytest.raises(ValueError, match=r"leaves single weights of conv.weight"):
        start_sparsity(mask(conv), LAYERS, filters)


def test_groups_must_have_what_the_pattern_keeps():
    pattern = PruningConfig(pattern="2:4", goal_sparsity=0.5)
    conv, fc = torch.ones(8, 4, 3, 3) > 0, torch.ones(10, 16) > 0
    conv[:, 0], fc[:, 1::4], fc[:, 2::4] = False, False, False
    assert start_sparsity(mask(conv, fc), LAYERS, pattern) == (72 + 80) / 448
    conv[3, 1:3, 0, 0] = False
    with pytest.raises(ValueError, match=r"leaves 1 of some groups of conv.weight"):
        start_sparsity(mask(conv, fc), LAYERS, pattern)
