"""The models of a run folder, ready to be asked for predictions on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sms_dist.config import file as config_file
from sms_dist.mesh import topology
from sms_dist.reports import scores
from sms_dist.run import store
from sms_dist.run.paths import DENSE, METRICS, WEIGHTS, RunPaths, check_run, finished
from sms_dist.run.schema import DenseMetrics, PhaseMetrics
from sms_dist.training.context import Context, set_up
from sms_dist.training.predictions import fitted

# The run may have had other devices and more ranks, and trained in another precision.
HERE = (
    "engine.device=auto",
    "engine.precision=fp32",
    "engine.ranks_per_candidate=1",
    "pretrain.ranks=null",
    "data.workers=0",
)


@dataclass(frozen=True)
class OpenedRun:
    context: Context
    names: list[str]  # of the models
    facts: list[str]  # a line about the run, and one about each model
    models: list[nn.Module]


def open_run(run: Path, phase: int | None, settings: Sequence[str]) -> OpenedRun:
    """Return the dense model, and the soups of all phases or of one; ValueError if there are none.

    `settings` go on top of the run's configuration, for example another data.path.
    """
    paths = RunPaths(run)
    check_run(paths)
    folders = _folders(paths, phase)
    config = config_file.load(paths.config, [*HERE, *settings])
    context = set_up(config, topology.by_itself(config.engine.device, config.engine.threads))
    names = {place: "dense" if place == DENSE else f"phase {place}" for place in folders}
    title = f"{config.name}: {config.method.name} on {config.data.name}"
    facts = [_facts(folder, names[k], context.task.score) for k, folder in folders.items()]
    return OpenedRun(
        context,
        list(names.values()),
        [f"{title}; measured on all test samples", *facts],
        [_model(context, folder) for folder in folders.values()],
    )


def _folders(paths: RunPaths, phase: int | None) -> dict[int, Path]:
    """Return the folder of each phase's model; the dense one only if it was trained to the end."""
    folders = finished(paths)
    if DENSE in folders and not store.load_record(folders[DENSE], METRICS, DenseMetrics).is_trained:
        del folders[DENSE]
    if not folders:
        raise ValueError(f"no model is finished in {paths.root} yet; let it run on")
    if phase is None:
        return folders
    if phase not in folders:
        valid = ", ".join(map(str, folders))
        raise ValueError(f"--phase {phase} is not finished in {paths.root}; finished: {valid}")
    return {k: f for k, f in folders.items() if k in (DENSE, phase)}


def _model(context: Context, folder: Path) -> nn.Module:
    state = store.load_tensors(folder, WEIGHTS)
    return fitted(context, context.on_device(state), str(folder / WEIGHTS))


def _facts(folder: Path, name: str, score: str) -> str:
    """Return a line about a model: its score on all test samples, as the run measured it."""
    sparsity = ""
    if name == "dense":
        measured = store.load_record(folder, METRICS, DenseMetrics).test(score)
    else:
        phase = store.load_record(folder, METRICS, PhaseMetrics)
        measured, sparsity = phase.soup.test(score), f", sparsity {phase.sparsity:.4g}"
    return f"{name}{sparsity}: {scores.score(score).label} {scores.text(measured, score)}"
