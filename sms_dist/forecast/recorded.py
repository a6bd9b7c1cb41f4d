"""Rates out of what a run has recorded of itself, where nobody has measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from sms_dist.forecast.forecast import forecast
from sms_dist.forecast.links import Layout, all_reduce_seconds
from sms_dist.forecast.rates import HostRates, Rates, decisive
from sms_dist.forecast.work import Work
from sms_dist.plan import PhasePlan


@dataclass(frozen=True)
class Trained:
    """A training from its beginning to the end of its evaluation."""

    phase: int  # 0: pretraining
    index: int  # of the candidate
    steps: int
    seconds: float


@dataclass(frozen=True)
class Recorded:
    """What a run tells of its times."""

    device: str
    trained: tuple[Trained, ...]
    phases: Mapping[int, float]  # seconds of those in which no start came to its end; 0: dense

    @property
    def candidates(self) -> list[Trained]:
        return [each for each in self.trained if each.phase > 0]


NOT_TOLD = (
    "a run does not tell apart what a step and its samples take, nor what evaluating does: steps "
    "count as proportional to the samples of a rank, evaluation as part of them",
    "a run does not tell of links, memory, its way to the first step: links are those of --cluster "
    "or usual ones, memory is that of the weights alone, the start takes no time",
)


def recorded_rates(recorded: Recorded, work: Work, layout: Layout) -> Rates:
    """Rates with which the forecast of the run itself has the seconds that it took.

    `work` and `layout` are those of the run. At least one candidate.
    """
    crowds: dict[int, list[Trained]] = {}
    for each in recorded.candidates:
        crowds.setdefault(_at_work(work, layout, each), []).append(each)
    dense = [each for each in recorded.trained if each.phase == 0]
    if dense:  # by another number of ranks, mostly
        crowds.setdefault(layout.at_work(work.pretrain_ranks(layout.num_ranks)), dense)
    hosts = tuple(
        HostRates(processes=number, sample_seconds=_sample_seconds(work, layout, trained))
        for number, trained in crowds.items()
    )
    rates = Rates(configuration=decisive(work.config), device=recorded.device, hosts=hosts)
    return _with_what_is_around(rates, recorded, work, layout)


def _sample_seconds(work: Work, layout: Layout, trained: Iterable[Trained]) -> float:
    """On the average over all steps, without what sending gradients takes by the forecast."""
    phases = {item.phase.index: item for item in work.plan.phases}
    samples = seconds = 0.0
    for each in trained:
        item = phases.get(each.phase)
        ranks = layout.ranks_per_candidate if item else work.pretrain_ranks(layout.num_ranks)
        step = each.seconds / each.steps
        seconds += each.steps * _computing(step, _sending(work, layout, ranks, item), layout)
        samples += each.steps * work.share(ranks)
    return seconds / samples


def _sending(work: Work, layout: Layout, num_ranks: int, item: PhasePlan | None) -> float:
    return all_reduce_seconds(work.gradient_bytes(item), num_ranks, layout.in_row(num_ranks))


def _computing(step: float, sending: float, layout: Layout) -> float:
    """The part of a step for which `step_seconds` comes to all of it; see there."""
    if sending <= layout.overlap * step:
        return step
    return max(0.0, step - sending) / (1 - layout.overlap) if layout.overlap < 1 else 0.0


def _at_work(work: Work, layout: Layout, trained: Trained) -> int:
    """Processes on a host while a candidate trained: a last wave may leave some without work."""
    waves = next(item.waves for item in work.plan.phases if item.phase.index == trained.phase)
    wave = next(wave for wave in waves if trained.index in wave)
    return layout.at_work(len(wave) * layout.ranks_per_candidate)


def _with_what_is_around(rates: Rates, recorded: Recorded, work: Work, layout: Layout) -> Rates:
    """What the phases took beyond the forecast of their trainings: merging, evaluating, files."""
    known = {phase.phase: phase.seconds for phase in forecast(work, rates, layout).phases}
    rest = {k: seconds - known[k] for k, seconds in recorded.phases.items() if k in known}
    later = [seconds for k, seconds in rest.items() if k > 0]
    around = {
        "dense_seconds": max(0.0, rest.get(0, 0.0)),
        "phase_seconds": max(0.0, median(later)) if later else 0.0,
    }
    hosts = tuple(host.model_copy(update=around) for host in rates.hosts)
    return rates.model_copy(update={"hosts": hosts})
