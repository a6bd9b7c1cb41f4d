"""How many candidates a group trains at once: tried once in a run, then as its folder says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from sms_dist.base import plain
from sms_dist.base.files import json_text, write_text
from sms_dist.base.randomness import stream
from sms_dist.config.file import one_line
from sms_dist.data.loader import Batch, Loader
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.mesh.collectives import from_first
from sms_dist.methods.phases import Phase
from sms_dist.run.journal import PackingEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.schema import PackingFile
from sms_dist.stacks import obstacle, stack_size
from sms_dist.stacks.engine import StackEngine
from sms_dist.training.context import Context
from sms_dist.training.loop import Meter, TrainingLoss, training_loss
from sms_dist.training.retrain import CandidateTraining, StartOf

ROUNDS = 7  # of each way of taking steps, after one that does not count
MAX_SECONDS = 10.0  # after which there is no further round
WORTH = 0.95  # of the time one after another, below which candidates train together


def choose_stack_size(context: Context, log: Logbook, phase: Phase, start_of: StartOf) -> int:
    """Return how many candidates of the phase a group trains at once; 1: one after another.

    Every rank must call, before the first candidate of the phase is trained.
    """
    engine, mesh = context.config.engine, context.mesh
    if engine.name != "packed":
        return 1
    path = log.paths.packing
    known = from_first(lambda: read_decision(path), mesh.world, mesh.device)
    # With other groups than at the first start the stacks would be others, and so would the bits.
    decided = PackingFile(**(known or {"num_groups": mesh.num_groups}))
    size = stack_size(engine.pack_size, len(phase.candidates), decided.num_groups)
    can_stack = size > 1 and obstacle(engine, phase) is None
    if can_stack and decided.packing is None:
        chosen = _chosen(context, log, phase, start_of, size)
        decided = decided.model_copy(update={"packing": chosen})
    if decided.model_dump() != known and log.is_main:
        write_text(path, json_text(decided.model_dump()))
    return size if can_stack and decided.packing == "vmap" else 1


def read_decision(path: Path) -> dict[str, Any] | None:
    """Return what an earlier start has decided, None if there was none; ValueError if damaged."""
    if not path.is_file():
        return None
    try:
        return PackingFile(**plain.read_object(path)).model_dump()
    except ValidationError as error:
        raise ValueError(
            f"{path}: {one_line(error, PackingFile)}; it decides the bits of candidates: put it "
            "back as it was, or start anew with another --run-dir"
        ) from None


def _chosen(
    context: Context, log: Logbook, phase: Phase, start_of: StartOf, size: int
) -> Literal["vmap", "loop"] | None:
    """Return the same choice on all ranks; None if no candidate is left to try it with."""
    wanted, mesh = context.config.engine.packing, context.mesh
    if wanted == "loop":
        return "loop"
    starts = [(start_of(candidate), candidate) for candidate in phase.candidates[:size]]
    known = [(start, candidate) for start, candidate in starts if start is not None]
    if not known:
        return None
    mesh.control.set_place("trying steps of a stack")
    members = [known[i % len(known)] for i in range(size)]
    jobs = [CandidateTraining(context, start, candidate).job for start, candidate in members]
    batches = [
        trial_batch(context.loaders.train, jobs[0], candidate.seed, phase.index)
        for _, candidate in members
    ]
    # All ranks try, as all will train; what the first one has measured counts.
    own = try_stack(jobs, batches, training_loss(context))
    trial = Trial(**from_first(lambda: asdict(own), mesh.world, mesh.device))
    if wanted == "vmap" and trial.together is None:
        raise ValueError(
            f"engine.packing=vmap: model.name={context.config.model.name} cannot take the steps of "
            f"several candidates together ({trial.reason}); use auto, or engine.name=ddp"
        )
    packing: Literal["vmap", "loop"] = "vmap" if wanted == "vmap" or trial.is_worth_it else "loop"
    log.event(
        PackingEvent(
            packing=packing,
            candidates=size,
            together=trial.together,
            one_by_one=trial.one_by_one,
            message=trial.message,
        )
    )
    return packing


@dataclass(frozen=True)
class Trial:
    """Seconds of one step of all candidates; `together` is None if it is impossible."""

    together: float | None
    one_by_one: float
    reason: str = ""

    @property
    def is_worth_it(self) -> bool:
        """Return True if steps are clearly faster together."""
        return self.together is not None and self.together < WORTH * self.one_by_one

    @property
    def message(self) -> str:
        apart = f"one after another {1000 * self.one_by_one:.3g} ms"
        if self.together is None:
            return f"{apart}; together is impossible ({self.reason})"
        return f"a step of all takes {1000 * self.together:.3g} ms together, {apart}"


def try_stack(jobs: Sequence[Job], batches: Sequence[Batch], loss: TrainingLoss) -> Trial:
    """Time steps of these candidates at rate 0, in no collective; the jobs are used up."""
    device = jobs[0].mesh.device
    engine = StackEngine(jobs, [1] * len(jobs))
    drawn = {place: (batch, 0.0) for place, batch in enumerate(batches)}

    def together() -> None:
        engine.step(0, drawn, loss)

    single, meter = make_engine(jobs[0]), Meter(loss, device)

    def one_by_one() -> None:
        for batch in batches:
            single.step(batch.inputs, batch.targets, batch.weight, 0.0, meter.loss)

    try:
        together()
    except RuntimeError as error:  # vmap cannot map what the model computes
        reason = str(error).partition("\n")[0].partition(". ")[0]
        (apart,) = _seconds([one_by_one], device)
        return Trial(None, apart, reason)
    joint, apart = _seconds([together, one_by_one], device)
    return Trial(joint, apart)


def trial_batch(loader: Loader, job: Job, seed: int, phase: int) -> Batch:
    """Return a batch to try a step with."""
    address = (seed, "trial", phase)
    order, augmentation = stream(*address, 0), stream(*address, 1)
    return next(loader.epoch(order, augmentation, job.axis.rank, job.axis.size))


def _seconds(ways: Sequence[Callable[[], None]], device: torch.device) -> list[float]:
    """Return the shortest time of each way; they take turns, so that all meet the same load."""

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    shortest = [float("inf")] * len(ways)
    begin = clock()
    for turn in range(ROUNDS + 1):
        for i, way in enumerate(ways):
            start = clock()
            way()
            seconds = clock() - start
            if turn:
                shortest[i] = min(shortest[i], seconds)
        if turn and clock() - begin > MAX_SECONDS:
            break
    return shortest
