"""Soup rules: coefficients that sum to one, and a greedy soup that is never worse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.soups.rules import RULES, average, greedy, rule, uniform


class Oracle:
    """Scores soups: a single candidate by its own score, mixtures at random but reproducibly."""

    def __init__(self, scores, seed=0, values=(0.0, 1.0)):
        self.scores, self.seed, self.values, self.asked = scores, seed, values, []

    def __call__(self, coefficients):
        chosen = tuple(i for i, c in enumerate(coefficients) if c)
        self.asked.append(chosen)
        if len(chosen) == 1:
            return self.scores[chosen[0]]
        low, high = self.values
        return low + (high - low) * (hash((self.seed, *chosen)) % 11) / 10


SCORES = st.lists(st.integers(0, 10).map(lambda n: n / 10), min_size=1, max_size=8)


@settings(deadline=None, max_examples=200)
@given(SCORES, st.integers(0, 10**6))
def test_greedy_never_scores_below_the_best_candidate(scores, seed):
    oracle = Oracle(scores, seed)
    assert oracle(greedy(scores, oracle)) >= max(scores)


@settings(deadline=None, max_examples=100)
@given(SCORES, st.integers(0, 10**6))
def test_every_rule_gives_members_equal_coefficients_that_sum_to_one(scores, seed):
    for make in RULES.values():
        coefficients = make(scores, Oracle(scores, seed))
        assert len(coefficients) == len(scores)
        assert sum(coefficients) == pytest.approx(1)
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

    def oracle(coefficients):
        return scores[tuple(i for i, c in enumerate(coefficients) if c)]

    assert greedy([0.7, 0.9, 0.6, 0.5], oracle) == [0.0, 0.5, 0.5, 0.0]


def test_the_bar_rises_with_the_soup():
    scores = {(0, 1): 0.9, (0, 1, 2): 0.8}  # better than the best candidate, worse than the soup

    def oracle(coefficients):
        return scores[tuple(i for i, c in enumerate(coefficients) if c)]

    assert greedy([0.7, 0.6, 0.5], oracle) == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("name", RULES)
def test_a_single_candidate_is_the_soup_and_nothing_is_asked(name):
    oracle = Oracle([0.3])
    assert rule(name)([0.3], oracle) == [1.0]
    assert oracle.asked == []


def test_uniform_takes_all_whatever_they_score():
    assert uniform([0.1, 0.9, 0.0, 0.4], Oracle([])) == [0.25] * 4


def test_an_unknown_rule_names_the_legal_ones():
    with pytest.raises(ValueError, match=r"soup\.rule=greddy is not known, did you mean greedy"):
        rule("greddy")
