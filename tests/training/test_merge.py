"""Merging: what rules ask is measured on models, and gradients by coefficients are true."""

import dataclasses
from itertools import combinations

import pytest
import torch

from sms_dist.config import Config
from sms_dist.experiment.soup import pair_soups
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.pruning.mask import apply_
from sms_dist.soups.diversity import loss_barrier
from sms_dist.soups.merge import Mixer, merge
from sms_dist.soups.rules import RULES, Descent, average, rule
from sms_dist.training.context import set_up
from sms_dist.training.evaluation import measured
from sms_dist.training.oracle import SoupOracle

ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")
HERE = Topology(ALONE, ALONE, ALONE, None, CPU)
INDICES = (0, 2, 5)  # candidates that diverged are missing
OWNERS = dict.fromkeys(INDICES, 0)
SCORES = {0: 0.2, 2: 0.4, 5: 0.3}
POINT = [0.5, 0.2, 0.3]


def as_mixed(state):
    return state


def mixer_of(context, own, owners, mask):
    return Mixer(context.mesh, context.surviving_vector(mask), own, owners)


def merged(context, name, scores, own, owners, mask, *, view=as_mixed, teacher=None):
    mixer, chosen = mixer_of(context, own, owners, mask), rule(name)
    oracle = SoupOracle(context, mixer, view, teacher if chosen.needs_teacher else None)
    return merge(mixer, chosen, scores, oracle, Descent(steps=6))


@pytest.fixture(scope="module")
def context():
    return set_up(
        Config(
            data={"name": "digits", "train_samples": 300, "validation": 0.3, "batch_size": 32},
            model={"options": {"width": 4}},
        ),
        HERE,
    )


def random_mask(context, seed):
    generator, like = torch.Generator().manual_seed(seed), context.new_model().state_dict()
    return {
        name: torch.rand(like[name].shape, generator=generator) < 0.7 for name in context.prunable
    }


@pytest.fixture(scope="module")
def mask(context):
    return random_mask(context, 1)


def near(context, mask, seed, scale):
    """A masked model some way from the initial one."""
    generator, state = torch.Generator().manual_seed(seed), context.new_model().state_dict()
    for name in context.parameters:
        state[name] += scale * torch.randn(state[name].shape, generator=generator)
    apply_(state, mask)
    return state


@pytest.fixture(scope="module")
def candidates(context, mask):
    return {i: near(context, mask, seed=i, scale=0.3) for i in INDICES}


@pytest.fixture(scope="module")
def teacher(context):
    return near(context, {}, seed=9, scale=0.5)


def half(state):
    """A view that takes further weights away."""
    state = dict(state)
    weight = state["classifier.weight"]
    state["classifier.weight"] = weight * (torch.arange(weight.shape[1]) % 2)
    return state


def mean(states):
    return {name: sum(s[name] for s in states) / len(states) for name in states[0]}


@pytest.fixture(scope="module")
def whole():
    """Validation is the training set in one batch: its statistics are those of batch norm."""
    data = {"name": "digits", "train_samples": 200, "batch_size": 200}
    context = set_up(Config(data=data, model={"options": {"width": 4}}), HERE)
    loaders = dataclasses.replace(context.loaders, validation=context.loaders.train)
    return dataclasses.replace(context, loaders=loaders)


@pytest.mark.parametrize("view", [as_mixed, half])
@pytest.mark.parametrize("is_distilled", [False, True])
def test_the_gradient_by_the_coefficients_equals_finite_differences(
    whole, mask, candidates, teacher, is_distilled, view
):
    mixer = mixer_of(whole, candidates, OWNERS, mask)
    oracle = SoupOracle(whole, mixer, view, teacher if is_distilled else None)
    gradient = oracle.objective(POINT)[1]
    here = sum(p * g for p, g in zip(POINT, gradient, strict=True))
    differences = []  # on the way to each candidate
    for i in range(3):
        way = [(i == j) - p for j, p in enumerate(POINT)]
        ends = [[p + s * 1e-3 * w for p, w in zip(POINT, way, strict=True)] for s in (1, -1)]
        ahead, behind = (oracle.objective(end)[0] for end in ends)
        differences.append((ahead - behind) / 2e-3)
    assert [g - here for g in gradient] == pytest.approx(differences, abs=2e-3)  # float32, kinks
    assert max(map(abs, differences)) > 0.05


def test_the_learned_objective_is_the_validation_loss(context, mask, candidates):
    oracle = SoupOracle(context, mixer_of(context, candidates, OWNERS, mask), as_mixed)
    assert oracle.objective(POINT)[0] == pytest.approx(oracle.loss(POINT), rel=1e-6)
    assert oracle.metrics(POINT)["validation_loss"] == oracle.loss(POINT)
    assert oracle.metrics(POINT)["validation_accuracy"] == oracle.score(POINT)


def test_the_divergence_of_the_teacher_from_itself_is_zero(context, teacher):
    mixer = mixer_of(context, {0: teacher}, {0: 0}, {})
    value, gradient = SoupOracle(context, mixer, as_mixed, teacher).objective([1.0])
    assert value == pytest.approx(0, abs=1e-6)
    assert gradient == pytest.approx([0], abs=1e-5)


@torch.no_grad()
def test_the_distilled_objective_is_the_mean_divergence_of_the_soup_from_the_teacher(
    context, mask, candidates, teacher
):
    mixer = mixer_of(context, candidates, OWNERS, mask)
    states = [measured(context, state, ALONE)[0] for state in (teacher, mixer.mixed(POINT))]
    inputs = torch.cat([batch.inputs[0] for batch in context.loaders.validation.part(0, 1)])
    p, q = (context.load(state).eval()(inputs).double().softmax(1) for state in states)
    wanted = float((p * (p / q).log()).sum(1).mean())
    with torch.enable_grad():
        found, _ = SoupOracle(context, mixer, as_mixed, teacher).objective(POINT)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_distilled_prefers_the_candidate_that_is_the_teacher(context, candidates, teacher):
    states = {0: candidates[0], 1: teacher, 2: candidates[2]}
    scores, owners = dict.fromkeys(states, 0.5), dict.fromkeys(states, 0)
    soup = merged(context, "distilled", scores, states, owners, {}, teacher=teacher)
    assert soup.coefficients[1] > 0.4
    assert sum(soup.coefficients.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["learned", "distilled"])
def test_a_learned_soup_is_never_worse_than_the_uniform_one_on_its_objective(
    context, mask, candidates, teacher, name
):
    prejudiced = candidates[2]["classifier.bias"] + 9 * (torch.arange(10) == 3)
    states = candidates | {2: candidates[2] | {"classifier.bias": prejudiced}}
    soup = merged(context, name, SCORES, states, OWNERS, mask, teacher=teacher)
    mixer = mixer_of(context, states, OWNERS, mask)
    oracle = SoupOracle(context, mixer, as_mixed, teacher if name == "distilled" else None)
    found = oracle.objective(list(soup.coefficients.values()))[0]
    assert found < oracle.objective(average(range(3), 3))[0]
    assert min(soup.coefficients, key=soup.coefficients.__getitem__) == 2
    assert min(soup.coefficients.values()) > 0
    assert sum(soup.coefficients.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", RULES)
def test_a_soup_is_its_coefficients_times_its_candidates(context, mask, candidates, teacher, name):
    soup = merged(context, name, SCORES, candidates, OWNERS, mask, teacher=teacher)
    assert list(soup.coefficients) == list(INDICES)
    assert list(soup.state) == list(context.parameters)
    for parameter, tensor in soup.state.items():
        wanted = sum(c * candidates[i][parameter] for i, c in soup.coefficients.items())
        torch.testing.assert_close(tensor, wanted)
    assert all((soup.state[n][~kept] == 0).all() for n, kept in mask.items())


@pytest.mark.parametrize("name", RULES)
def test_a_single_candidate_is_its_soup(context, mask, candidates, teacher, name):
    soup = merged(context, name, {2: 0.1}, candidates, {2: 0}, mask, teacher=teacher)
    assert soup.coefficients == {2: 1.0}
    assert all(torch.equal(tensor, candidates[2][n]) for n, tensor in soup.state.items())


def test_what_is_measured_is_the_view_and_what_is_returned_is_not(context, mask, candidates):
    seen = []

    def nothing(state):
        seen.append(state)
        return {name: torch.zeros_like(tensor) for name, tensor in state.items()}

    scores = dict.fromkeys(INDICES, 0.0)  # models of zeros are as good: all may join
    soup = merged(context, "greedy", scores, candidates, OWNERS, mask, view=nothing)
    assert list(soup.coefficients.values()) == pytest.approx([1 / 3] * 3)
    assert len(seen) == 2
    assert all((tensor != 0).any() for tensor in soup.state.values())
    best = merged(context, "greedy", dict.fromkeys(INDICES, 0.9), candidates, OWNERS, mask)
    assert list(best.coefficients.values()) == [1.0, 0.0, 0.0]  # nobody reaches 90 %


def test_soups_of_pairs_are_measured_and_compared_with_the_better_candidate(
    context, mask, candidates
):
    oracle = SoupOracle(context, mixer_of(context, candidates, OWNERS, mask), as_mixed)
    pairs = pair_soups(oracle, INDICES, {0: 0.1, 2: 0.3, 5: 0.2})
    assert [pair.candidates for pair in pairs] == [(0, 2), (0, 5), (2, 5)]
    assert [pair.better_candidate for pair in pairs] == [0.3, 0.2, 0.3]
    for (i, j), pair in zip(combinations(INDICES, 2), pairs, strict=True):
        _, metrics = measured(context, mean([candidates[i], candidates[j]]), ALONE)
        for key in ("test_accuracy", "validation_accuracy", "test_loss"):
            assert pair.metrics[key] == pytest.approx(metrics[key], abs=2e-3)


def test_between_equal_candidates_there_is_no_barrier(context, mask, candidates):
    equal = dict.fromkeys(INDICES, candidates[0])
    oracle = SoupOracle(context, mixer_of(context, equal, OWNERS, mask), as_mixed)
    assert loss_barrier(oracle, 3) == pytest.approx(0, abs=1e-6)


class Ridge:
    """A loss with a slope, and a ridge (or a valley) between the first two candidates."""

    def __init__(self, height):
        self.height = height

    def loss(self, coefficients):
        first, second, _ = coefficients
        return 1 + 3 * first + 4 * self.height * first * second


@pytest.mark.parametrize(("height", "barrier"), [(2.5, 2.5), (0.0, 0.0), (-2.5, 0.0)])
def test_a_barrier_is_what_stands_above_the_line_between_two_candidates(height, barrier):
    assert loss_barrier(Ridge(height), 3) == pytest.approx(barrier)
