"""A held mask: what it prunes is +0.0 after every step of every optimizer, the rest trains on."""

from __future__ import annotations

import copy
import gc
import weakref
from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.nn.functional import cross_entropy

from sms_dist.pruning.hold import Pruned, hold

ODD = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-42, -1.5, 3e38]
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float64: torch.int64}
OPTIMIZERS = {
    "sgd": partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "sgd_fused": partial(optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01, fused=True),
    "adamw": partial(optim.AdamW, lr=0.01, weight_decay=0.1, amsgrad=True),
    "adamw_fused": partial(optim.AdamW, lr=0.01, weight_decay=0.1, fused=True),
    "adamw_foreach": partial(optim.AdamW, lr=0.01, weight_decay=0.1, foreach=True),
    "adam": partial(optim.Adam, lr=0.01, weight_decay=0.1),
    "rmsprop": partial(optim.RMSprop, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "adagrad": partial(optim.Adagrad, lr=0.01, weight_decay=0.1, initial_accumulator_value=0.1),
    "adafactor": partial(optim.Adafactor, lr=0.01, weight_decay=0.1),
    "asgd": partial(optim.ASGD, lr=0.01, weight_decay=0.1, t0=0),
    "nadam": partial(optim.NAdam, weight_decay=0.1),
    "radam": partial(optim.RAdam, weight_decay=0.1),
    "adamax": partial(optim.Adamax, weight_decay=0.1),
    "rprop": optim.Rprop,
    "muon": partial(optim.Muon, lr=0.01, weight_decay=0.1),
    "lbfgs": partial(optim.LBFGS, lr=0.1, max_iter=3),
}


class Single(nn.Module):
    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16, bias=False), nn.Tanh(), nn.Linear(16, 4, bias=False))


def half(model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    named = model.named_parameters()
    return {n: torch.rand(p.shape, generator=generator) < 0.5 for n, p in named if p.dim() > 1}


def batches(number: int = 4):
    generator = torch.Generator().manual_seed(2)
    for _ in range(number):
        inputs = torch.randn(8, 12, generator=generator)
        yield inputs, torch.randint(4, (8,), generator=generator)


def like_weights(model, optimizer):
    """Yield name and tensor: the weights, their gradients, what the optimizer remembers of them."""
    for name, p in model.named_parameters():
        for value in (p.detach(), p.grad, *optimizer.state.get(p, {}).values()):
            if isinstance(value, torch.Tensor) and value.shape == p.shape:
                yield name, value


def step(model, optimizer, batch, masks=None) -> None:
    """Take a step; with masks by hand."""
    inputs, targets = batch

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        for name, kept in (masks or {}).items():
            model.get_parameter(name).grad.mul_(kept)
        return loss

    optimizer.step(closure)
    for name, value in like_weights(model, optimizer) if masks else ():
        value.mul_(masks[name])


def assert_zero(model, optimizer, mask) -> None:
    for name, value in like_weights(model, optimizer):
        pruned = value[~mask[name]]
        assert not torch.count_nonzero(pruned.view(BITS[pruned.dtype])), name  # no -0.0 either


@pytest.mark.parametrize("is_late", [False, True], ids=["fresh", "stepped"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_trains_the_survivors_as_by_hand(name, is_late):
    models = net(), net()
    optimizers = [OPTIMIZERS[name](model.parameters()) for model in models]
    mask = half(models[0])
    if is_late:
        for model, optimizer in zip(models, optimizers, strict=True):
            step(model, optimizer, next(batches()))
    for name_, value in like_weights(models[1], optimizers[1]):
        value.mul_(mask[name_])
    with hold(models[0], mask, optimizers[0] if is_late else None) as held:
        for batch in batches():
            step(models[0], optimizers[0], batch)
            assert_zero(models[0], optimizers[0], mask)
            step(models[1], optimizers[1], batch, mask)
        held.check()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
        assert torch.count_nonzero(one) > 25


@pytest.mark.parametrize("dtype", BITS)
def test_odd_gradients_become_zero_and_the_others_keep_their_bits(dtype):
    given = torch.tensor([ODD, ODD], dtype=dtype)
    mask = torch.tensor([[True], [False]]).expand(2, len(ODD))
    wanted = given.masked_fill(~mask, 0.0).view(BITS[dtype])
    model = Single(torch.full((2, len(ODD)), -1, dtype=dtype))
    hold(model, {"weight": mask})
    assert torch.equal(model.weight.detach(), -mask.to(dtype))
    model.weight.backward(given)
    assert torch.equal(model.weight.grad.view(BITS[dtype]), wanted)
    Pruned({model.weight: mask}).gradients_()
    assert torch.equal(model.weight.grad.view(BITS[dtype]), wanted)
    # one that no backward pass has brought
    model.weight.grad = given.clone()
    optim.SGD(model.parameters(), lr=0.1).step()
    assert torch.equal(model.weight.grad.view(BITS[dtype]), wanted)


def test_tensors_may_lie_in_memory_otherwise_than_they_are_indexed():
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    model, mask = Single(weight), weight > 0
    pruned = Pruned({model.weight: mask})
    for gradient in (weight, weight.contiguous()):
        model.weight.grad = gradient.clone()
        pruned.gradients_()
        assert torch.equal(model.weight.grad, weight * mask)


def test_a_mask_that_keeps_everything_costs_nothing():
    model = Single(torch.ones(2))
    assert not Pruned({model.weight: torch.ones(2).bool()})


@pytest.mark.parametrize("wrap", ["plain", "compiled", "replicated"])
def test_autocast_scaling_accumulation_and_clipping_see_no_pruned_gradient(wrap):
    model = net()
    mask = half(model)
    hold(model, mask)
    wrapped = {
        "plain": lambda: model,
        "compiled": lambda: torch.compile(model, backend="aot_eager"),
        "replicated": lambda: nn.DataParallel(model),
    }[wrap]()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    for number, (inputs, targets) in enumerate(batches(6)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(wrapped(inputs), targets)
        scaler.scale(loss / 2).backward()
        assert_zero(model, optimizer, mask)
        if number % 2:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
            assert_zero(model, optimizer, mask)
            optimizer.zero_grad()
    with pytest.raises(ValueError, match="held already"):
        hold(wrapped, mask)


def test_an_overflow_in_what_is_pruned_is_none():
    model = Single(torch.ones(2))
    hold(model, {"weight": torch.tensor([True, False])})
    optimizer, scaler = optim.SGD(model.parameters(), lr=1.0), torch.amp.GradScaler("cpu")
    scaler.scale((model.weight * torch.tensor([1.0, float("inf")])).sum()).backward()
    scaler.step(optimizer)
    assert model.weight.tolist() == [0.0, 0.0]


def test_frozen_weights_are_zeroed_once_and_held_if_they_train_later():
    model = net()
    mask = half(model)
    model[0].requires_grad_(False)
    held = hold(model, mask)
    assert not torch.count_nonzero(model[0].weight[~mask["0.weight"]])
    model[0].requires_grad_(True)
    optimizer = OPTIMIZERS["muon"](model.parameters())
    for batch in batches():
        step(model, optimizer, batch)
        assert_zero(model, optimizer, mask)
    held.check()


def test_sparse_gradients_of_an_embedding_are_masked():
    model = nn.Embedding(5, 3, sparse=True)
    mask = torch.rand(5, 3) < 0.5
    hold(model, {"weight": mask})
    optimizer = optim.Adagrad(model.parameters(), lr=0.1)
    model(torch.tensor([1, 1, 4])).square().sum().backward()
    assert model.weight.grad.is_sparse
    before = model.weight.detach().clone()
    optimizer.step()
    assert not torch.count_nonzero(model.weight[~mask])
    assert torch.count_nonzero(model.weight != before) == mask[[1, 4]].sum()


def test_a_model_may_be_cast_after_it_is_held():
    model = net()
    mask = half(model)
    hold(model, mask)
    model.to(torch.float64)
    optimizer = OPTIMIZERS["muon"](model.parameters())
    for inputs, targets in batches():
        step(model, optimizer, (inputs.double(), targets))
        assert_zero(model, optimizer, mask)


def test_two_optimizers_may_share_a_model():
    model = net()
    mask = half(model)
    both = [OPTIMIZERS["muon"]([model[0].weight]), OPTIMIZERS["adamw"]([model[2].weight])]
    hold(model, mask, both[0])
    for batch in batches():
        for optimizer in both:
            step(model, optimizer, batch)
    for name, kept in mask.items():
        assert not torch.count_nonzero(model.get_parameter(name)[~kept])


def test_a_released_model_trains_freely_and_can_be_held_again():
    model = net()
    mask = half(model)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    held = hold(model, mask)
    held.release()
    held.release()
    step(model, optimizer, next(batches()))
    assert torch.count_nonzero(model[0].weight) > mask["0.weight"].sum()
    with pytest.raises(ValueError, match="are not zero: something other"):
        held.check()
    with hold(model, mask, optimizer) as held:
        held.check()


def test_a_hold_lives_as_long_as_its_model_and_a_copy_has_none():
    model = net()
    hold(model, half(model))
    gc.collect()
    optimizer = OPTIMIZERS["muon"](model.parameters())
    step(model, optimizer, next(batches()))
    assert_zero(model, optimizer, half(model))
    hold(copy.deepcopy(model), half(model))
    gone = weakref.ref(model[0].weight)
    del model, optimizer
    gc.collect()
    assert gone() is None


def test_what_cannot_be_held_is_refused_in_one_line():
    model = net()
    mask = half(model)
    stepped = OPTIMIZERS["sgd"](model.parameters())
    step(model, stepped, next(batches()))
    cases = {
        "3.weight of the mask is no parameter": (model, {"3.weight": mask["2.weight"]}, None),
        r"mask is \(4, 16\), and \(16, 12\) in the model": (
            *(model, {"0.weight": mask["2.weight"]}, None),
        ),
        "torch.float32": (model, {"0.weight": torch.ones(16, 12)}, None),
        "other parameters": (model, mask, OPTIMIZERS["sgd"](net().parameters())),
    }
    before = copy.deepcopy(model)
    for words, (net_, kept, optimizer) in cases.items():
        with pytest.raises(ValueError, match=words) as caught:
            hold(net_, kept, optimizer)
        assert "\n" not in str(caught.value)
    for one, other in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other)
    hold(model, mask)
    with pytest.raises(ValueError, match="had taken steps before"):
        step(model, stepped, next(batches()))
