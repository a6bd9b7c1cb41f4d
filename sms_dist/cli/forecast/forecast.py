"""The forecast of a run: seconds, memory and bytes of every phase, as plain data.

docs/forecast.md has the formulas in words.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sms_dist.cli.forecast.links import Layout, Link, all_reduce_seconds
from sms_dist.cli.forecast.memory import peak_bytes
from sms_dist.cli.forecast.rates import HostRates, Rates
from sms_dist.cli.forecast.traffic import (
    Traffic,
    measuring_bytes,
    phase_traffic,
    pretraining_traffic,
)
from sms_dist.cli.forecast.work import FLOAT, Work
from sms_dist.methods.plan import PhasePlan, travelling

MEETING_SECONDS = 0.25  # until a group that waits for another one sees that it has come
STORE_SECONDS = 0.001  # of a start, for each rank: its requests to the store at which ranks meet
OBJECTIVE = 3  # times what evaluating takes: forward and backward


@dataclass(frozen=True)
class PhaseForecast:
    phase: int  # 0: pretraining
    seconds: float
    training: float  # of which steps of the busiest group,
    measuring: float  # and batch norm and evaluation
    traffic: Traffic


@dataclass(frozen=True)
class Forecast:
    num_ranks: int
    num_hosts: int
    num_groups: int
    seconds: float
    start_seconds: float  # of which before and after the work
    memory_bytes: float  # of a rank, at its peak
    phases: tuple[PhaseForecast, ...]

    @property
    def rank_hours(self) -> float:
        return self.num_ranks * self.seconds / 3600

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"rank_hours": self.rank_hours}


def forecast(work: Work, rates: Rates, layout: Layout) -> Forecast:
    """`work.plan` must be that for the layout's groups."""
    assert work.plan.num_groups == layout.num_groups, (work.plan.num_groups, layout)
    host = rates.at(layout.at_work(layout.num_ranks))
    phases = [_pretraining(work, rates, layout)]
    phases += [_phase(work, rates, layout, item) for item in work.plan.phases]
    start = host.start_seconds + STORE_SECONDS * layout.num_ranks
    return Forecast(
        num_ranks=layout.num_ranks,
        num_hosts=layout.num_hosts,
        num_groups=layout.num_groups,
        seconds=start + sum(phase.seconds for phase in phases),
        start_seconds=start,
        memory_bytes=peak_bytes(work, host, layout),
        phases=tuple(phases),
    )


def step_seconds(
    work: Work,
    rates: Rates,
    layout: Layout,
    num_ranks: int,
    at_work: int,
    item: PhasePlan | None = None,
) -> float:
    """Of a step that so many ranks share, while so many processes work on the host.

    `item` is its phase, None in pretraining.
    """
    host = rates.at(at_work)
    computing = host.step_seconds + work.share(num_ranks) * host.sample_seconds
    sending = all_reduce_seconds(work.gradient_bytes(item), num_ranks, layout.in_row(num_ranks))
    return computing + max(0.0, sending - layout.overlap * computing)


def measure_seconds(
    work: Work, rates: Rates, host: HostRates, layout: Layout, num_ranks: int
) -> float:
    """Of recomputing batch norm and evaluating, by so many consecutive ranks."""
    return _batch_norm(work, rates, host, layout, num_ranks) + sum(
        work.measured_samples(num, num_ranks) * host.evaluation_seconds
        for num in (work.samples.test, work.samples.validation)
    )


def _batch_norm(work: Work, rates: Rates, host: HostRates, layout: Layout, num_ranks: int) -> float:
    if not rates.batch_norm_values:
        return 0.0
    sending = all_reduce_seconds(measuring_bytes(rates), num_ranks, layout.in_row(num_ranks))
    return work.measured_samples(work.samples.train, num_ranks) * host.batch_norm_seconds + sending


def _pretraining(work: Work, rates: Rates, layout: Layout) -> PhaseForecast:
    everyone = layout.num_ranks
    ranks = work.pretrain_ranks(everyone)
    at_work = layout.at_work(ranks)
    training = work.pretrain_steps * step_seconds(work, rates, layout, ranks, at_work)
    host = rates.at(layout.at_work(everyone))
    measuring = measure_seconds(work, rates, host, layout, everyone)
    told = 0.0 if everyone == 1 else _moved(FLOAT * work.num_parameters, layout.in_row(everyone))
    seconds = training + measuring + host.dense_seconds + told
    return PhaseForecast(0, seconds, training, measuring, pretraining_traffic(work, rates, layout))


@dataclass
class _Group:
    """Seconds for its candidates of a phase."""

    training: float = 0.0
    measuring: float = 0.0
    others: float = 0.0

    @property
    def busy(self) -> float:
        return self.training + self.measuring + self.others


def _phase(work: Work, rates: Rates, layout: Layout, item: PhasePlan) -> PhaseForecast:
    host = rates.at(layout.at_work(layout.num_ranks))
    groups = _groups(work, rates, layout, item)
    longest = max(groups, key=lambda group: group.busy)
    waiting = MEETING_SECONDS if min(group.busy for group in groups) < longest.busy else 0.0
    soup = measure_seconds(work, rates, host, layout, layout.num_ranks)
    soup += _chosen(work, rates, host, layout, item) + _ensemble(work, host, layout, item)
    seconds = longest.busy + waiting + soup + host.phase_seconds + _merged(work, layout, item)
    traffic = phase_traffic(work, rates, layout, item, seconds)
    index, measuring = item.phase.index, longest.measuring + soup
    return PhaseForecast(index, seconds, longest.training, measuring, traffic)


def _groups(work: Work, rates: Rates, layout: Layout, item: PhasePlan) -> list[_Group]:
    """A wave that does not fill the host leaves more of it to each process."""
    ranks = layout.ranks_per_candidate
    groups = [_Group() for _ in range(layout.num_groups)]
    for wave in item.waves:
        at_work = layout.at_work(len(wave) * ranks)
        host = rates.at(at_work)
        step = step_seconds(work, rates, layout, ranks, at_work, item)
        measuring = measure_seconds(work, rates, host, layout, ranks)
        for group, index in zip(groups, wave, strict=False):
            group.training += item.steps[index] * step
            group.measuring += measuring
            group.others += host.candidate_seconds
    return groups


def _chosen(work: Work, rates: Rates, host: HostRates, layout: Layout, item: PhasePlan) -> float:
    """Of the soups that a rule tries before it chooses."""
    num, everyone, rule = len(item.phase.candidates), layout.num_ranks, item.phase.rule
    validating = work.measured_samples(work.samples.validation, everyone) * host.evaluation_seconds
    norm = _batch_norm(work, rates, host, layout, everyone)
    if rule == "greedy":
        return (num - 1) * (norm + validating)
    if rule in ("learned", "distilled") and num > 1:
        return (work.config.soup.steps + 1) * (norm + OBJECTIVE * validating)
    return 0.0


def _ensemble(work: Work, host: HostRates, layout: Layout, item: PhasePlan) -> float:
    """Of the candidates' probabilities: every group looks at the test set with its own."""
    if not work.has_ensemble or len(item.phase.candidates) == 1:
        return 0.0
    samples = work.measured_samples(work.samples.test, layout.ranks_per_candidate)
    return len(item.waves) * samples * host.evaluation_seconds


def _merged(work: Work, layout: Layout, item: PhasePlan) -> float:
    """Of sending the candidates' slices to and fro; adding them up is in phase_seconds."""
    groups, ranks = layout.num_groups, layout.ranks_per_candidate
    values = FLOAT * travelling(item.phase, item.surviving, work.plan.sizes)
    away = (groups - 1) / groups  # of what a rank sends, that goes to another group
    sent = (len(item.waves) + 1) * values / ranks * away
    column = _moved(sent, layout.in_column()) if groups > 1 else 0.0
    row = _moved(values * (ranks - 1) / ranks, layout.in_row(ranks)) if ranks > 1 else 0.0
    return column + row


def _moved(num_bytes: float, link: Link) -> float:
    return num_bytes / link.bytes_per_second + link.seconds
