"""The rates of a forecast, out of a file or out of what a run has recorded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from pydantic import ValidationError

from sms_dist.base import plain
from sms_dist.cli.forecast import Estimate, Rates
from sms_dist.cli.plan import planned
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.config.compare import flatten
from sms_dist.config.file import one_line, read_mapping
from sms_dist.run import journal, store
from sms_dist.run.journal import DenseEvent, Event, SoupEvent, StartEvent
from sms_dist.run.paths import MANIFEST, METRICS, RunPaths
from sms_dist.run.schema import CandidateMetrics, EnvironmentFile, PackingFile, PlanFile, R, parsed

OPTION = "--rates"
MOST_RANKS = 1 << 20
MEASURE = "measure this configuration: sms-dist measure"
# Keys of a configuration that decide how fast it is on a host.
DECISIVE = (
    "data.name",
    "data.batch_size",
    "data.size",
    "data.augment",
    "data.loader",
    "model.name",
    "pretrain.optimizer",
    "engine.name",
    "engine.device",
    "engine.threads",
    "engine.precision",
    "engine.compile",
    "engine.channels_last",
    "engine.accumulation",
)


def decisive(config: Config) -> dict[str, Any]:
    """Return the keys of a configuration that decide its rates."""
    keys = flatten(config.model_dump(mode="json", by_alias=True))
    return {name: keys[name] for name in DECISIVE} | {"model.options": config.model.options}


def read_rates(
    path: Path, config: Config, cluster: ClusterConfig | None
) -> tuple[Rates, tuple[str, ...]]:
    """Return the rates in a file or of a run folder, with notes on what they lack.

    ValueError, one line, for what is wrong there, and for rates of another configuration.
    """
    place = f"{OPTION} {path}"
    rates, notes = rates_of_run(path, cluster) if path.is_dir() else (_load(path), ())
    for name, value in decisive(config).items():
        measured = rates.configuration.get(name, value)
        if measured != value:
            raise ValueError(f"{place} was measured with {name}={measured}, not {value}; {MEASURE}")
    return rates, notes


def _load(path: Path) -> Rates:
    try:
        return Rates.model_validate(read_mapping(path, OPTION))
    except ValidationError as error:
        raise ValueError(f"{OPTION} {path}: {one_line(error, Rates)}") from None


def text(rates: Rates, comments: Sequence[str]) -> str:
    """Return the content of a file of rates."""
    lines = "".join(f"# {line}\n" for line in comments)
    return lines + yaml.dump(rates.model_dump(mode="json"), Dumper=plain.Dumper, sort_keys=False)


def rates_of_run(folder: Path, cluster: ClusterConfig | None) -> tuple[Rates, tuple[str, ...]]:
    """Return rates with which the forecast of the run itself is the time it took, and notes.

    ValueError, one line, if no candidate is done or a file is damaged.
    """
    place, paths = f"{OPTION} {folder}", RunPaths(folder)
    if not paths.config.is_file():
        raise ValueError(f"{place} is neither a file nor a run folder with {paths.config.name}")
    try:
        config = config_file.load(paths.config)
        events, start = journal.read(paths.journal), _read(paths.environment, EnvironmentFile)
        epoch = _read(paths.plan, PlanFile).sizes.steps_per_epoch
        num_ranks = _num_ranks(events)
        if paths.packing.is_file() and _read(paths.packing, PackingFile).packing == "vmap":
            raise ValueError(f"its candidates trained together in packs; {MEASURE}")
        estimate = Estimate(planned(config, num_ranks), cluster)
        trained = _trained(paths, estimate, epoch)
    except (OSError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None
    if not trained:
        raise ValueError(f"{place} has no candidate that is done yet; let it run on")
    sample, candidate = _fit(trained)
    devices = start.starts[-1].devices if config.engine.device != "cpu" else ()
    rates = Rates(
        sample_seconds=sample,
        candidate_seconds=candidate,
        device=devices[0] if devices else "cpu",
        configuration=decisive(config),
    )
    around = _phase_seconds(events, estimate, rates)
    counts = f"{len(trained)} candidates on {num_ranks} ranks, {rates.device}"
    notes = (
        f"rates are those of the run {folder}: {counts}",
        "a run does not record the memory of activations nor the time of its start",
    )
    return rates.model_copy(update={"phase_seconds": around}), notes


def _read(path: Path, kind: type[R]) -> R:
    return parsed(kind, plain.read_json(path), path.name)


def _num_ranks(events: Sequence[Event]) -> int:
    """Return the number of ranks, which must be the same in all starts."""
    numbers = {event.ranks or 0 for event in events if isinstance(event, StartEvent)}
    if len(numbers) != 1 or not 0 < min(numbers) <= MOST_RANKS:
        had = " and ".join(map(str, sorted(numbers))) or "an unknown number of"
        raise ValueError(f"it was started with {had} ranks, and must be with one number; {MEASURE}")
    return numbers.pop()


def _trained(paths: RunPaths, estimate: Estimate, epoch: int) -> list[tuple[float, float]]:
    """Return trained samples of a rank and seconds, without sending, of each finished candidate."""
    pairs = []
    for item in estimate.plan.phases:
        for candidate in item.phase.candidates:
            folder = paths.candidate(item.phase.index, candidate.index)
            if not (folder / MANIFEST).is_file():
                continue
            record = store.load_record(folder, METRICS, CandidateMetrics)
            if record.seconds and record.epochs:
                steps, group = len(record.epochs) * epoch, estimate.group
                seconds = record.seconds - estimate.sending(steps, group, item)
                pairs.append((estimate.samples(steps, group), max(0.0, seconds)))
    return pairs


def _fit(trained: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the seconds of a sample, and of a candidate besides its samples.

    The latter shows only where candidates trained for different times; else it is 0.
    """
    few, many = min(trained)[0], max(trained)[0]
    short, long = (median(s for num, s in trained if num == each) for each in (few, many))
    if many < 1.5 * few or long < short:
        return median(seconds / num for num, seconds in trained), 0.0
    sample = (long - short) / (many - few)
    return sample, max(0.0, short - few * sample)


def _phase_seconds(events: Sequence[Event], estimate: Estimate, rates: Rates) -> float:
    """Return the median of what a phase took beyond its forecast, without interrupted ones."""
    expected = {
        item.phase.index: estimate.phase(rates, item).seconds for item in estimate.plan.phases
    }
    marks = [event for event in events if isinstance(event, StartEvent | DenseEvent | SoupEvent)]
    rest = [
        after.seconds - before.seconds - expected.get(after.metrics.phase, 0.0)
        for before, after in pairwise(marks)
        if isinstance(after, SoupEvent) and not isinstance(before, StartEvent)
        if before.seconds is not None and after.seconds is not None
    ]
    return max(0.0, median(rest)) if rest else 0.0
