"""The instability alarm: candidates that diverged, and signs that they left their common basin."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

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

# In 259 phases of healthy runs (digits, plain and distorted; seven methods; mostly m=3) a loss was
# up to 1.40 times the median, but only where both were below 0.1: no gap was above 0.083, and of
# those above 0.05 none was more than 1.12 times. The deviation of three candidates says little, it
# was exceeded up to 94 times in health: here it can only acquit.
GAP = 0.1  # nats: losses near zero differ by factors without harm
DEVIATIONS = 3.0  # alone: where losses spread widely, the largest is one of many
_TO_DEVIATION = 1.4826  # standard deviation over median absolute deviation

# Of a segment's validation loss over that of its ends: a likelihood 2 % lower (the limit of Frankle
# et al., 2020, for errors), and a tenth of the candidates' own loss.
BARRIER, BARRIER_SHARE = 0.02, 0.1

LONGER = "retrain longer or with retrain.schedule=allr"
SMALLER = "prune less per phase with more pruning.phases"
SLOWER = "lower retrain.learning_rate"
CHOOSY = "set soup.rule=greedy"


def warnings(
    metric: str,
    soup: float,
    candidates: Sequence[float],
    distances: Mapping[str, float],
    earlier: Sequence[float],
    loss: float,
) -> list[str]:
    """Return a sentence for each sign: the measurement, what it means and what to try.

    Args:
        metric: the name of the metric that models are compared by
        soup: the metric of the soup
        candidates: the metric of each candidate that was merged; no sign for a single one
        distances: l2_mean and l2_relative of the candidates; loss_barrier_max, if it was measured
        earlier: l2_mean of each phase before
        loss: the mean of the candidates' own validation losses, 0 if there is none
    """
    if len(candidates) < 2:
        return []
    gains = soup >= sum(candidates) / len(candidates)
    signs = (
        _below_the_worst(metric, soup, min(candidates)),
        _jump(distances["l2_mean"], earlier, LEAP if gains else JUMP),
        _far(distances["l2_relative"]),
        _barrier(distances.get("loss_barrier_max", 0.0), loss),
    )
    return [sign for sign in signs if sign is not None]


def _below_the_worst(metric: str, reached: float, worst: float) -> str | None:
    if reached >= worst:
        return None
    return (
        f"the soup's {metric} of {reached:.4g} is below that of its worst candidate, "
        f"{worst:.4g}, so that averaging harms, as it does when candidates end in different "
        f"basins; {LONGER}, {SMALLER}, {SLOWER}, or {CHOOSY}"
    )


def _jump(distance: float, earlier: Sequence[float], limit: float) -> str | None:
    usual = max(earlier, default=0.0)
    if usual == 0 or distance <= limit * usual:
        return None
    return (
        f"the candidates' mean distance of {distance:.4g} is {distance / usual:.2f} times the "
        f"largest of earlier phases, {usual:.4g}, and such a jump comes with soups that fail; "
        f"{LONGER}, {SMALLER}, or {SLOWER}"
    )


def _far(relative: float) -> str | None:
    if relative < FAR:
        return None
    return (
        f"the candidates' mean distance is {relative:.2f} times the norm of their weights, so that "
        f"they have less in common than of their own; {LONGER}, {SMALLER}, or {SLOWER}"
    )


def _barrier(barrier: float, own: float) -> str | None:
    if barrier <= max(BARRIER, BARRIER_SHARE * own):
        return None
    return (
        f"between two candidates the validation loss rises by {barrier:.4g}, with {own:.4g} the "
        f"mean of their own, so that they lie in different basins; {LONGER}, {SMALLER}, {SLOWER}, "
        f"or {CHOOSY}"
    )


def outliers(losses: Mapping[int, float], times: float) -> dict[int, float]:
    """Return the candidates whose loss is above `times` the median and outside of the usual spread,
    with that median.

    `losses`, by candidate, are last training losses after equal training. Outliers are always a
    minority: none if most candidates are broken, and none of two.
    """
    if not losses:
        return {}
    median = statistics.median(losses.values())
    spread = _TO_DEVIATION * statistics.median(abs(loss - median) for loss in losses.values())
    limit = max(times * median, median + GAP, median + DEVIATIONS * spread)
    return {i: median for i, loss in losses.items() if loss > limit}
