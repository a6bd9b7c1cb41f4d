"""Merging the candidates of a phase into its soup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sms_dist.base.lookup import is_own_name
from sms_dist.mesh.collectives import agree
from sms_dist.run.schema import PairMetrics
from sms_dist.soups.diversity import distances
from sms_dist.soups.packing import Packing
from sms_dist.soups.rules import Descent, rule
from sms_dist.training.context import Context, State
from sms_dist.training.diagnostics import loss_barrier, pair_soups
from sms_dist.training.mixer import Mixer
from sms_dist.training.oracle import SoupOracle, View


@dataclass(frozen=True)
class Soup:
    """The merged weights (batch norm still to be recomputed) and how they came about."""

    state: State
    coefficients: dict[int, float]  # of each candidate
    distances: dict[str, float]
    pairs: list[PairMetrics]  # of soup.pairs: the soups of two candidates


def as_mixed(state: State) -> State:
    """The view of methods whose mixtures are models as they are."""
    return state


def merge(
    context: Context,
    rule_name: str,
    scores: Mapping[int, float],
    own: Mapping[int, State],
    owners: Mapping[int, int],
    packing: Packing,
    *,
    view: View = as_mixed,
    teacher: State | None = None,
    test_scores: Mapping[int, float] | None = None,
) -> Soup:
    """The soup of the candidates in `scores` (comparable, by index). All ranks must call.

    `own` are the states of those that my group holds, `owners` the group of each, in index order.
    `packing` says what travels. `view` makes a model of a mixture before it is measured: it keeps a
    weight or makes it zero, in a new state; the soup itself is returned unviewed.
    `teacher` is the dense model, `test_scores` those of the candidates: for rules and
    diagnostics that need them.
    """
    chosen, config, num = rule(rule_name), context.config.soup, len(scores)
    assert list(scores) == list(owners), (scores, owners)
    assert teacher is not None or not chosen.needs_teacher, rule_name
    mixer = Mixer(context.mesh, packing, own, owners)
    needs_teacher = chosen.needs_teacher and num > 1
    oracle = SoupOracle(context, mixer, view, teacher if needs_teacher else None)
    coefficients = chosen.choose(
        list(scores.values()), oracle, Descent(config.steps, config.learning_rate)
    )
    if is_own_name(rule_name):  # nobody knows what it goes by
        agree({"soup coefficients": str(coefficients)}, context.mesh.world, context.mesh.device)
    found = distances(mixer.gram())
    pairs: list[PairMetrics] = []
    if config.loss_barrier and num > 1:
        found["loss_barrier_max"] = loss_barrier(oracle, num)
    if config.pairs and num > 1:
        assert test_scores is not None
        pairs = pair_soups(oracle, list(scores), test_scores)
    by_index = dict(zip(scores, coefficients, strict=True))
    return Soup(mixer.mixed(coefficients), by_index, found, pairs)
