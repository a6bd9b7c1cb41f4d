"""The instability alarm: signs that the candidates of a phase have left their common basin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]  # a phase of summary.json

# Mean distance of two candidates against earlier phases. WRN-20 on CIFAR-100, one shot: from 29.17
# to 30.13 (by 3 %) between sparsities of 90 and 98 %, where soups work; 32.95 (by 9 %) at 99 %,
# where they begin to fail; 39.41 (by 20 %) at 99.5 % (paper, table 18 and figure 4a).
JUMP = 1.06
# The same where the soup gains on its candidates. allr chooses a learning rate for each phase, and
# distances follow: on the digits they doubled without harm, and grew tenfold where soups failed.
LEAP = 3.0
# Candidates are a common part c plus parts of their own, of norm e and as good as orthogonal. Their
# distance is sqrt(2) e, their norm sqrt(c^2 + e^2): at a ratio of 1 both parts weigh the same.
FAR = 1.0
# Of a segment's validation loss over that of its ends: a likelihood 2 % lower (the limit of Frankle
# et al., 2020, for errors), and a tenth of the candidates' own loss.
BARRIER, BARRIER_SHARE = 0.02, 0.1

LONGER = "retrain longer or with retrain.schedule=allr"
SMALLER = "prune less per phase with more pruning.phases"
SLOWER = "lower retrain.learning_rate"
CHOOSY = "set soup.rule=greedy"


def warnings(phase: Document, earlier: Sequence[Document]) -> list[str]:
    """One sentence for each sign: what was seen, what it means and what to try.

    `earlier` are the phases before, whose distances are what is usual in this run.
    """
    finite = [found for found in phase["candidates"] if not found["diverged"]]
    if len(finite) < 2:
        return []
    score = phase["score"]
    split = "validation" if f"validation_{score}" in phase["soup"] else "test"
    reached = phase["soup"][f"{split}_{score}"]
    scores = [found[f"{split}_{score}"] for found in finite]
    gains = reached >= sum(scores) / len(scores)
    signs = (
        _below_the_worst(f"{split} {score}", reached, min(scores)),
        _jump(phase["distances"], earlier, LEAP if gains else JUMP),
        _far(phase["distances"]),
        _barrier(phase["distances"], finite),
    )
    return [f"phase {phase['phase']}: {sign}" for sign in signs if sign is not None]


def _below_the_worst(metric: str, reached: float, worst: float) -> str | None:
    if reached >= worst:
        return None
    return (
        f"the soup's {metric} of {reached:.4g} is below that of its worst candidate, "
        f"{worst:.4g}, so that averaging harms, as it does when candidates end in different "
        f"basins; {LONGER}, {SMALLER}, {SLOWER}, or {CHOOSY}"
    )


def _jump(distances: Document, earlier: Sequence[Document], limit: float) -> str | None:
    merged = [before["distances"] for before in earlier if "distances" in before]
    usual = max((before["l2_mean"] for before in merged), default=0.0)
    found = distances["l2_mean"]
    if usual == 0 or found <= limit * usual:
        return None
    return (
        f"the candidates' mean distance of {found:.4g} is {found / usual:.2f} times the largest of "
        f"earlier phases, {usual:.4g}, and such a jump comes with soups that fail; {LONGER}, "
        f"{SMALLER}, or {SLOWER}"
    )


def _far(distances: Document) -> str | None:
    relative = distances["l2_relative"]
    if relative < FAR:
        return None
    return (
        f"the candidates' mean distance is {relative:.2f} times the norm of their weights, so that "
        f"they have less in common than of their own; {LONGER}, {SMALLER}, or {SLOWER}"
    )


def _barrier(distances: Document, finite: Sequence[Document]) -> str | None:
    barrier = distances.get("loss_barrier_max", 0.0)
    own = sum(found.get("validation_loss", 0.0) for found in finite) / len(finite)
    if barrier <= max(BARRIER, BARRIER_SHARE * own):
        return None
    return (
        f"between two candidates the validation loss rises by {barrier:.4g}, with {own:.4g} the "
        f"mean of their own, so that they lie in different basins; {LONGER}, {SMALLER}, {SLOWER}, "
        f"or {CHOOSY}"
    )
