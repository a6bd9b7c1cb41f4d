"""The instability alarm: signs that the candidates of a phase have left their common basin."""

from __future__ import annotations

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
    """Return a sentence for each sign: what was seen, what it means and what to try.

    Args:
        metric: what models are compared by, in words
        soup: of the soup
        candidates: of those that were merged; of a single one nothing is said
        distances: l2_mean and l2_relative of the candidates; loss_barrier_max, if it was measured
        earlier: l2_mean of the phases before, which is what is usual in this run
        loss: the mean of the candidates' own validation losses, 0 where there is none
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


def _jump(found: float, earlier: Sequence[float], limit: float) -> str | None:
    usual = max(earlier, default=0.0)
    if usual == 0 or found <= limit * usual:
        return None
    return (
        f"the candidates' mean distance of {found:.4g} is {found / usual:.2f} times the largest of "
        f"earlier phases, {usual:.4g}, and such a jump comes with soups that fail; {LONGER}, "
        f"{SMALLER}, or {SLOWER}"
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
