"""A configuration on so many ranks, thought through before anything is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sms_dist import data
from sms_dist.config import Config
from sms_dist.data.dataset import DatasetInfo
from sms_dist.experiment.checks import check
from sms_dist.experiment.sizes import sizes, survivors
from sms_dist.mesh.division import deal, groups_of
from sms_dist.methods.plan import Plan, check_pretrain_ranks, make_plan


@dataclass(frozen=True)
class Planned:
    config: Config
    info: DatasetInfo
    num_ranks: int
    plan: Plan

    @property
    def totals(self) -> dict[str, int]:
        """Epochs and optimizer steps, of all candidates and of the group that is busy longest."""
        phases = self.plan.phases
        epochs = 0 if self.config.pretrain.from_ else self.plan.dense_epochs
        candidates = [c for item in phases for c in item.phase.candidates]
        return {
            "pretrain_epochs": epochs,
            "pretrain_steps": epochs * self.plan.sizes.steps_per_epoch,
            "retrain_epochs": sum(candidate.retrain.epochs for candidate in candidates),
            "retrain_steps": sum(sum(item.steps) for item in phases),
            "retrain_steps_in_a_row": sum(self._longest(item.steps) for item in phases),
        }

    def as_json(self) -> dict[str, Any]:
        config = self.config
        facts = {
            "name": config.name,
            "method": config.method.name,
            "data": config.data.name,
            "model": config.model.name,
            "num_ranks": self.num_ranks,
        }
        return facts | self.plan.as_json() | {"totals": self.totals}

    def _longest(self, steps: tuple[int, ...]) -> int:
        groups = self.plan.num_groups
        return max(sum(deal(steps, groups, group)) for group in range(groups))


def planned(config: Config, num_ranks: int | None = None) -> Planned:
    """The plan on that many ranks (None: one group); ValueError for people's mistakes.

    The data need not be there; where they are, the index beside them has the counts.
    """
    return planner(config)(num_ranks)


def planner(config: Config) -> Callable[[int | None], Planned]:
    """The same for several numbers of ranks."""
    recipe, info = check(config), data.info(config.data)
    size, count = sizes(config, info), survivors(config, info)

    def plan(num_ranks: int | None) -> Planned:
        ranks = config.engine.ranks_per_candidate if num_ranks is None else num_ranks
        groups = groups_of(ranks, config.engine.ranks_per_candidate)
        check_pretrain_ranks(config.pretrain.ranks, ranks)
        return Planned(config, info, ranks, make_plan(recipe, groups, size, count))

    return plan
