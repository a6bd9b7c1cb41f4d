"""Which of several training losses lies alone, far above the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

# In 259 phases of healthy runs (digits, plain and distorted; seven methods; mostly m=3) a loss was
# up to 1.40 times the median, but only where both were below 0.1: no gap was above 0.083, and of
# those above 0.05 none was more than 1.12 times. The deviation of three candidates says little, it
# was exceeded up to 94 times in health: here it can only acquit.
GAP = 0.1  # nats: losses near zero differ by factors without harm
DEVIATIONS = 3.0  # alone: where losses spread widely, the largest is one of many
NORMAL = 1.4826  # standard deviation over median absolute deviation


def far(losses: Mapping[int, float], times: float) -> dict[int, float]:
    """Those above `times` the median and outside of the usual spread, with that median.

    The losses, by candidate, are of equal training. Always a minority: none where most are broken,
    and none of two, where nobody can say which is the odd one.
    """
    if not losses:
        return {}
    median = statistics.median(losses.values())
    spread = NORMAL * statistics.median(abs(loss - median) for loss in losses.values())
    limit = max(times * median, median + GAP, median + DEVIATIONS * spread)
    return {i: median for i, loss in losses.items() if loss > limit}
