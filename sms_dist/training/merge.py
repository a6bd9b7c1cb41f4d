"""Merging the candidates of a phase into its soup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from sms_dist.distributed.candidate_shards import CandidateShards
from sms_dist.pruning.mask import Mask
from sms_dist.soups.diversity import distances
from sms_dist.soups.packing import pack, unpack
from sms_dist.soups.rules import Coefficients, Oracle, rule
from sms_dist.training.evaluation import validated, with_batch_norm
from sms_dist.training.workbench import State, Workbench

SEGMENT_POINTS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Soup:
    """The merged weights (batch norm still to be recomputed) and how they came about."""

    state: State
    coefficients: dict[int, float]  # of each candidate
    distances: dict[str, float]


def merge(
    bench: Workbench,
    rule_name: str,
    scores: Mapping[int, float],
    own: Mapping[int, State],
    owners: Mapping[int, int],
    mask: Mask,
) -> Soup:
    """The soup of the candidates in `scores` (validation accuracy by index). All ranks must call.

    `own` are the states of those that my group holds, `owners` the group of each, in index order.
    """
    template = bench.new_model()
    names = [name for name, _ in template.named_parameters()]
    like: State = template.state_dict()
    packed = {i: pack(state, names, mask) for i, state in own.items() if i in owners}
    num_values = sum(int(mask[n].sum()) if n in mask else like[n].numel() for n in names)
    shards = CandidateShards(packed, owners, num_values, bench.at)

    def mixed(coefficients: Sequence[float]) -> dict[str, Tensor]:
        return unpack(shards.mix(coefficients), like, names, mask)

    def score(coefficients: Coefficients) -> float:
        return _validated(bench, mixed(coefficients))["validation_accuracy"]

    coefficients = rule(rule_name)(list(scores.values()), score)
    found = distances(shards.gram())
    if bench.config.soup.loss_barrier and len(scores) > 1:

        def loss(coefficients: Coefficients) -> float:
            return _validated(bench, mixed(coefficients))["validation_loss"]

        found["loss_barrier_max"] = _loss_barrier(len(scores), loss)
    return Soup(mixed(coefficients), dict(zip(scores, coefficients, strict=True)), found)


def _validated(bench: Workbench, weights: State) -> dict[str, float]:
    model = with_batch_norm(bench, weights, bench.at.world)
    return validated(bench, model, bench.at.world)


def _loss_barrier(num: int, loss: Oracle) -> float:
    """The largest excess of the validation loss on a segment between two candidates over the line
    between their own losses."""
    ends = [loss([float(i == j) for i in range(num)]) for j in range(num)]
    excess = 0.0
    for i, j in combinations(range(num), 2):
        for t in SEGMENT_POINTS:
            point = [0.0] * num
            point[i], point[j] = 1 - t, t
            excess = max(excess, loss(point) - (1 - t) * ends[i] - t * ends[j])
    return excess
