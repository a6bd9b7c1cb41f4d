"""Optimizers and loss scalers as named tensors: what comes back has the same bits."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sms_dist.config import EngineConfig, PretrainConfig
from sms_dist.engines.base import Job, make_optimizer
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.engines.state import (
    REMEMBERED,
    check_fit,
    check_restorable,
    deepspeed_scaler_state,
    joined,
    number,
    optimizer_state,
    part,
    restore_deepspeed_scaler_,
    restore_optimizer_state_,
    restore_torch_scaler_,
    torch_scaler_state,
)
from sms_dist.mesh import topology

EACH = pytest.mark.parametrize("options", [{}, {"momentum": 0.0}, {"optimizer": "adamw"}])


def optimizer_of(model, **options):
    mesh = topology.by_itself(device="cpu")
    settings = optimizer_settings(PretrainConfig(weight_decay=1e-2, **options))
    return make_optimizer(Job(model, {}, mesh.data, mesh, EngineConfig(), settings, 8))


def convolution():
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)


def train(model, optimizer, first, end):
    for step in range(first, end):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(2, 3, 5, 5)).square().sum().backward()
        optimizer.step()


def copied(tensors):
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


@EACH
def test_an_optimizer_goes_on_with_the_same_bits(options):
    model = convolution()
    optimizer, parameters = optimizer_of(model, **options), list(model.parameters())
    train(model, optimizer, 0, 3)
    state, weights = copied(optimizer_state(optimizer, parameters)), copied(model.state_dict())
    train(model, optimizer, 3, 6)
    other = convolution()
    other.load_state_dict(weights)
    fresh, copies = optimizer_of(other, **options), list(other.parameters())
    restore_optimizer_state_(state, fresh, copies)
    restored = optimizer_state(fresh, copies)
    assert all(torch.equal(restored[name], state[name]) for name in state)
    train(other, fresh, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(parameters, copies, strict=True))


@EACH
def test_the_state_comes_back_in_the_layout_and_type_that_the_optimizer_gave_it(options):
    model = convolution()
    optimizer, parameters = optimizer_of(model, **options), list(model.parameters())
    train(model, optimizer, 0, 1)
    before = {id(p): dict(optimizer.state[p]) for p in parameters}
    restore_optimizer_state_(copied(optimizer_state(optimizer, parameters)), optimizer, parameters)
    for parameter in parameters:
        for key, tensor in optimizer.state[parameter].items():
            old = before[id(parameter)][key]
            assert (tensor.stride(), tensor.dtype, tensor.device) == (
                old.stride(), old.dtype, old.device,
            )  # fmt: skip
            assert tensor.data_ptr() != old.data_ptr()


@EACH
def test_the_table_says_what_optimizers_remember(options):
    model = convolution()
    optimizer, parameters = optimizer_of(model, **options), list(model.parameters())
    assert optimizer_state(optimizer, parameters) == {}
    assert not optimizer.state  # asking leaves nothing behind
    train(model, optimizer, 0, 1)
    keys = () if options == {"momentum": 0.0} else REMEMBERED[type(optimizer)]
    names = {f"{i}.{key}" for i in range(2) for key in keys}
    assert optimizer_state(optimizer, parameters).keys() == names


def test_a_state_from_before_the_first_step_forgets_later_ones():
    model = convolution()
    optimizer, parameters = optimizer_of(model), list(model.parameters())
    train(model, optimizer, 0, 1)
    restore_optimizer_state_({}, optimizer, parameters)
    assert optimizer_state(optimizer, parameters) == {}


@pytest.mark.parametrize(
    ("options", "changed", "words"),
    [
        ({}, {"0.momentum_buffer": None}, None),  # the first parameter has not been stepped
        ({}, {"0.exp_avg": torch.zeros(4, 3, 3, 3)}, "optimizer.0.exp_avg of the saved state"),
        ({}, {"2.momentum_buffer": torch.zeros(4)}, "optimizer.2.momentum_buffer of the saved"),
        ({}, {"x": torch.zeros(4)}, "optimizer.x of the saved state"),
        ({}, {"1.momentum_buffer": torch.zeros(5)}, r"float32\[5\] in .*, but float32\[4\]"),
        ({"optimizer": "adamw"}, {"0.step": None}, "optimizer.0.step is missing"),
        ({"optimizer": "adamw"}, {"0.step": number(1)}, r"optimizer.0.step is int64\[\]"),
    ],
)
def test_what_does_not_fit_is_refused(options, changed, words):
    model = convolution()
    optimizer, parameters = optimizer_of(model, **options), list(model.parameters())
    train(model, optimizer, 0, 1)
    given = optimizer_state(optimizer, parameters) | changed
    given = {name: tensor for name, tensor in given.items() if tensor is not None}
    both = joined({"model": dict(model.named_parameters()), "optimizer": given})
    own = joined({"model": dict(model.named_parameters())})
    if words is None:
        check_restorable(both, own, optimizer, parameters)
        return
    with pytest.raises(ValueError, match=words) as error:
        check_restorable(both, own, optimizer, parameters)
    assert "\n" not in str(error.value)


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)))
def test_numbers_come_back_as_they_are(value):
    back = number(value).item()
    assert back == value
    assert type(back) is type(value)


@given(st.dictionaries(st.text(), st.dictionaries(st.text(), st.integers(0, 9), min_size=1)))
@settings(max_examples=50)
def test_parts_are_found_again_where_prefixes_have_no_dot(parts):
    parts = {name: numbers for name, numbers in parts.items() if "." not in name}
    tensors = joined({name: {k: number(v) for k, v in ns.items()} for name, ns in parts.items()})
    for name, numbers in parts.items():
        assert {key: int(tensor) for key, tensor in part(tensors, name).items()} == numbers


def test_equal_names_shapes_and_types_fit():
    tensors = {"a": torch.zeros(2, 3), "b": number(1)}
    check_fit(tensors, {name: tensor + 1 for name, tensor in tensors.items()})


def overflown(scaler, times):
    """So many steps whose gradients are infinite, then one that is not."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    for gradient in [float("inf")] * times + [1.0]:
        scaler.scale(parameter.sum())
        parameter.grad = torch.tensor([gradient])
        scaler.step(optimizer)
        scaler.update()


def test_a_loss_scaler_of_torch_goes_on():
    one, other = (torch.amp.GradScaler("cpu") for _ in range(2))
    overflown(one, 3)
    state = torch_scaler_state(one)
    assert {name: t.item() for name, t in state.items()} == {"scale": 2.0**13, "growth_tracker": 1}
    assert torch_scaler_state(other).keys() == state.keys()  # before its first step, too
    restore_torch_scaler_(state, other)
    overflown(one, 1)
    overflown(other, 1)
    assert one.state_dict() == other.state_dict()


def test_a_loss_scaler_that_is_off_has_no_state():
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    assert torch_scaler_state(scaler) == {}
    restore_torch_scaler_({}, scaler)


def test_the_numbers_of_a_loss_scaler_of_deepspeed_come_back():
    """In the types of all others: its scale begins as an integer and is a float when halved."""
    kept = {"cur_scale": 65536, "cur_iter": 7, "last_overflow_iter": -1, "cur_hysteresis": None}
    scaler = SimpleNamespace(**kept, scale_window=4)
    state = deepspeed_scaler_state(scaler)
    assert {name: t.item() for name, t in state.items()} == {
        "cur_scale": 65536.0, "cur_iter": 7, "last_overflow_iter": -1,
    }  # fmt: skip
    assert state["cur_scale"].dtype is torch.float64
    other = SimpleNamespace(cur_scale=1, cur_iter=0, last_overflow_iter=-1)
    restore_deepspeed_scaler_(state, other)
    assert vars(other) == {"cur_scale": 65536.0, "cur_iter": 7, "last_overflow_iter": -1}


def test_where_there_is_no_loss_scaler_there_is_no_state():
    assert deepspeed_scaler_state(None) == {}
