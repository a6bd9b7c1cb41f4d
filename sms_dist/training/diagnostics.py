"""How soups of two candidates fare: on the segments between candidates, and half way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from sms_dist.run.schema import PairMetrics
from sms_dist.soups.rules import average
from sms_dist.training.oracle import SoupOracle

SEGMENT_POINTS = (0.25, 0.5, 0.75)


def loss_barrier(oracle: SoupOracle, num: int) -> float:
    """The largest excess of the validation loss on a segment between two candidates over the line
    between their own losses; at least 0. Every rank must call."""
    ends = [oracle.loss(average([i], num)) for i in range(num)]
    excess = 0.0
    for i, j in combinations(range(num), 2):
        for t in SEGMENT_POINTS:
            point = [0.0] * num
            point[i], point[j] = 1 - t, t
            excess = max(excess, oracle.loss(point) - (1 - t) * ends[i] - t * ends[j])
    return excess


def pair_soups(
    oracle: SoupOracle, indices: Sequence[int], test_scores: Mapping[int, float]
) -> list[PairMetrics]:
    """Of every two candidates: their mean's metrics, and the better one's test score.

    `indices` name the oracle's candidates, in its order. Every rank must call.
    """
    found = []
    for i, j in combinations(range(len(indices)), 2):
        pair = (indices[i], indices[j])
        metrics = oracle.metrics(average([i, j], len(indices)))
        better = max(test_scores[index] for index in pair)
        found.append(PairMetrics(candidates=pair, metrics=dict(metrics), better_candidate=better))
    return found
