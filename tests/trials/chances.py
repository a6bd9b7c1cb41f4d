"""What a trial draws: moments, victims, restarts. The same seed draws the same."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from moments import END, START, Durations

ANYWHEN = "any moment"
NEVER = ("waiting", "done")  # waiting groups: hit by the way
MOST_SKIPPED = 2  # times that a stage is let pass before it is disturbed
MANY_RESTARTS = 1000
TARGETS = {"rank": ("rank",), "agent": ("agent",), "host": ("host",)}
TARGETS["any"] = ("rank", "rank", "agent", "host")  # ranks are half of them


@dataclass(frozen=True)
class Aim:
    """When to kill whom: in which stage, after how many of it, how far into it (0 to 1)."""

    target: str  # rank, agent or host
    stage: str
    skip: int
    fraction: float


@dataclass
class Chances:
    """Stages that were seldom hit are drawn more often."""

    random: random.Random
    durations: Durations  # of a run that is not disturbed
    targets: tuple[str, ...]
    hits: Counter[str] = field(default_factory=Counter)

    def aim(self) -> Aim:
        seen = [stage for stage in self.durations.seconds if stage not in NEVER]
        stages = sorted({START, ANYWHEN, END, *seen})
        weights = [1 / (1 + self.hits[stage]) ** 2 for stage in stages]
        (stage,) = self.random.choices(stages, weights)
        skip = 0 if stage in (START, ANYWHEN, END) else self.random.randint(0, MOST_SKIPPED)
        return Aim(self.random.choice(self.targets), stage, skip, self.random.random())

    def restarts(self) -> int:
        """How often torchrun may start the ranks again by itself: half of the time not at all."""
        return self.random.choice((0, MANY_RESTARTS))
