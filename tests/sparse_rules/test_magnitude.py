"""DPF, DNW, GSM and LC: the step's arithmetic, on weights small enough to follow."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning.allocation import global_
from sms_dist.pruning.mask import full_mask
from sms_dist.pruning.patterns import keep_allocated
from sms_dist.sparse_rules import make_rule
from sms_dist.sparse_rules.base import Setup
from sms_dist.sparse_rules.magnitude import largest, masked

SHAPES = {"conv": (4, 3, 3, 3), "fc": (10, 20)}
SIZE = 308


def random_tensors(seed, decimals=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator).round(decimals=decimals)
        for name, shape in SHAPES.items()
    }


def make(name, weights, num_kept=30, steps_per_epoch=5, epochs=4, **options):
    setup = Setup(num_kept, epochs * steps_per_epoch, steps_per_epoch)
    return make_rule(name, options, weights, setup)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, SIZE), st.integers(0, 3))
def test_the_largest_are_those_that_global_pruning_keeps(seed, num_kept, decimals):
    weights = random_tensors(seed, decimals)  # few decimals: many ties, also across tensors
    mask = largest(weights, num_kept)
    assert {name: kept.shape for name, kept in mask.items()} == SHAPES
    expected = keep_allocated(weights, full_mask(weights, weights), num_kept, global_)
    assert torch.equal(flat(mask), flat(expected))


def test_masked_weights_are_plus_zero():
    weights = {"a": torch.tensor([-1.0, float("nan"), 2.0])}
    zeros = masked(weights, {"a": torch.zeros(3, dtype=torch.bool)})["a"]
    assert torch.equal(zeros.view(torch.int32), torch.zeros(3, dtype=torch.int32))


def test_dpf_looks_again_at_the_weights_every_refresh_steps():
    weights = random_tensors(0)
    rule = make("dpf", weights, refresh=4)
    first = largest(weights, 30)
    for step in range(1, 9):
        weights = random_tensors(step)
        rule.after_step_(weights)
        if step % 4 == 0:
            first = largest(weights, 30)
        assert torch.equal(flat(rule.view(weights)), flat(masked(weights, first)))


def test_dnw_looks_again_in_every_step():
    rule = make("dnw", random_tensors(0))
    for seed in range(3):
        weights = random_tensors(seed)
        assert torch.equal(flat(rule.view(weights)), flat(masked(weights, largest(weights, 30))))


@pytest.mark.parametrize("name", ["dpf", "dnw"])
def test_all_latent_weights_receive_the_gradient_of_the_view(name):
    weights, gradients = random_tensors(0), random_tensors(1)
    make(name, weights).gradients_(weights, gradients)
    assert torch.equal(flat(gradients), flat(random_tensors(1)))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**30), st.integers(1, SIZE))
def test_gsm_lets_through_the_gradients_with_the_largest_products(seed, num_kept):
    weights, gradients = random_tensors(seed, 7), random_tensors(seed + 1, 7)
    before, saliency = flat(gradients), (flat(weights) * flat(gradients)).abs()
    rule = make("gsm", weights, num_kept)
    assert rule.view(weights) is weights
    rule.gradients_(weights, gradients)
    active = flat(gradients) != 0
    assert torch.equal(flat(gradients)[active], before[active])
    assert active.sum() == num_kept
    assert saliency[active].min() >= saliency[~active].max() if num_kept < SIZE else active.all()


def test_gsm_moves_passive_weights_by_decay_and_momentum_only():
    """The paper's update: v = beta*v + B*g + lambda*w; w -= eta*v."""
    beta, decay, rate = 0.9, 0.01, 0.1
    parameter = torch.nn.Parameter(torch.tensor([3.0, 2.0, 1.0]))
    weights = {"a": parameter.detach()}
    rule = make("gsm", weights, num_kept=1)
    optimizer = torch.optim.SGD([parameter], lr=rate, momentum=beta, weight_decay=decay)
    expected, velocity = parameter.detach().clone(), torch.zeros(3)
    for gradient, active in ([2.0, 1.0, 1.0], 0), ([0.0, 1.0, 0.5], 1), ([0.1, 0.1, 9.0], 2):
        passed = torch.zeros(3)
        passed[active] = gradient[active]
        velocity = beta * velocity + passed + decay * expected
        expected = expected - rate * velocity
        parameter.grad = torch.tensor(gradient)
        rule.gradients_(weights, {"a": parameter.grad})
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**30), st.floats(1e-3, 10))
def test_lc_adds_the_derivative_of_the_penalty(seed, mu):
    rule = make("lc", random_tensors(seed), mu=mu, steps_per_epoch=1)
    rule.after_step_(random_tensors(seed + 1))  # from here on there are multipliers
    weights, gradients = random_tensors(seed + 2), random_tensors(seed + 3)
    expected = flat(gradients)
    w = flat(weights).requires_grad_()
    penalty = rule.mu / 2 * (w - flat(rule.theta) - flat(rule.multipliers) / rule.mu).square().sum()
    penalty.backward()
    rule.gradients_(weights, gradients)
    torch.testing.assert_close(flat(gradients), expected + w.grad)


def test_lc_compresses_after_so_many_epochs():
    weights = random_tensors(0)
    rule = make("lc", weights, steps_per_epoch=3, epochs_per_compression=2, mu=0.1, final_mu=0.2)
    assert torch.equal(flat(rule.theta), flat(masked(weights, largest(weights, 30))))
    weights = random_tensors(1)
    for _ in range(5):
        rule.after_step_(weights)
        assert rule.mu == 0.1
        assert not flat(rule.multipliers).any()
    rule.after_step_(weights)
    assert torch.equal(flat(rule.theta), flat(masked(weights, largest(weights, 30))))
    difference = flat(weights) - flat(rule.theta)
    torch.testing.assert_close(flat(rule.multipliers), -0.1 * difference)
    assert rule.mu == 0.2
    # Next time the multipliers shift what is compressed.
    shifted = {name: w - rule.multipliers[name] / 0.2 for name, w in weights.items()}
    for _ in range(6):
        rule.after_step_(weights)
    assert torch.equal(flat(rule.theta), flat(masked(shifted, largest(shifted, 30))))


def test_the_penalty_of_lc_reaches_its_end_however_long_training_is():
    for epochs in (2, 5, 60):
        rule, seen = make("lc", random_tensors(0), steps_per_epoch=1, epochs=epochs), []
        for _ in range(epochs):
            seen.append(rule.mu)
            rule.after_step_(random_tensors(1))
        assert seen[0] == 0.01
        assert seen[-1] == pytest.approx(1.0)
        assert seen == sorted(seen)


def test_lc_solves_a_quadratic_problem_under_the_constraint():
    """min ||w - c||^2 / 2 with 30 weights: the 30 largest of c, unchanged, the others 0."""
    target = random_tensors(5)
    weights = random_tensors(6)
    rule = make("lc", weights, steps_per_epoch=50, epochs=30, mu=0.05, final_mu=100.0)
    distances = []
    for step in range(1500):
        gradients = {name: w - target[name] for name, w in weights.items()}
        rule.gradients_(weights, gradients)
        for name, w in weights.items():
            w.sub_(gradients[name], alpha=min(0.5, 1 / (1 + rule.mu)))
        rule.after_step_(weights)
        if step % 50 == 0:
            distances.append(float((flat(weights) - flat(rule.theta)).norm()))
    assert distances[-1] < 1e-3 * distances[0]
    expected = flat(masked(target, largest(target, 30)))
    torch.testing.assert_close(flat(rule.finish(weights).tensors), expected, atol=1e-2, rtol=0)
