"""How long a run takes on a number of ranks, and the memory and traffic it needs.

The formulas are those of docs/forecast.md; the rates that they start from come from rates.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from sms_dist import data
from sms_dist.cli.amounts import DAY, HOUR, MINUTE, bytes_text
from sms_dist.cli.plan import Planned, planner, table
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.config import Config
from sms_dist.config.section import AtLeast0, Count, Natural, Section
from sms_dist.mesh.division import NUM_PARTS, deal
from sms_dist.methods.plan import PhasePlan, pretrain_ranks, travelling
from sms_dist.soups.rules import rule

FLOAT = 4  # bytes
GBIT = 1e9 / 8  # bytes
MICROSECOND = 1e-6
FORWARD = 1 / 3  # of the time of a training step, which also goes backward
COPIES = (
    4  # of the weights: the dense model, the last soup, the phase's start, the training's start
)
OPTIMIZER = {"sgd": 1, "adamw": 2}  # values per parameter
WORTH = 0.5  # efficiency below which more ranks are mostly wasted


class Rates(Section):
    """Seconds and bytes of each rank; all but `sample_seconds` may be left out."""

    sample_seconds: AtLeast0
    """of each sample that a rank trains on"""
    candidate_seconds: AtLeast0 = 0.0
    """of each training, besides its samples: making an engine, files"""
    phase_seconds: AtLeast0 = 0.0
    """of each phase, besides its candidates: pruning, averaging, files"""
    start_seconds: AtLeast0 = 0.0
    """of a run, before and after its work"""
    process_bytes: Natural = 0
    """memory of a rank besides weights, gradients and optimizer: libraries, data, activations"""
    processes: Count | None = None
    """ranks that worked on the host when it was measured"""
    device: str = "unknown"
    """cpu, or the GPU's name"""
    configuration: dict[str, Any] = Field(default_factory=dict)
    """the keys that decide the rates, as they were when it was measured"""


@dataclass(frozen=True)
class Traffic:
    """Bytes that all ranks together send."""

    gradients: int  # inside groups, in every step
    soup: int  # between groups, and of its result inside groups


@dataclass(frozen=True)
class PhaseForecast:
    phase: int  # 0: pretraining
    seconds: float
    training: float  # the part in which the busiest group trains and evaluates its candidates
    traffic: Traffic


@dataclass(frozen=True)
class Forecast:
    num_ranks: int
    num_hosts: int
    num_groups: int
    seconds: float
    start_seconds: float  # the part before and after the work
    memory_bytes: float  # of a rank, at its peak
    phases: tuple[PhaseForecast, ...]
    num_waves: int  # of the phase that has most
    rank_hours: float
    remark: str  # which groups have nothing to do
    efficiency: float = 1.0  # rank hours of one group, as a fraction of these


class Estimate:
    """The forecast of one planned run; `cluster` None: all of its ranks are on one host."""

    def __init__(self, planned: Planned, cluster: ClusterConfig | None) -> None:
        self.config, self.plan = planned.config, planned.plan
        self.num_ranks, self.has_batch_norm = planned.num_ranks, planned.has_batch_norm
        self.group = self.config.engine.ranks_per_candidate
        self.per_host = min(cluster.ranks_per_node if cluster else self.num_ranks, self.num_ranks)
        self.cluster = cluster or ClusterConfig()
        self.train, self.validation = data.split_sizes(planned.info, self.config.data)
        self.test = planned.info.num_test
        self.num_parameters = self.plan.sizes.num_prunable + self.plan.sizes.num_other

    def samples(self, steps: int, ranks: int) -> float:
        """Return what each rank of a training computes, in trained samples.

        Evaluating the result and recomputing its batch norm are forward passes.
        """
        batch = self.train / self.plan.sizes.steps_per_epoch
        return steps * batch / ranks + self._measured(ranks)

    def sending(self, steps: int, ranks: int, item: PhasePlan | None) -> float:
        """Return the seconds that the gradients of a training take; `item` None: pretraining."""
        if ranks == 1:
            return 0.0
        # A ring: twice around, in pieces of 1 / ranks.
        is_inside = self.num_ranks <= self.per_host or self.per_host % ranks == 0
        message = self._moving(self._gradient_bytes(item) / ranks, is_inside)
        return steps * (1 - self.cluster.overlap) * 2 * (ranks - 1) * message

    def training(self, rates: Rates, steps: int, ranks: int, item: PhasePlan | None) -> float:
        """Return the seconds of a training of that many steps, its evaluation included."""
        computing = rates.sample_seconds * self.samples(steps, ranks)
        return computing + self.sending(steps, ranks, item) + rates.candidate_seconds

    def phase(self, rates: Rates, item: PhasePlan) -> PhaseForecast:
        """Return the forecast of a phase: the busiest group trains, then all make the soup."""
        num_groups, num = self.plan.num_groups, len(item.phase.candidates)
        seconds = [self.training(rates, steps, self.group, item) for steps in item.steps]
        busiest = max(sum(deal(seconds, num_groups, group)) for group in range(num_groups))
        chosen = rule(item.phase.rule)
        passes = 1  # over the samples: for the soup, and for those that its rule tries
        if chosen.is_learned:
            passes += self.config.soup.steps + 1
        elif chosen.tries_soups:
            passes += num - 1
        soup = rates.sample_seconds * passes * self._measured(self.num_ranks)
        values = travelling(item.phase, item.surviving, self.plan.sizes)
        if num_groups > 1:
            sent = (len(item.waves) + 1) * FLOAT * values / self.group
            away, is_inside = (num_groups - 1) / num_groups, self.num_ranks <= self.per_host
            soup += self._moving(sent * away, is_inside, sharing=self.per_host)
        inside = num_groups * (self.group - 1) * FLOAT * values
        traffic = Traffic(
            sum(item.steps) * 2 * (self.group - 1) * self._gradient_bytes(item),
            item.soup_bytes + inside,
        )
        total = busiest + soup + rates.phase_seconds
        return PhaseForecast(item.phase.index, total, busiest, traffic)

    def pretraining(self, rates: Rates) -> PhaseForecast:
        ranks, sizes = self._pretrain_ranks(), self.plan.sizes
        if self.config.pretrain.from_ is not None:
            return PhaseForecast(0, 0.0, 0.0, Traffic(0, 0))
        steps = self.plan.dense_epochs * sizes.steps_per_epoch
        gradients = steps * 2 * (ranks - 1) * self._gradient_bytes(None)
        seconds = self.training(rates, steps, ranks, None)
        sent = (self.num_ranks - 1) * FLOAT * self.num_parameters
        return PhaseForecast(0, seconds, seconds, Traffic(gradients, sent))

    def memory(self) -> float:
        """Return the bytes of weights, masks, gradients and optimizer of a rank at its peak."""
        engine, waves = self.config.engine, max((len(i.waves) for i in self.plan.phases), default=1)
        values = [OPTIMIZER.get(self.config.pretrain.optimizer, 2), 1, 1]  # gradients, weights
        shared = engine.zero_stage if engine.name == "deepspeed" else 0  # ZeRO, in this order
        trained = sum(values[:shared]) / self.group + sum(values[shared:])
        copies = COPIES + waves - 1 + trained
        return FLOAT * self.num_parameters * copies + 2 * self.plan.sizes.num_prunable

    def forecast(self, rates: Rates) -> Forecast:
        phases = (self.pretraining(rates), *(self.phase(rates, i) for i in self.plan.phases))
        seconds = rates.start_seconds + sum(phase.seconds for phase in phases)
        return Forecast(
            num_ranks=self.num_ranks,
            num_hosts=-(-self.num_ranks // self.per_host),
            num_groups=self.plan.num_groups,
            seconds=seconds,
            start_seconds=rates.start_seconds,
            memory_bytes=rates.process_bytes + self.memory(),
            phases=phases,
            num_waves=max((len(item.waves) for item in self.plan.phases), default=0),
            rank_hours=self.num_ranks * seconds / HOUR,
            remark=self._remark(),
        )

    def _remark(self) -> str:
        """Return which groups have nothing to do, in the last wave or in all of them."""
        groups, phases = self.plan.num_groups, self.plan.phases
        most = max((len(item.phase.candidates) for item in phases), default=groups)
        if most < groups:
            idle = groups - most
            return f"idle: {idle:,} group{'s' if idle > 1 else ''}"
        short = [len(item.waves[-1]) for item in phases if len(item.waves[-1]) < groups]
        return f"last wave: {min(short):,} of {groups:,}" if short else ""

    def _measured(self, ranks: int) -> float:
        """Return what each rank computes when they measure a model, in trained samples."""
        samples = self.validation + self.test + self.train * self.has_batch_norm
        return FORWARD * samples / min(ranks, NUM_PARTS)

    def _gradient_bytes(self, item: PhasePlan | None) -> int:
        engine, values = self.config.engine, self.num_parameters
        if item is not None and engine.gradients == "surviving" and item.phase.has_fixed_mask:
            values = item.surviving + self.plan.sizes.num_other
        is_half = engine.name == "deepspeed" and engine.precision != "fp32"
        return values * FLOAT // (2 if is_half else 1)

    def _pretrain_ranks(self) -> int:
        smallest = self.train // self.plan.sizes.steps_per_epoch
        accumulation = self.config.engine.accumulation
        return self.config.pretrain.ranks or pretrain_ranks(self.num_ranks, smallest, accumulation)

    def _moving(self, num_bytes: float, is_inside: bool, sharing: int = 1) -> float:
        """Return the seconds of a message inside a host, or over a network that ranks share."""
        gbit, latency = self.cluster.network_gbit / sharing, self.cluster.network_microseconds
        if is_inside:
            gbit, latency = self.cluster.within_gbit, self.cluster.within_microseconds
        return num_bytes / (GBIT * gbit) + MICROSECOND * latency


@dataclass(frozen=True)
class Forecasts:
    """A forecast for each number of ranks."""

    forecasts: tuple[Forecast, ...]
    sensible: Forecast  # the fastest without idle groups that is worth its ranks
    device: str
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "forecasts": [asdict(each) for each in self.forecasts],
            "sensible_ranks": self.sensible.num_ranks,
            "device": self.device,
            "notes": list(self.notes),
        }


def forecasts(
    config: Config,
    ranks: Sequence[int],
    rates: Rates,
    cluster: ClusterConfig | None,
    notes: Sequence[str] = (),
) -> tuple[Planned, Forecasts]:
    """Return forecasts for these numbers of ranks, and the plan for the first of them.

    None given: the ranks of the cluster, or one group.
    """
    plan, group = planner(config), config.engine.ranks_per_candidate

    def on(num_ranks: int, base: Forecast | None = None) -> Forecast:
        forecast = Estimate(plan(num_ranks), cluster).forecast(rates)
        if base is None or forecast.rank_hours == 0:
            return forecast
        return replace(forecast, efficiency=base.rank_hours / forecast.rank_hours)

    wanted = tuple(ranks) or ((cluster.num_ranks,) if cluster else (group,))
    first = plan(wanted[0])
    most = max((len(item.phase.candidates) for item in first.plan.phases), default=1)
    fewest = -(-(config.pretrain.ranks or 1) // group)
    # The fewest groups for each number of waves.
    even = sorted({max(fewest, -(-most // waves)) for waves in range(1, most + 1)})
    base = on(even[0] * group)
    candidates = [on(groups * group, base) for groups in even]
    worth = [each for each in candidates if each.efficiency >= WORTH]
    per_host = {min(num, cluster.ranks_per_node) if cluster else num for num in wanted}
    other = sorted(per_host - {rates.processes}) if rates.processes else []
    if other:
        notes = (
            *notes,
            f"rates were measured with {rates.processes} processes on a host, not "
            f"{', '.join(map(str, other))}; sms-dist measure --nproc {other[-1]}",
        )
    return first, Forecasts(
        forecasts=tuple(on(num, base) for num in wanted),
        sensible=min(worth, key=lambda each: (each.seconds, each.num_ranks)),
        device=rates.device,
        notes=tuple(notes),
    )


def show(forecasts: Forecasts, console: Console) -> None:
    """Print the forecast: phase by phase for one number of ranks, else a row for each."""
    hours = "rank hours" if forecasts.device == "cpu" else "GPU hours"
    first, lines = forecasts.forecasts[0], []
    if len(forecasts.forecasts) == 1:
        console.print(_phases(first))
        lines.append(
            f"forecast     {duration(first.seconds)} on {_ranks(first)}, "
            f"{duration(first.start_seconds)} of it to start; {first.rank_hours:,.2f} {hours}; "
            f"{bytes_text(first.memory_bytes)} a rank"
            + (f"; {first.remark}" if first.remark else "")
        )
    else:
        console.print(_rows(forecasts.forecasts, hours))
    best = forecasts.sensible
    efficiency = f"efficiency {best.efficiency:.0%}"
    lines.append(f"sensible     {_ranks(best)}: {duration(best.seconds)}, {efficiency}")
    for line in [*lines, *(f"note         {note}" for note in forecasts.notes)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return 3.2 s, 12.5 min, 3.4 h or 2.1 d: a forecast is not known to more digits."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 99.95 * MINUTE:
        return f"{seconds / MINUTE:.1f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 99.95 * HOUR else f"{seconds / DAY:.1f} d"


def _phases(forecast: Forecast) -> Table:
    rows = table("phase", "time", "training", "gradients", "soup")
    for item in forecast.phases:
        moved = (bytes_text(item.traffic.gradients), bytes_text(item.traffic.soup))
        name = str(item.phase) if item.phase else "dense"
        rows.add_row(name, duration(item.seconds), duration(item.training), *moved)
    return rows


def _rows(forecasts: Sequence[Forecast], hours: str) -> Table:
    rows = table("ranks", "hosts", "waves", "time", hours, "efficient", "memory", "", padding=0)
    for each in forecasts:
        rows.add_row(
            f"{each.num_ranks:,}",
            f"{each.num_hosts:,}",
            f"{each.num_waves:,}",
            duration(each.seconds),
            f"{each.rank_hours:,.2f}",
            f"{each.efficiency:.0%}",
            bytes_text(each.memory_bytes),
            each.remark,
        )
    rows.columns[-1].justify = "left"
    return rows


def _ranks(forecast: Forecast) -> str:
    return f"{forecast.num_ranks:,} rank{'s' if forecast.num_ranks > 1 else ''}"
