"""The times that a run folder tells of, as rates for forecasts of other runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from launcher.cluster import ClusterConfig
from launcher.layout import layout
from launcher.number_list import MOST
from launcher.planned import planned
from launcher.status.files import Reader
from launcher.status.told import Metrics, Packs, Sizes, Start, Told, Word
from sms_dist import config_file
from sms_dist.config import Config
from sms_dist.forecast.links import Layout
from sms_dist.forecast.rates import OPTION, HostRates, Rates
from sms_dist.forecast.recorded import NOT_TOLD, Recorded, Trained, recorded_rates
from sms_dist.forecast.work import Work, work_of
from sms_dist.paths import METRICS, RunPaths
from sms_dist.plain import is_file
from sms_dist.plan import Plan

Event = Mapping[str, Any]
Model = TypeVar("Model", bound=Told)


class RunStart(Start):
    """A start, with the GPUs of rank 0's host."""

    devices: tuple[Word, ...] = ()


class Environment(Told):
    starts: Annotated[tuple[RunStart, ...], Field(min_length=1)]


class Taken(Metrics):
    """metrics.json of a model; nothing takes longer than a human life."""

    seconds: Annotated[float, Field(ge=0, le=1e10)] | None = None


class Measured(Told):
    """plan.json, as far as the plan of the configuration does not say it: the data may be
    elsewhere."""

    sizes: Sizes


def rates_of_run(folder: Path, cluster: ClusterConfig | None) -> tuple[Rates, tuple[str, ...]]:
    """The rates, and what a forecast with them has to make do with.

    ValueError, one line, where the folder has no candidate that is done, is damaged, or its times
    are not those of single candidates. The links are those of `cluster`.
    """
    place = f"{OPTION} {folder}"
    paths, reader = RunPaths(folder), Reader(folder)
    config = _config(paths, place)
    sizes = _needed(reader, paths.plan, Measured, place).sizes
    start = _needed(reader, paths.environment, Environment, place).starts[-1]
    events = reader.json_lines(paths.journal)
    ranks = _num_ranks(events, place)
    known = planned(config, ranks)
    trained = tuple(_trained(paths, reader, known.plan, sizes.steps_per_epoch))
    _check(paths, reader, trained, place)
    device = start.devices[0] if start.devices and config.engine.device != "cpu" else "cpu"
    recorded = Recorded(device, trained, _phases(events))
    work = work_of(config, known.info, known.plan)
    at = _layout(cluster, work, ranks, start.number("LOCAL_WORLD_SIZE") or ranks)
    return recorded_rates(recorded, work, at), (_source(folder, recorded, ranks), *NOT_TOLD)


def _layout(cluster: ClusterConfig | None, work: Work, ranks: int, per_host: int) -> Layout:
    """That of the run, with links as they are known."""
    nothing = Rates(hosts=(HostRates(processes=1, sample_seconds=0.0),))  # measured no link
    at = layout(cluster, nothing, ranks, work.config.engine.ranks_per_candidate)
    return replace(at, ranks_per_host=min(per_host, ranks))


def _check(paths: RunPaths, reader: Reader, trained: Sequence[Trained], place: str) -> None:
    packs = reader.json(paths.packing, Packs) if paths.packing.is_file() else None
    if reader.damaged:
        raise ValueError(f"{place} is damaged: {reader.damaged[0]}")
    if packs is not None and packs.packing == "vmap":
        raise ValueError(
            f"{place} trained its candidates in packs: their times are not those of single ones; "
            "measure this configuration: sms-dist measure"
        )
    if not any(each.phase for each in trained):
        raise ValueError(f"{place} has no candidate that is done yet; let it run on")


def _config(paths: RunPaths, place: str) -> Config:
    if not is_file(paths.config):
        raise ValueError(f"{place} is neither a file nor a run folder with {paths.config.name}")
    try:
        return config_file.load(paths.config)
    except (OSError, ValueError) as error:
        reason = str(error).removeprefix(f"--config {paths.config}").lstrip(": ")
        raise ValueError(f"{place} is damaged: {paths.config.name}: {reason}") from None


def _needed(reader: Reader, path: Path, model: type[Model], place: str) -> Model:
    found = reader.json(path, model)
    if found is None:
        problem = reader.damaged[0] if reader.damaged else f"{path.name}: there is no such file"
        raise ValueError(f"{place} is damaged: {problem}")
    return found


def _trained(
    paths: RunPaths, reader: Reader, plan: Plan, steps_per_epoch: int
) -> Iterator[Trained]:
    """What has been trained to its end: dense, then the candidates phase by phase."""
    places = [(p.phase.index, c.index) for p in plan.phases for c in p.phase.candidates]
    folders = [paths.dense, *(paths.candidate(*place) for place in places)]
    for (phase, index), folder in zip([(0, 0), *places], folders, strict=True):
        found = reader.json(folder / METRICS, Taken)
        if found is not None and found.seconds and found.epochs:
            yield Trained(phase, index, len(found.epochs) * steps_per_epoch, found.seconds)


def _num_ranks(events: Sequence[Event], place: str) -> int:
    """The same in all starts."""
    numbers = sorted({_whole(e.get("ranks")) for e in events if e.get("event") == "start"})
    if len(numbers) != 1 or not 0 < numbers[0] <= MOST:
        had = " and with ".join(map(str, numbers)) or "an unknown number of"
        raise ValueError(
            f"{place} was started with {had} ranks, and its times are those of one number; "
            "measure this configuration: sms-dist measure"
        )
    return numbers[0]


def _phases(events: Sequence[Event]) -> dict[int, float]:
    """Seconds from the start to the dense model (0), and from soup to soup, as far as no other
    start came between."""
    found: dict[int, float] = {}
    last: Event = {}
    for event in events:
        name = event.get("event")
        if name not in ("start", "dense", "soup"):
            continue
        begin, end, phase = _time(last), _time(event), _phase(event)
        if begin is not None and end is not None and phase == _phase(last) + 1:
            found[phase] = end - begin
        last = event
    return found


def _phase(event: Event) -> int:
    """0 for the dense model, -1 for what comes before."""
    if event.get("event") == "soup":
        return _whole(event.get("phase"))
    return 0 if event.get("event") == "dense" else -1


def _time(event: Event) -> float | None:
    try:
        return datetime.fromisoformat(event["time"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else -9


def _source(folder: Path, recorded: Recorded, ranks: int) -> str:
    num = len(recorded.candidates)
    times = f"{num} candidate{'s' if num > 1 else ''} on {ranks} rank{'s' if ranks > 1 else ''}"
    return f"rates are those of the run {folder}: {times}, {recorded.device}"
