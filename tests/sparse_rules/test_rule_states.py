"""A fresh rule that takes over a state from disk goes on with the same bits."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from sms_dist.sparse_rules import RULES, make_rule
from sms_dist.sparse_rules.base import Setup

SHAPES = {"conv": (4, 3, 3, 3), "fc": (10, 20)}
OPTIONS = {"dpf": {"refresh": 4}, "dst": {"alpha": 0.1}, "str": {"initial": -2.0}}
REMEMBERS = ("dpf", "lc", "dst", "str")
STEPS, SAVED, EPOCH = 22, 10, 3  # masks and compressions lie before and after
EACH = pytest.mark.parametrize("name", RULES)


def random_tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def make(name):
    setup = Setup(num_kept=60, num_steps=STEPS, steps_per_epoch=EPOCH)
    return make_rule(name, OPTIONS.get(name, {}), random_tensors(0), setup)


@torch.no_grad()
def train(rule, weights, first, end):
    """Plain gradient descent from step to step; the gradients depend on view and step."""
    for step in range(first, end):
        noise = random_tensors(100 + step)
        gradients = {key: view + noise[key] for key, view in rule.view(weights).items()}
        rule.gradients_(weights, gradients)
        for key, weight in weights.items():
            weight.sub_(gradients[key], alpha=0.1)
        for parameter in rule.parameters:
            parameter.sub_(parameter.grad, alpha=0.1)
        rule.after_step_(weights)


def copied(tensors):
    return {key: tensor.detach().clone() for key, tensor in tensors.items()}


def are_equal(one, other):
    return one.keys() == other.keys() and all(
        one[key].dtype is other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def half_way(name):
    """The rule, its weights and its state after `SAVED` steps."""
    rule, weights = make(name), random_tensors(0)
    train(rule, weights, 0, SAVED)
    return rule, copied(weights), copied(rule.state())


def ended(rule, weights):
    """All that can be seen of a rule after the remaining steps."""
    weights = copied(weights)
    train(rule, weights, SAVED, STEPS)
    finished = rule.finish(weights)
    return weights, copied(rule.view(weights)), finished.tensors, finished.mask, rule.state()


@EACH
def test_a_restored_rule_goes_on_as_if_nothing_had_happened(name, tmp_path):
    rule, weights, state = half_way(name)
    save_file(state, tmp_path / "state.safetensors")
    fresh = make(name)
    fresh.restore(load_file(tmp_path / "state.safetensors"))
    assert are_equal(fresh.state(), state)
    for one, other in zip(ended(rule, weights), ended(fresh, weights), strict=True):
        assert are_equal(one, other)


@EACH
def test_without_its_state_a_rule_that_remembers_goes_another_way(name):
    rule, weights, state = half_way(name)
    assert bool(state) == (name in REMEMBERS)
    straight, forgetful = ended(rule, weights), ended(make(name), weights)
    assert are_equal(straight[0], forgetful[0]) == (name not in REMEMBERS)


@EACH
def test_a_state_looks_like_that_of_a_fresh_rule(name):
    """Engines refuse what does not."""
    _, _, state = half_way(name)
    fresh = make(name).state()
    assert {key: (t.shape, t.dtype) for key, t in state.items()} == {
        key: (t.shape, t.dtype) for key, t in fresh.items()
    }


@EACH
def test_a_restored_rule_shares_no_memory_with_the_state(name):
    _, weights, state = half_way(name)
    before, rule = copied(state), make(name)
    rule.restore(state)
    ended(rule, weights)
    assert are_equal(state, before)


@pytest.mark.parametrize("name", ["dst", "str"])
def test_learned_thresholds_stay_the_parameters_that_the_optimizer_knows(name):
    rule = make(name)
    known = [parameter.data_ptr() for parameter in rule.parameters]
    rule.restore(half_way(name)[2])
    assert [parameter.data_ptr() for parameter in rule.parameters] == known
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in rule.parameters)
