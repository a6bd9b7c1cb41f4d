"""The ensemble of candidates: their probabilities averaged, every sample once."""

import pytest
import torch
from torch.nn.functional import nll_loss

from sms_dist.config import Config
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.training.context import set_up
from sms_dist.training.evaluation import ensemble, measured, probabilities

ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")
HERE = Topology(ALONE, ALONE, ALONE, None, CPU)


def new_context(batch_size):
    data = {"name": "digits", "train_samples": 200, "batch_size": batch_size}
    return set_up(Config(data=data, model={"options": {"width": 4}}), HERE)


@pytest.fixture(scope="module")
def context():
    return new_context(32)


@pytest.fixture(scope="module")
def candidates(context):
    states, generator = {}, torch.Generator().manual_seed(1)
    for index in (0, 1, 4):
        state = context.new_model().state_dict()
        for name in context.parameters:
            state[name] += 0.3 * torch.randn(state[name].shape, generator=generator)
        states[index] = measured(context, state, ALONE)
    return states


def owners(states):
    return dict.fromkeys(states, 0)


@torch.no_grad()
def plain(context, states):
    """Accuracy and loss in one process, in one piece."""
    batches = list(context.loaders.test.part(0, 1))
    inputs = torch.cat([batch.inputs[0] for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    each = [context.load(state).eval()(inputs).softmax(1) for state in states]
    mean = torch.stack(each).mean(0)
    return float((mean.argmax(1) == targets).double().mean()), float(nll_loss(mean.log(), targets))


@pytest.mark.parametrize("num", [1, 2, 5])
def test_the_ensemble_of_equal_candidates_is_the_candidate(context, candidates, num):
    state, metrics = candidates[1]
    states = dict.fromkeys(range(num), state)
    found = ensemble(context, states, owners(states))
    assert found["test_accuracy"] == metrics["test_accuracy"]
    assert found["test_loss"] == pytest.approx(metrics["test_loss"], rel=1e-5)


@pytest.mark.parametrize("batch_size", [1000, 32, 8])  # fewer and more batches than parts
def test_the_ensemble_is_that_of_a_plain_computation(candidates, batch_size):
    context = new_context(batch_size)
    states = {i: state for i, (state, _) in candidates.items()}
    found = ensemble(context, states, owners(states))
    accuracy, loss = plain(context, states.values())
    assert found["test_accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert found["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert found["test_loss"] < max(metrics["test_loss"] for _, metrics in candidates.values())


def test_candidates_that_are_left_out_do_not_vote(context, candidates):
    states = {i: state for i, (state, _) in candidates.items()}
    found = ensemble(context, states, {0: 0, 4: 0})
    assert found == ensemble(context, {0: states[0], 4: states[4]}, {0: 0, 4: 0})
    assert found != ensemble(context, states, owners(states))


def test_what_nobody_believes_in_has_a_finite_loss(context, candidates):
    state = {n: t * 1e6 if n.startswith("classifier") else t for n, t in candidates[0][0].items()}
    found = ensemble(context, {0: state}, {0: 0})
    assert 10 < found["test_loss"] < 88


def test_probabilities_are_in_stored_order_and_sum_to_one(context, candidates):
    model = context.load(candidates[0][0]).train()
    found = probabilities(model, context.loaders.test, 10, ALONE)
    with torch.no_grad():
        batches = [model(*batch.inputs).softmax(1) for batch in context.loaders.test.part(0, 1)]
    assert torch.equal(found, torch.cat(batches))
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
