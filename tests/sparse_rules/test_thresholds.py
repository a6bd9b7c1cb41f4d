"""DST and STR: the gradients of weights and thresholds are those of the forward computation."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.sparse_rules import make_rule
from sms_dist.sparse_rules.base import Setup
from sms_dist.sparse_rules.thresholds import surrogate

SHAPES = {"conv": (6, 3, 3, 3), "fc": (10, 20)}
OPEN = Setup(num_kept=None, num_steps=10, steps_per_epoch=5)


def random_tensors(seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {n: spread * torch.randn(shape, generator=generator) for n, shape in SHAPES.items()}


def make(name, weights, **options):
    return make_rule(name, options, weights, OPEN)


class Step(torch.autograd.Function):
    """x > 0; its derivative 2 - 4|x| up to 0.4, 0.4 up to 1, then 0."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return (x > 0).to(x)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        far = torch.where(x.abs() <= 1, 0.4, 0.0).to(x)
        return gradient * torch.where(x.abs() <= 0.4, 2 - 4 * x.abs(), far)


def loss_at(view):
    """Some loss whose gradient differs from weight to weight."""
    return sum((tensor.sin() + tensor.square() / 3).sum() for tensor in view.values()) / 50


def gradient_at(view):
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in view.items()}
    loss_at(leaves).backward()
    return {name: leaf.grad for name, leaf in leaves.items()}


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**30), st.floats(0, 1e-2))
def test_dst_gradients_are_those_of_autograd(seed, alpha):
    weights = random_tensors(seed)
    rule = make("dst", weights, alpha=alpha)
    generator = torch.Generator().manual_seed(seed)
    for threshold in rule.parameters:
        with torch.no_grad():
            threshold.copy_(torch.rand(len(threshold), generator=generator) - 0.1)
    w = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    t = {n: threshold.detach().clone().requires_grad_() for n, threshold in rule.thresholds.items()}
    effective = {
        n: w[n] * Step.apply(w[n].abs() - t[n].view(-1, *[1] * (w[n].dim() - 1))) for n in w
    }
    (loss_at(effective) + alpha * sum(torch.exp(-each).sum() for each in t.values())).backward()

    view = rule.view(weights)
    gradients = gradient_at(view)
    rule.gradients_(weights, gradients)
    for name in weights:
        assert torch.equal(view[name], effective[name])
        close(gradients[name], w[name].grad)
        close(rule.thresholds[name].grad, t[name].grad)


def test_the_surrogate_of_the_step():
    x = torch.tensor([0.0, 0.1, -0.25, 0.4, 0.7, -1.0, 1.01])
    torch.testing.assert_close(surrogate(x), torch.tensor([2.0, 1.6, 1.0, 0.4, 0.4, 0.4, 0.0]))


def test_dst_has_a_threshold_for_each_output_that_starts_at_zero():
    rule = make("dst", random_tensors(0))
    assert [tuple(t.shape) for t in rule.parameters] == [(6,), (10,)]
    assert not any(t.any() for t in rule.parameters)
    assert all(kept.all() for kept in rule.finish(random_tensors(0)).mask.values())


@pytest.mark.parametrize(("num_kept", "starts_over"), [(3, False), (2, True), (0, True)])
def test_dst_starts_a_layer_over_that_keeps_one_percent_or_less(num_kept, starts_over):
    weights = {"small": torch.full((10, 20), 0.1), "other": torch.ones(4, 5)}  # 1 % of 200 is 2
    weights["small"].flatten()[:num_kept] = 1.0
    rule = make("dst", weights)
    for threshold in rule.parameters:
        threshold.data.fill_(0.5)
    rule.after_step_(weights)
    assert rule.thresholds["small"].eq(0.0 if starts_over else 0.5).all()
    assert rule.thresholds["other"].eq(0.5).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**30), st.floats(-6, 2))
def test_str_gradients_are_those_of_autograd(seed, initial):
    weights = random_tensors(seed)
    rule = make("str", weights, initial=initial)
    w = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    s = {n: torch.tensor(initial, requires_grad=True) for n in weights}
    effective = {n: w[n].sign() * F.relu(w[n].abs() - torch.sigmoid(s[n])) for n in w}
    loss_at(effective).backward()

    view = rule.view(weights)
    gradients = gradient_at(view)
    rule.gradients_(weights, gradients)
    for name in weights:
        assert torch.equal(view[name], effective[name])
        close(gradients[name], w[name].grad)
        close(rule.logits[name].grad, s[name].grad)


def test_str_draws_all_weights_towards_zero_by_the_threshold():
    weights = {"a": torch.tensor([[1.0, -0.75, 0.5, -0.25, 0.0]])}
    tensors, mask = make("str", weights, initial=0.0).finish(weights)
    assert tensors["a"].tolist() == [[0.5, -0.25, 0.0, 0.0, 0.0]]
    assert mask["a"].tolist() == [[True, True, False, False, False]]
    assert not torch.signbit(tensors["a"][0, 2:]).any()


def test_str_starts_at_the_given_logit_in_every_layer():
    rule = make("str", random_tensors(0), initial=-3.0)
    assert [s.item() for s in rule.parameters] == [-3.0, -3.0]
    kept = rule.finish(random_tensors(0)).mask["fc"]
    assert torch.equal(kept, random_tensors(0)["fc"].abs() > 1 / (1 + math.exp(3)))
