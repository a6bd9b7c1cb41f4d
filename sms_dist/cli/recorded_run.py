"""Rates for forecasts of other runs, out of the times that a run folder has recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from sms_dist.base.plain import is_file
from sms_dist.cli.forecast.forecast import forecast
from sms_dist.cli.forecast.links import Layout, all_reduce_seconds
from sms_dist.cli.forecast.rates import OPTION, HostRates, Rates, decisive
from sms_dist.cli.forecast.work import Work, work_of
from sms_dist.cli.layout import layout
from sms_dist.cli.number_list import MOST
from sms_dist.cli.planned import planned
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.cli.status.folder import Reader
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.methods.plan import PhasePlan
from sms_dist.run import journal
from sms_dist.run.journal import Event, SoupEvent, StartEvent
from sms_dist.run.paths import METRICS, RunPaths
from sms_dist.run.schema import (
    CandidateMetrics,
    DenseMetrics,
    EnvironmentFile,
    PackingFile,
    PlanFile,
    R,
)

MEASURE = "measure this configuration: sms-dist measure"
NOTES = (
    "a run does not tell apart what a step and its samples take, nor what evaluating does: steps "
    "count as proportional to the samples of a rank, evaluation as part of them",
    "a run does not tell of links, memory, its way to the first step: links are those of --cluster "
    "or usual ones, memory is that of the weights alone, the start takes no time",
)


@dataclass(frozen=True)
class Trained:
    """A training from its beginning to the end of its evaluation."""

    item: PhasePlan | None  # None: pretraining
    num_ranks: int  # that trained it
    at_work: int  # processes on a host meanwhile: a last wave may leave some without work
    steps: int
    seconds: float


def rates_of_run(folder: Path, cluster: ClusterConfig | None) -> tuple[Rates, tuple[str, ...]]:
    """Return rates with which the forecast of the run itself has the seconds that it took, and what
    a forecast with them has to make do with.

    ValueError, one line, where the folder has no candidate that is done, is damaged, or its times
    are not those of single candidates. The links are those of `cluster`.
    """
    place = f"{OPTION} {folder}"
    paths, reader = RunPaths(folder), Reader(folder)
    config = _config(paths, place)
    steps_per_epoch = _needed(reader, paths.plan, PlanFile, place).sizes.steps_per_epoch
    start = _needed(reader, paths.environment, EnvironmentFile, place).starts[-1]
    events = journal.read(paths.journal)
    num_ranks = _num_ranks(events, place)
    known = planned(config, num_ranks)
    work = work_of(config, known.info, known.plan)
    per_host = start.number("LOCAL_WORLD_SIZE") or num_ranks
    nothing = Rates(hosts=(HostRates(processes=1, sample_seconds=0.0),))  # measured no link
    at = layout(cluster, nothing, num_ranks, config.engine.ranks_per_candidate)
    at = replace(at, ranks_per_host=min(per_host, num_ranks))
    trained = list(_trained(paths, reader, work, at, steps_per_epoch))
    num_candidates = sum(each.item is not None for each in trained)
    packing = reader.json(paths.packing, PackingFile)
    if reader.damaged:
        raise ValueError(f"{place} is damaged: {reader.damaged[0]}")
    if packing is not None and packing.packing == "vmap":
        raise ValueError(
            f"{place} trained its candidates in packs: their times are not those of single ones; "
            f"{MEASURE}"
        )
    if not num_candidates:
        raise ValueError(f"{place} has no candidate that is done yet; let it run on")
    device = start.devices[0] if start.devices and config.engine.device != "cpu" else "cpu"
    hosts = _hosts(trained, work, at)
    rates = Rates(configuration=decisive(config), device=device, hosts=hosts)
    candidates = f"{num_candidates} candidate{'s' if num_candidates > 1 else ''}"
    ranks = f"{num_ranks} rank{'s' if num_ranks > 1 else ''}"
    source = f"rates are those of the run {folder}: {candidates} on {ranks}, {device}"
    return _with_what_is_around(rates, _phase_seconds(events), work, at), (source, *NOTES)


def _config(paths: RunPaths, place: str) -> Config:
    if not is_file(paths.config):
        raise ValueError(f"{place} is neither a file nor a run folder with {paths.config.name}")
    try:
        return config_file.load(paths.config)
    except (OSError, ValueError) as error:
        reason = str(error).removeprefix(f"--config {paths.config}").lstrip(": ")
        raise ValueError(f"{place} is damaged: {paths.config.name}: {reason}") from None


def _needed(reader: Reader, path: Path, kind: type[R], place: str) -> R:
    record = reader.json(path, kind)
    if record is None:
        problem = reader.damaged[0] if reader.damaged else f"{path.name}: there is no such file"
        raise ValueError(f"{place} is damaged: {problem}")
    return record


def _num_ranks(events: Sequence[Event], place: str) -> int:
    """The same in all starts."""
    numbers = sorted({event.ranks or 0 for event in events if isinstance(event, StartEvent)})
    if len(numbers) != 1 or not 0 < numbers[0] <= MOST:
        had = " and with ".join(map(str, numbers)) or "an unknown number of"
        raise ValueError(
            f"{place} was started with {had} ranks, and its times are those of one number; "
            f"{MEASURE}"
        )
    return numbers[0]


def _trained(
    paths: RunPaths, reader: Reader, work: Work, at: Layout, steps_per_epoch: int
) -> Iterator[Trained]:
    """What has been trained to its end: candidates phase by phase, then dense, mostly by another
    number of ranks."""
    for item in work.plan.phases:
        for wave in item.waves:
            busy = at.at_work(len(wave) * at.ranks_per_candidate)
            for index in wave:
                path = paths.candidate(item.phase.index, index) / METRICS
                found = reader.json(path, CandidateMetrics)
                if found is not None and found.seconds and found.epochs:
                    steps = len(found.epochs) * steps_per_epoch
                    yield Trained(item, at.ranks_per_candidate, busy, steps, found.seconds)
    dense = reader.json(paths.dense / METRICS, DenseMetrics)
    if dense is not None and dense.seconds and dense.epochs:
        num_ranks = work.pretrain_ranks(at.num_ranks)
        steps = len(dense.epochs) * steps_per_epoch
        yield Trained(None, num_ranks, at.at_work(num_ranks), steps, dense.seconds)


def _hosts(trained: Sequence[Trained], work: Work, at: Layout) -> tuple[HostRates, ...]:
    """Pretraining counts only where no candidate had its number of processes on a host."""
    crowds: dict[int, list[Trained]] = {}
    for each in trained:
        if each.item is not None or each.at_work not in crowds:
            crowds.setdefault(each.at_work, []).append(each)
    return tuple(
        HostRates(processes=number, sample_seconds=_sample_seconds(crowd, work, at))
        for number, crowd in crowds.items()
    )


def _sample_seconds(trained: Sequence[Trained], work: Work, at: Layout) -> float:
    """On the average over all steps, without what sending gradients takes by the forecast."""
    samples = seconds = 0.0
    for each in trained:
        num_bytes, link = work.gradient_bytes(each.item), at.in_row(each.num_ranks)
        sending = all_reduce_seconds(num_bytes, each.num_ranks, link)
        step = each.seconds / each.steps
        if sending > at.overlap * step:  # the part for which `step_seconds` comes to all of it
            step = max(0.0, step - sending) / (1 - at.overlap) if at.overlap < 1 else 0.0
        seconds += each.steps * step
        samples += each.steps * work.share(each.num_ranks)
    return seconds / samples


def _phase_seconds(events: Sequence[Event]) -> dict[int, float]:
    """Seconds from the start to the dense model (0), and from soup to soup, as far as no other
    start came between."""
    found: dict[int, float] = {}
    last: tuple[int, float | None] = (-2, None)  # the phase that ended, and when
    for event in events:
        if event.event not in ("start", "dense", "soup"):
            continue
        phase = 0 if event.event == "dense" else -1
        if isinstance(event, SoupEvent):
            phase = event.metrics.phase
        end, begin = event.seconds, last[1]
        if begin is not None and end is not None and phase == last[0] + 1:
            found[phase] = end - begin
        last = phase, end
    return found


def _with_what_is_around(
    rates: Rates, seconds: Mapping[int, float], work: Work, at: Layout
) -> Rates:
    """What the phases took beyond the forecast of their trainings: merging, evaluating, files."""
    known = {phase.phase: phase.seconds for phase in forecast(work, rates, at).phases}
    rest = {k: took - known[k] for k, took in seconds.items() if k in known}
    later = [took for k, took in rest.items() if k > 0]
    around = {
        "dense_seconds": max(0.0, rest.get(0, 0.0)),
        "phase_seconds": max(0.0, median(later)) if later else 0.0,
    }
    hosts = tuple(host.model_copy(update=around) for host in rates.hosts)
    return rates.model_copy(update={"hosts": hosts})
