"""Whether and how the model is compiled: decided once in a run, then as its folder says."""

from __future__ import annotations

from dataclasses import asdict, replace

from sms_dist.base.files import json_text, write_text
from sms_dist.config import Config
from sms_dist.engines.compilable import shape_obstacle
from sms_dist.engines.compiled import check_compiler, compiler_obstacle
from sms_dist.experiment.decision import decided_before
from sms_dist.mesh.collectives import from_first, gather_json, together
from sms_dist.mesh.division import deal
from sms_dist.run.journal import CompileEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.schema import CompileFile
from sms_dist.training.compile_trial import EAGER, Trial, try_compiling
from sms_dist.training.context import Context

# max-autotune is for those who ask for it: it takes minutes, and chooses kernels by the clock.
TRIED = {"cpu": ("default",), "cuda": ("default", "reduce-overhead")}


def choose_compiling(context: Context, log: Logbook) -> Context:
    """With engine.compile as it is in this run: auto is replaced by what was decided.

    Every rank must call, before anything is trained.
    """
    mesh = context.mesh
    mode: str = context.config.engine.compile
    if mode == "auto":
        mode = _decided(context, log)
    together(lambda: check_compiler(mode, mesh.device), mesh.world, mesh.device)
    return replace(context, config=compiled_as(context.config, mode))


def compiled_as(config: Config, mode: str) -> Config:
    """The configuration with this mode in place of its own."""
    engine = config.engine.model_copy(update={"compile": mode})
    return config.model_copy(update={"engine": engine})


def tried(context: Context) -> tuple[str, Trial]:
    """What is best for the steps of the run, and how that was found. Every rank must call.

    All ranks try, as all will train; what the first one has measured holds, and a mode that fails
    on one of them is for none.
    """
    mesh = context.mesh
    mesh.control.set_place("trying compiled steps")
    own = _own_trial(context)
    everyone = gather_json(own.reasons, mesh.world, mesh.device)
    first = Trial(**from_first(lambda: asdict(own), mesh.world, mesh.device))
    trial = first.without({mode: reason for each in everyone for mode, reason in each.items()})
    return trial.best(_most_steps(context)) if trial.steps else EAGER, trial


def _decided(context: Context, log: Logbook) -> str:
    mesh, path = context.mesh, log.paths.compile
    known = from_first(lambda: decided_before(path, CompileFile), mesh.world, mesh.device)
    if known is not None:
        return CompileFile(**known).compile
    mode, trial = tried(context)
    decided = CompileFile.model_validate({"compile": mode})
    if log.is_main:
        write_text(path, json_text(decided.model_dump()))
    log.event(
        CompileEvent(
            compile=mode, steps=dict(trial.steps), first=dict(trial.first), message=trial.told
        )
    )
    return mode


def _own_trial(context: Context) -> Trial:
    """Of this rank; in no collective."""
    device = context.mesh.device
    modes = TRIED[device.type]
    reason = shape_obstacle(context.info.task) or compiler_obstacle(device)
    if reason:
        return Trial({}, {}, dict.fromkeys(modes, reason))
    return try_compiling(context, modes)


def _most_steps(context: Context) -> int:
    """That a rank takes in the whole run, at most."""
    recipe, num_groups = context.recipe, context.mesh.num_groups
    epochs = 0 if recipe.pretrain.from_ else recipe.dense_epochs
    for phase in recipe.phases:
        dealt = [deal(phase.candidates, num_groups, group) for group in range(num_groups)]
        epochs += max(sum(candidate.retrain.epochs for candidate in own) for own in dealt)
    return epochs * context.loaders.train.num_steps
