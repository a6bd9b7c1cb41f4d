"""Forecasts of a configuration for several numbers of ranks, and the sensible number of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sms_dist.cli.forecast.forecast import Forecast, forecast
from sms_dist.cli.forecast.rates import OPTION, Rates, check_rates, load_rates
from sms_dist.cli.forecast.work import work_of
from sms_dist.cli.layout import layout
from sms_dist.cli.planned import Planned, planner
from sms_dist.cli.recorded_run import rates_of_run
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.config import Config

WORTH = 0.5  # efficiency below which more ranks are mostly wasted


@dataclass(frozen=True)
class Forecasts:
    rows: tuple[tuple[Planned, Forecast], ...]
    left_out: tuple[int, ...]  # numbers of ranks that do not fill groups
    base: Forecast  # on one group
    sensible: Forecast
    rates: Rates
    notes: tuple[str, ...]

    def efficiency(self, found: Forecast) -> float:
        """Of the ranks' time, the part that one group would need for the whole run."""
        return self.base.rank_hours / found.rank_hours if found.rank_hours else 1.0

    def as_json(self) -> dict[str, Any]:
        return {
            "forecasts": [
                found.as_json() | {"efficiency": self.efficiency(found), "remark": remark(planned)}
                for planned, found in self.rows
            ],
            "sensible_ranks": self.sensible.num_ranks,
            "device": self.rates.device,
            "notes": list(self.notes),
        }


def forecasts(
    config: Config, ranks: Sequence[int], file: Path, cluster: ClusterConfig | None
) -> Forecasts:
    """Rows for these numbers of ranks (none: those of the cluster, or one group).

    `file`: rates, or the folder of a run that tells them.
    """
    rates, told = rates_of_run(file, cluster) if file.is_dir() else (load_rates(file), ())
    check_rates(rates, config, f"{OPTION} {file}")
    plan, group = planner(config), config.engine.ranks_per_candidate

    def on(num_ranks: int) -> tuple[Planned, Forecast]:
        planned = plan(num_ranks)
        at = layout(cluster, rates, num_ranks, group)
        return planned, forecast(work_of(config, planned.info, planned.plan), rates, at)

    wanted = ranks or ((cluster.num_ranks,) if cluster else (group,))
    fitting = [num for num in wanted if num % group == 0]
    rows = [on(num) for num in fitting or wanted]  # if none fits, the plan says why
    even = [on(groups * group)[1] for groups in _even(plan(None))]
    left_out = tuple(num for num in wanted if num % group)
    found = Forecasts(tuple(rows), left_out, even[0], even[0], rates, ())
    enough = [each for each in even if found.efficiency(each) >= WORTH]
    sensible = min(enough, key=lambda each: (each.seconds, each.num_ranks))
    notes = _notes(rates, [planned for planned, _ in rows], cluster)
    return Forecasts(found.rows, left_out, even[0], sensible, rates, (*told, *notes))


def remark(planned: Planned) -> str:
    """Where groups have nothing to do, in the last wave or in all of them."""
    groups, phases = planned.plan.num_groups, planned.plan.phases
    if not phases:
        return ""
    most = max(len(item.phase.candidates) for item in phases)
    if most < groups:
        idle = groups - most
        return f"idle: {idle:,} group{'s' if idle > 1 else ''}"
    short = [len(item.waves[-1]) for item in phases if len(item.waves[-1]) < groups]
    return f"last wave: {min(short):,} of {groups:,}" if short else ""


def _even(planned: Planned) -> list[int]:
    """Numbers of groups that do with fewest for their number of waves, one group first."""
    most = max((len(item.phase.candidates) for item in planned.plan.phases), default=1)
    least = -(-(planned.config.pretrain.ranks or 1) // planned.config.engine.ranks_per_candidate)
    numbers = {-(-most // waves) for waves in range(1, most + 1)}
    return sorted({max(number, least) for number in numbers})


def _notes(
    rates: Rates, plans: Sequence[Planned], cluster: ClusterConfig | None
) -> tuple[str, ...]:
    """What the forecast had to make do with."""
    per_host = cluster.ranks_per_node if cluster else max(each.num_ranks for each in plans)
    used = {min(each.num_ranks, per_host) for each in plans}
    missing = sorted(num for num in used if not rates.measured_at(num))
    if not missing:
        return ()
    numbers = ", ".join(map(str, missing))
    return (
        f"not measured with {numbers} processes on a host: rates of "
        f"{', '.join(str(rates.at(num).processes) for num in missing)} are taken; "
        f"sms-dist measure --nproc {','.join(map(str, missing))}",
    )
