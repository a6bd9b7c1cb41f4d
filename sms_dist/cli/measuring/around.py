"""What a run costs around its steps: a real one, of few samples, less what its parts take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sms_dist.cli.forecast.forecast import Forecast, forecast
from sms_dist.cli.forecast.links import Layout, Link
from sms_dist.cli.forecast.rates import Rates
from sms_dist.cli.forecast.work import Samples, Work
from sms_dist.config import CandidatesConfig, Config, MethodConfig, PruningConfig, SoupConfig
from sms_dist.config.section import Section
from sms_dist.data.loader import Excerpt, Loader, Loaders
from sms_dist.run import journal
from sms_dist.start.session import Session

BATCHES = 2  # of each split
MOST = 3  # candidates of a group in every other phase
CANDIDATES = (1, 1, MOST, 1, MOST)  # of a group, phase by phase; the first one warms up
INSTANT = Link(1e15, 0.0)


def short_run(config: Config, num_ranks: int) -> Config:
    """A plain run of the same model on the same data, in which every rank is a group."""
    counts = tuple(num_ranks * each for each in CANDIDATES)
    pruning = config.pruning
    sections: dict[str, Section] = {}
    sections["method"] = MethodConfig(name="sms")
    sections["pruning"] = PruningConfig(
        goal_sparsity=0.9,
        phases=len(counts),
        keep_dense=pruning.keep_dense,
        embeddings=pruning.embeddings,
    )
    sections["candidates"] = CandidatesConfig(count=max(counts), count_per_phase=counts, far=None)
    sections["soup"] = SoupConfig(ensemble=False)
    sections["data"] = config.data.model_copy(update={"corruptions": None})
    changes = {"epochs": 1, "schedule": "clr", "learning_rate": 1e-4, "swa_from": None}
    sections["retrain"] = config.retrain.model_copy(update=changes)
    few = {
        "epochs": 1,
        "warmup_epochs": 0,
        "ranks": 1,
        "keep_epoch": None,
        "learning_rate": 1e-4,
        "schedule": "constant",
        "milestones": (),
    }
    sections["pretrain"] = config.pretrain.model_copy(update=few)
    sections["engine"] = config.engine.model_copy(update={"ranks_per_candidate": 1})
    return config.model_copy(update=sections)


def with_few_samples(session: Session) -> Session:
    context = session.context
    size, old = context.config.data.batch_size, context.loaders

    def few(loader: Loader) -> Loader:
        return Excerpt(loader, size, BATCHES * size)

    loaders = Loaders(few(old.train), few(old.validation), few(old.test), old.pixels)
    return replace(session, context=replace(context, loaders=loaders))


def around(session: Session, rates: Rates, begun: float, ended: float) -> Rates:
    """The rates, of one number of processes, with what the journal of a finished short run adds.

    `begun`, `ended`: when the command was given, and when it was through (seconds since 1970).
    """
    events = journal.read(session.paths.journal)
    start, dense, *soups = (
        event.seconds or 0.0 for event in events if event.event in ("start", "dense", "soup")
    )
    ends = [dense, *soups]
    known = _known(session, rates)
    rest = [
        after - before - phase.seconds
        for before, after, phase in zip(ends, ends[1:], known.phases[1:], strict=False)
    ]
    one, several = _mean(rest[1::2]), _mean(rest[2::2])
    candidate = max(0.0, (several - one) / (MOST - 1))
    found = {
        "start_seconds": start - begun + ended - ends[-1],
        "dense_seconds": dense - start - known.phases[0].seconds,
        "candidate_seconds": candidate,
        "phase_seconds": one - candidate,
    }
    none_is_negative = {name: max(0.0, seconds) for name, seconds in found.items()}
    (host,) = rates.hosts
    return rates.model_copy(update={"hosts": (host.model_copy(update=none_is_negative),)})


def _known(session: Session, rates: Rates) -> Forecast:
    """The forecast of the short run as if there was nothing around."""
    context, (host,) = session.context, rates.hosts
    loaders = context.loaders
    splits = (loaders.train, loaders.validation, loaders.test)
    samples = Samples(*(split.num_samples for split in splits))
    sizes = replace(session.plan.sizes, steps_per_epoch=loaders.train.num_steps)
    phases = tuple(
        replace(item, steps=tuple(loaders.train.num_steps for _ in item.steps))
        for item in session.plan.phases
    )
    plan = replace(session.plan, sizes=sizes, phases=phases)
    work = Work(context.config, plan, samples, context.info.num_classes, is_classification=False)
    return forecast(work, rates, Layout(host.processes, host.processes, 1, INSTANT, INSTANT))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
