"""Soup rules: which coefficient each candidate gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from sms_dist.base.lookup import guarded, lookup_open
from sms_dist.base.plain import numbers, shown

Coefficients = list[float]  # of each candidate; none is negative, they add up to 1


class Oracle(Protocol):
    """Measures soups that are not made yet, for the rules that ask."""

    def score(self, coefficients: Coefficients) -> float:
        """Return the score of a soup on validation samples: the larger the better."""
        ...

    def loss(self, coefficients: Coefficients) -> float:
        """Return the loss of a soup on validation samples."""
        ...

    def objective(self, coefficients: Coefficients) -> tuple[float, list[float]]:
        """Return what a learned rule makes small, and its derivative by each coefficient."""
        ...


@dataclass(frozen=True)
class Descent:
    """Adam's steps on the coefficients and their learning rate, for learned rules."""

    steps: int = 30
    learning_rate: float = 0.1


Choose = Callable[[Sequence[float], Oracle, Descent], Coefficients]


@dataclass(frozen=True)
class Rule:
    """A function from the candidates' validation scores to coefficients, and what it needs."""

    choose: Choose
    needs_several: bool = False  # with a single candidate there is nothing to choose
    needs_validation: bool = True
    needs_teacher: bool = False  # its objective compares with the dense model
    is_learned: bool = False  # it descends on the objective, and does not look at the scores
    tries_soups: bool = False  # it measures a soup for each candidate but the first
    is_own: bool = False  # a function of somebody's own


def average(chosen: Sequence[int], num: int) -> Coefficients:
    """Return equal coefficients for the chosen candidates, zero for the others."""
    return [1 / len(chosen) if i in chosen else 0.0 for i in range(num)]


def uniform(scores: Sequence[float], oracle: Oracle, descent: Descent) -> Coefficients:
    """Return the coefficients of the mean of all candidates."""
    return average(range(len(scores)), len(scores))


def best(scores: Sequence[float], oracle: Oracle, descent: Descent) -> Coefficients:
    """Return the coefficients of the best candidate alone; ties go to the lower index."""
    return average([max(range(len(scores)), key=lambda i: scores[i])], len(scores))


def greedy(scores: Sequence[float], oracle: Oracle, descent: Descent) -> Coefficients:
    """Return the mean of those that help: from the best candidate down, each joins if the soup with
    it scores at least as well (Wortsman et al., 2022)."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])  # stable: ties by lower index
    chosen, highest = order[:1], scores[order[0]]
    for candidate in order[1:]:
        score = oracle.score(average([*chosen, candidate], len(scores)))
        if score >= highest:
            chosen, highest = [*chosen, candidate], score
    return average(chosen, len(scores))


def learned(scores: Sequence[float], oracle: Oracle, descent: Descent) -> Coefficients:
    """Return the coefficients of the lowest objective on a descent from the mean.

    Adam moves one number per candidate; their softmax are the coefficients (Wortsman et al., 2022).
    The mean itself is among those compared: the result is never worse.
    """
    import torch  # here, because a configuration is checked against the table below without it

    num = len(scores)
    lowest, chosen = math.inf, average(range(num), num)
    if num == 1:
        return chosen
    logits = torch.zeros(num, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=descent.learning_rate)
    for _ in range(descent.steps + 1):
        coefficients = logits.softmax(0)
        value, gradient = oracle.objective(coefficients.tolist())
        if value < lowest:
            lowest, chosen = value, coefficients.tolist()
        optimizer.zero_grad()
        coefficients.backward(torch.tensor(gradient, dtype=torch.float64))  # type: ignore[no-untyped-call]
        optimizer.step()
    return chosen


# In the order of the rows of reports.
RULES: dict[str, Rule] = {
    "uniform": Rule(uniform, needs_validation=False),
    "best": Rule(best),
    "greedy": Rule(greedy, needs_several=True, tries_soups=True),
    "learned": Rule(learned, needs_several=True, is_learned=True),
    "distilled": Rule(learned, needs_several=True, needs_teacher=True, is_learned=True),
}


def rule(name: str | Callable[..., Any]) -> Rule:
    """Return the rule of a name: one of the table, or `package.module:function`; or of a function.

    A function of one's own is called with the candidates' validation scores and with a function
    that returns the score of the soup with given coefficients; it returns the coefficients. Its
    attribute `needs_validation = False` says that it looks at neither.
    """
    if callable(name):
        return _own_rule(getattr(name, "__qualname__", str(name)), name)
    return lookup_open(RULES, name, "soup.rule", partial(_own_rule, name))


def _own_rule(name: str, given: Callable[..., Any]) -> Rule:
    made = guarded(given, name, "soup.rule")() if isinstance(given, type) else given
    function = guarded(made, name, "soup.rule")

    def choose(scores: Sequence[float], oracle: Oracle, descent: Descent) -> Coefficients:
        result = function(list(scores), oracle.score)
        coefficients = numbers(result) or []
        is_convex = min(coefficients, default=-1.0) >= 0 and abs(sum(coefficients) - 1) < 1e-6
        if len(coefficients) != len(scores) or not is_convex:
            raise ValueError(
                f"soup.rule={name} returned {shown(coefficients or result)} for "
                f"{len(scores)} candidates; return a coefficient for each, none of them negative, "
                "that add up to 1"
            )
        return coefficients

    return Rule(choose, needs_validation=getattr(given, "needs_validation", True), is_own=True)
