"""Soup rules: coefficients that sum to one; greedy and learned soups that are never worse."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.soups import rules
from sms_dist.soups.rules import RULES, Descent, average, rule

DESCENT = Descent()


def greedy(scores, oracle):
    return rules.greedy(scores, oracle, DESCENT)


class Oracle:
    """Scores soups: a single candidate by its own score, mixtures at random but reproducibly."""

    def __init__(self, scores, seed=0, values=(0.0, 1.0)):
        self.scores, self.seed, self.values, self.asked = scores, seed, values, []

    def objective(self, coefficients):
        """As rough as an objective can be, with a derivative that leads astray."""
        noise = torch.Generator().manual_seed(hash((self.seed, *coefficients)) % 2**31)
        value, *derivative = torch.randn(1 + len(coefficients), generator=noise).tolist()
        self.asked.append(tuple(coefficients))
        return value, derivative

    def score(self, coefficients):
        chosen = tuple(i for i, c in enumerate(coefficients) if c)
        self.asked.append(chosen)
        if len(chosen) == 1:
            return self.scores[chosen[0]]
        low, high = self.values
        return low + (high - low) * (hash((self.seed, *chosen)) % 11) / 10


class Listed:
    """Accuracies by members."""

    def __init__(self, scores):
        self.scores = scores

    def score(self, coefficients):
        return self.scores[tuple(i for i, c in enumerate(coefficients) if c)]


class Bowl:
    """A quadratic over the coefficients: its least value lies at `minimum`."""

    def __init__(self, minimum):
        self.minimum, self.asked = torch.tensor(minimum, dtype=torch.float64), []

    def objective(self, coefficients):
        self.asked.append(coefficients)
        away = torch.tensor(coefficients, dtype=torch.float64) - self.minimum
        return float(away @ away), (2 * away).tolist()


SCORES = st.lists(st.integers(0, 10).map(lambda n: n / 10), min_size=1, max_size=8)


@settings(deadline=None, max_examples=200)
@given(SCORES, st.integers(0, 10**6))
def test_greedy_never_scores_below_the_best_candidate(scores, seed):
    oracle = Oracle(scores, seed)
    assert oracle.score(greedy(scores, oracle)) >= max(scores)


@settings(deadline=None, max_examples=100)
@given(SCORES, st.integers(0, 10**6))
def test_every_rule_gives_coefficients_that_sum_to_one_and_none_is_negative(scores, seed):
    for name, each in RULES.items():
        coefficients = each.choose(scores, Oracle(scores, seed), Descent(steps=3))
        assert len(coefficients) == len(scores)
        assert sum(coefficients) == pytest.approx(1)
        assert min(coefficients) >= 0
        if name not in ("learned", "distilled"):  # members have equal coefficients
            assert len({c for c in coefficients if c}) == 1


@settings(deadline=None, max_examples=100)
@given(SCORES)
def test_greedy_asks_from_the_best_candidate_down_ties_by_lower_index(scores):
    oracle = Oracle(scores, values=(-1.0, -1.0))  # nobody may join
    coefficients = greedy(scores, oracle)
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert coefficients == average(order[:1], len(scores))
    assert oracle.asked == [tuple(sorted((order[0], other))) for other in order[1:]]


def test_as_good_as_before_is_good_enough_to_join():
    oracle = Oracle([0.5, 0.5, 0.5], values=(0.5, 0.5))
    assert greedy([0.5, 0.5, 0.5], oracle) == pytest.approx([1 / 3] * 3)


def test_a_candidate_that_harms_is_left_out_and_the_next_one_still_tried():
    scores = {(1,): 0.9, (0, 1): 0.8, (1, 2): 0.95, (1, 2, 3): 0.94}

    assert greedy([0.7, 0.9, 0.6, 0.5], Listed(scores)) == [0.0, 0.5, 0.5, 0.0]


def test_the_bar_rises_with_the_soup():
    scores = {(0, 1): 0.9, (0, 1, 2): 0.8}  # better than the best candidate, worse than the soup

    assert greedy([0.7, 0.6, 0.5], Listed(scores)) == [0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    "minimum", [[0.2, 0.5, 0.3], [0.9, 0.1], [0.25] * 4, [0.05, 0.05, 0.1, 0.3, 0.5]]
)
def test_learned_finds_the_minimum_of_a_quadratic(minimum):
    bowl = Bowl(minimum)
    found = rules.learned([0.0] * len(minimum), bowl, Descent(steps=300))
    assert found == pytest.approx(minimum, abs=0.01)


def test_learned_comes_close_to_the_minimum_with_the_default_number_of_steps():
    bowl = Bowl([0.6, 0.1, 0.3])
    found = rules.learned([0.0] * 3, bowl, DESCENT)
    assert bowl.objective(found)[0] < 0.1 * bowl.objective(average(range(3), 3))[0]
    assert len(bowl.asked) == DESCENT.steps + 1 + 2


def test_a_minimum_outside_of_the_simplex_is_approached_from_inside():
    found = rules.learned([0.0] * 2, Bowl([2.0, -1.0]), Descent(steps=200))
    assert found[0] > 0.95
    assert found[1] >= 0


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 8), st.integers(0, 1000))
def test_learned_takes_the_best_it_has_seen_which_is_never_worse_than_the_mean(num, seed):
    oracle = Oracle([0.0] * num, seed)
    found = rules.learned([0.0] * num, oracle, Descent(steps=5))
    seen = list(oracle.asked)
    values = [oracle.objective(coefficients)[0] for coefficients in seen]
    assert seen[0] == pytest.approx(average(range(num), num))
    assert oracle.objective(found)[0] == min(values)


def test_learned_is_deterministic():
    first, again = (rules.learned([0.0] * 3, Bowl([0.7, 0.1, 0.2]), DESCENT) for _ in range(2))
    assert first == again


class Broken:
    def objective(self, coefficients):
        return math.nan, [math.nan] * len(coefficients)


def test_where_no_objective_is_a_number_learned_is_the_mean():
    assert rules.learned([0.0] * 4, Broken(), DESCENT) == [0.25] * 4


def test_the_steps_of_learned_are_as_long_as_configured():
    for rate in (0.01, 0.1):
        bowl = Bowl([1.0, 0.0])
        rules.learned([0.0, 0.0], bowl, Descent(steps=1, learning_rate=rate))
        _, second = bowl.asked  # Adam's first step has the length of the rate
        assert math.log(second[0] / second[1]) == pytest.approx(2 * rate, rel=1e-3)


@settings(deadline=None, max_examples=100)
@given(SCORES)
def test_best_is_the_candidate_with_the_highest_score_ties_by_lower_index(scores):
    coefficients = rules.best(scores, Oracle(scores), DESCENT)
    assert coefficients.index(1.0) == scores.index(max(scores))


@pytest.mark.parametrize("name", RULES)
def test_a_single_candidate_is_the_soup_and_nothing_is_asked(name):
    oracle = Oracle([0.3])
    assert rule(name).choose([0.3], oracle, DESCENT) == [1.0]
    assert oracle.asked == []


def test_uniform_takes_all_whatever_they_score():
    oracle = Oracle([])
    assert rules.uniform([0.1, 0.9, 0.0, 0.4], oracle, DESCENT) == [0.25] * 4


def test_an_unknown_rule_names_the_legal_ones():
    with pytest.raises(ValueError, match=r"soup\.rule=greddy is not known, did you mean greedy"):
        rule("greddy")


def test_what_rules_need_is_known_without_torch():
    code = """
import sys
from sms_dist.soups.rules import RULES
assert "torch" not in sys.modules
assert [n for n, r in RULES.items() if not r.needs_validation] == ["uniform"]
assert [n for n, r in RULES.items() if r.needs_several] == ["greedy", "learned", "distilled"]
assert [n for n, r in RULES.items() if r.needs_teacher] == ["distilled"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class Curious(Oracle):
    """Notices what it is asked for."""

    def __init__(self):
        super().__init__([0.5, 0.4, 0.3])
        self.validation = 0

    def score(self, coefficients):
        self.validation += 1
        return super().score(coefficients)

    def objective(self, coefficients):
        self.validation += 1
        return super().objective(coefficients)


@pytest.mark.parametrize("name", [n for n, r in RULES.items() if not r.needs_validation])
def test_rules_that_need_no_validation_samples_do_not_look_at_them(name):
    scores, oracle = [0.5, 0.4, 0.3], Curious()
    assert rule(name).choose(scores, oracle, DESCENT) == rule(name).choose(
        [0.0] * 3, oracle, DESCENT
    )
    assert oracle.validation == 0
