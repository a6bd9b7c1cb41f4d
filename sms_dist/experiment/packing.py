"""How many candidates train together: decided once in a run, then as its folder says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from sms_dist.base.files import json_text, write_text
from sms_dist.experiment.decision import decided_before
from sms_dist.mesh.collectives import from_first
from sms_dist.methods.packs import obstacle, pack_size
from sms_dist.methods.phases import Phase
from sms_dist.run.journal import PackingEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.schema import PackingFile
from sms_dist.training.context import Context
from sms_dist.training.packing_trial import Trial, try_packing
from sms_dist.training.retrain import StartOf, prepare

Packing = Literal["vmap", "loop"]
VMAP: Packing = "vmap"
LOOP: Packing = "loop"


def size_of_packs(context: Context, log: Logbook, phase: Phase, start_of: StartOf) -> int:
    """Candidates of the phase that a group trains at once; 1: one after another.

    Every rank must call, before the first candidate of the phase is trained.
    """
    engine, mesh = context.config.engine, context.mesh
    if engine.name != "packed":
        return 1
    path = log.paths.packing
    known = from_first(lambda: decided_before(path, PackingFile), mesh.world, mesh.device)
    # With other groups than at the first start the packs would be others, and so would the bits.
    decided = PackingFile(**(known or {"num_groups": mesh.num_groups}))
    size = pack_size(engine.pack_size, len(phase.candidates), decided.num_groups)
    can_pack = size > 1 and obstacle(engine, phase) is None
    if can_pack and decided.packing is None:
        chosen = _chosen(context, log, phase, start_of, size)
        decided = decided.model_copy(update={"packing": chosen})
    if decided.model_dump() != known and log.is_main:
        write_text(path, json_text(decided.model_dump()))
    return size if can_pack and decided.packing == VMAP else 1


def _chosen(
    context: Context, log: Logbook, phase: Phase, start_of: StartOf, size: int
) -> Packing | None:
    """vmap or loop, the same on all ranks; None where no candidate is left to try it with."""
    wanted, mesh = context.config.engine.packing, context.mesh
    if wanted == LOOP:
        return LOOP
    starts = [(start_of(candidate), candidate) for candidate in phase.candidates[:size]]
    known = [(start, candidate) for start, candidate in starts if start is not None]
    if not known:
        return None
    mesh.control.set_place("trying steps of a pack")
    members = [prepare(context, *known[i % len(known)]) for i in range(size)]
    own = try_packing([(each.job, each.training) for each in members])
    # All ranks try, as all will train; what the first one has measured holds.
    trial = Trial(**from_first(lambda: asdict(own), mesh.world, mesh.device))
    if wanted == VMAP and trial.together is None:
        raise ValueError(
            f"engine.packing=vmap: model.name={context.config.model.name} cannot take the steps of "
            f"several candidates together ({trial.reason}); use auto, or engine.name=ddp"
        )
    packing: Packing = VMAP if wanted == VMAP or trial.is_worth_it else LOOP
    log.event(
        PackingEvent(
            packing=packing,
            candidates=size,
            together=trial.together,
            one_by_one=trial.one_by_one,
            message=trial.told,
        )
    )
    return packing
