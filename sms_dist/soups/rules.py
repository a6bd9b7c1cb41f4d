"""Soup rules: which coefficient each candidate gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sms_dist.config import lookup

Coefficients = list[float]
Oracle = Callable[[Coefficients], float]  # the validation score of a soup; larger is better
Rule = Callable[[Sequence[float], Oracle], Coefficients]


def average(members: Sequence[int], num: int) -> Coefficients:
    """Equal coefficients for the given candidates, zero for the others."""
    return [1 / len(members) if i in members else 0.0 for i in range(num)]


def uniform(scores: Sequence[float], oracle: Oracle) -> Coefficients:
    """The mean of all candidates."""
    return average(range(len(scores)), len(scores))


def greedy(scores: Sequence[float], oracle: Oracle) -> Coefficients:
    """From the best candidate down, each joins if the soup with it scores at least as well."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])  # stable: ties by lower index
    chosen, best = order[:1], scores[order[0]]
    for candidate in order[1:]:
        score = oracle(average([*chosen, candidate], len(scores)))
        if score >= best:
            chosen, best = [*chosen, candidate], score
    return average(chosen, len(scores))


RULES: dict[str, Rule] = {"uniform": uniform, "greedy": greedy}


def rule(name: str) -> Rule:
    return lookup(RULES, name, "soup.rule")
