"""Weights of files: what fits is read, and what does not is named."""

import pytest
import safetensors.torch
import torch
from torch import nn

from sms_dist.config import ModelConfig
from sms_dist.models import build, weights
from sms_dist.soups.states import bare_state

CIFAR = (3, 32, 32)


class Whole(nn.Module):
    """Of a program that we have not got: its pickle would have to import it."""


def resnet20(num_classes=10, seed=0, **settings):
    config = ModelConfig(name="resnet20", options={"width": 4}, **settings)
    return build(config, CIFAR, num_classes, seed=seed, data_name="x")


@pytest.fixture
def theirs():
    return {name: tensor.clone() for name, tensor in bare_state(resnet20(seed=9)).items()}


def saved(path, content):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return str(path)


def is_same(model, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in bare_state(model).items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin"])
def test_a_file_gives_the_initial_weights(name, theirs, tmp_path):
    path = saved(tmp_path / name, theirs)
    assert is_same(resnet20(weights=path), theirs)
    assert not is_same(resnet20(), theirs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"model.{n}": tensor for n, tensor in state.items()}},
        lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        lambda state: {name: nn.Parameter(t, t.is_floating_point()) for name, t in state.items()},
        lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
        lambda state: state | {"epoch": 3, "best": 0.5, "arch": "resnet20", "_extra": None},
        lambda state: {"checkpoint": {"model_state": state}, "optimizer": {"exp_avg": state}},
        lambda state: {"model": state, "ema": {n: t + 1 for n, t in state.items()}},
        lambda state: {"my_net": state, "epoch": 3},
        lambda state: {f"net.backbone.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"student.{name}": tensor for name, tensor in state.items()},
        lambda state: {
            name.replace("layer1.", "layer1._orig_mod."): t for name, t in state.items()
        },
        lambda state: {name.replace("layer1.", "layer1.module."): t for name, t in state.items()},
        lambda state: torch.optim.swa_utils.AveragedModel(resnet20(seed=9)).state_dict(),
        lambda state: {name: t.double() for name, t in state.items()},
        lambda state: {name: t.to_sparse() if t.ndim else t for name, t in state.items()},
    ],
)
def test_usual_wrappers_are_unpacked(wrap, theirs, tmp_path):
    path = saved(tmp_path / "w.pt", wrap(theirs))
    assert is_same(resnet20(weights=path), theirs)


def test_half_precision_becomes_full(theirs, tmp_path):
    half = {name: tensor.half() for name, tensor in theirs.items()}
    model = resnet20(weights=saved(tmp_path / "w.safetensors", half))
    assert model.conv1.weight.dtype == torch.float32
    assert torch.equal(model.conv1.weight, half["conv1.weight"].float())


def test_a_classifier_of_other_classes_is_left_out_on_request(theirs, tmp_path):
    path = saved(tmp_path / "w.pt", theirs)
    with pytest.raises(ValueError, match="weights_except") as caught:
        resnet20(100, weights=path)
    assert str(caught.value) == (
        f"model.weights={path}: classifier.weight has the shape (10, 16), model.name=resnet20 "
        "wants (100, 16); model.weights_except=[classifier.weight, classifier.bias] starts these "
        "anew"
    )
    for anew in (("classifier.weight", "classifier.bias"), ("classifier",)):
        model = resnet20(100, weights=path, weights_except=anew)
        assert torch.equal(model.classifier.weight, resnet20(100).classifier.weight)
        assert torch.equal(model.conv1.weight, theirs["conv1.weight"])


def test_a_classifier_of_another_name_is_left_out_on_request(theirs, tmp_path):
    theirs |= {f"fc.{part}": theirs.pop(f"classifier.{part}") for part in ("weight", "bias")}
    path = saved(tmp_path / "w.pt", theirs)
    with pytest.raises(ValueError, match=r"lacks classifier.bias, classifier.weight, and has fc.b"):
        resnet20(weights=path)
    model = resnet20(weights=path, weights_except=("classifier", "fc"))
    assert torch.equal(model.classifier.weight, resnet20().classifier.weight)


@pytest.mark.parametrize("prefix", ["model.", "module.net.", ""])
def test_what_the_model_lacks_has_its_name_in_the_file_and_can_be_left_out(
    prefix, theirs, tmp_path
):
    theirs = {f"{prefix}{name}": tensor for name, tensor in theirs.items()}
    extra = {"loss.weight": torch.ones(3), f"{prefix}head.bias": torch.ones(2)}
    path = saved(tmp_path / "w.pt", {"state_dict": theirs | extra})
    with pytest.raises(ValueError, match="weights_except") as caught:
        resnet20(weights=path)
    names = sorted(extra)
    assert f"lacks nothing, and has {names[0]}, {names[1]} besides" in str(caught.value)
    for left_out in (names, ["loss", "head"]):
        model = resnet20(weights=path, weights_except=tuple(left_out))
        assert torch.equal(model.conv1.weight, theirs[f"{prefix}conv1.weight"])


def test_two_copies_of_a_model_are_told_apart_by_what_is_left_out(theirs, tmp_path):
    other = {name: torch.zeros_like(tensor) for name, tensor in theirs.items()}
    path = saved(tmp_path / "w.pt", {"student": theirs, "teacher": other})
    with pytest.raises(ValueError, match=r"under student. and under teacher.; name all but one"):
        resnet20(weights=path)
    assert is_same(resnet20(weights=path, weights_except=("teacher",)), theirs)
    assert is_same(resnet20(weights=path, weights_except=("student",)), other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.index_fill(0, torch.tensor([1]), torch.nan),
            "has 27 of 108 values that are N",
        ),
        (lambda t: t.index_fill(0, torch.tensor([0, 1]), -torch.inf), "has 54 of 108 values"),
        (lambda t: t.double() + 1e300, "has 108 of 108 values that are NaN or infinite"),
        (
            lambda t: (t * 9).to(torch.int8),
            "is of torch.int8, and the model computes with torch.fl",
        ),
        (lambda t: t != 0, "is of torch.bool"),
        (lambda t: t.to(torch.complex64), "is of torch.complex64"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_values_that_cannot_be_computed_with_are_named(change, message, prefix, theirs, tmp_path):
    theirs["conv1.weight"] = change(theirs["conv1.weight"])
    theirs = {f"{prefix}{name}": tensor for name, tensor in theirs.items()}
    path = saved(tmp_path / "w.safetensors", theirs)
    with pytest.raises(ValueError, match=message) as caught:
        resnet20(weights=path)
    assert str(caught.value).startswith(f"model.weights={path}: {prefix}conv1.weight ")
    model = resnet20(weights=path, weights_except=("conv1",))
    assert torch.equal(model.conv1.weight, resnet20().conv1.weight)


def test_names_are_left_out_whole():
    assert weights.is_below("layer1.0.weight", ["layer1"])
    assert not weights.is_below("layer10.0.weight", ["layer1"])


def test_tied_tensors_are_taken_from_any_of_their_names(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    one, other = torch.ones(2, 2), torch.zeros(2, 2)

    def read(**state):
        tensors = {f"{name}.weight": value for name, value in state.items()}
        path = saved(tmp_path / "w.pt", tensors)
        return weights.read(path, model, name="mine").state

    for found in (read(a=one), read(b=one), read(a=one, b=one.clone())):
        assert list(found) == ["a.weight"]
        assert torch.equal(found["a.weight"], one)
    with pytest.raises(ValueError, match=r"b.weight differs from a.weight, with which the model"):
        read(a=one, b=other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({}, "holds a dict, not a state dict"),
        ({"epoch": 3}, "holds a dict, not a state dict"),
        ({"model": {"conv1.weight": 3}}, "holds a dict, not a state dict"),
        (Whole(), r"is no state dict of tensors \(.*; save model.state_dict\(\), not the model"),
        (
            {"a": torch.zeros(1)},
            "lacks classifier.bias, .* and 94 more, and has a besides; name tensors",
        ),
    ],
)
def test_what_is_no_state_dict_of_this_model_is_told_in_one_line(content, message, tmp_path):
    path = saved(tmp_path / "w.pt", content)
    with pytest.raises(ValueError, match=message) as caught:
        resnet20(weights=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"x" * 99])
def test_a_damaged_file_is_told_in_one_line(name, damage, theirs, tmp_path):
    path = tmp_path / name
    saved(path, theirs)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"model.weights=.*{name} is no") as caught:
        resnet20(weights=str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"model.weights=.*/none.pt is no file"):
        resnet20(weights=str(tmp_path / "none.pt"))


def test_a_misspelt_exception_is_told(theirs, tmp_path):
    path = saved(tmp_path / "w.pt", theirs)
    with pytest.raises(ValueError, match=r"weights_except=clasifier is neither.*did you mean cla"):
        resnet20(weights=path, weights_except=("clasifier",))


def test_a_file_cannot_make_us_run_anything(tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    path = saved(tmp_path / "w.pt", {"a": Evil()})
    with pytest.raises(ValueError, match="is no state dict of tensors"):
        resnet20(weights=path)
    assert not ran.exists()
