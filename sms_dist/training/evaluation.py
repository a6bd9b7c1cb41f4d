"""Measuring models: norms are recomputed, then every sample evaluated once over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from sms_dist.data.loader import Loader
from sms_dist.mesh.collectives import sum_, sum_over_parts
from sms_dist.mesh.division import NUM_PARTS, parts_of
from sms_dist.mesh.topology import Axis
from sms_dist.soups.merge import CandidateShards
from sms_dist.soups.norms import recompute_
from sms_dist.soups.rules import average
from sms_dist.soups.states import bare_state
from sms_dist.tasks.base import Metrics, Task
from sms_dist.training.context import Context, State

# The log of 0, of a class that no candidate believes in, is no number for a report.
LEAST = torch.finfo(torch.float32).tiny
SetStage = Callable[[Literal["batch norm", "evaluate"]], None]


def measured(
    context: Context, state: State, axis: Axis, set_stage: SetStage = lambda stage: None
) -> tuple[State, Metrics]:
    """Return the state with recomputed norms, and its validation and test metrics.

    Soup, candidate and dense model are all measured this way; `set_stage` is called with what comes
    next. Every rank of the axis must call, with the same state; the bits do not depend on their
    number.
    """
    set_stage("batch norm")
    model = with_norms(context, state, axis)
    measured_state = {name: tensor.clone() for name, tensor in bare_state(model).items()}
    set_stage("evaluate")
    test = evaluate(context.task, model, context.loaders.test, axis)
    metrics = {f"test_{name}": value for name, value in test.items()}
    if context.loaders.validation.num_samples:
        metrics |= validated(context, model, axis)
    return measured_state, metrics


def with_norms(context: Context, state: State, axis: Axis) -> nn.Module:
    """Return the model of a state, its norms recomputed. Every rank of the axis must call."""
    model = context.load(state)
    recompute_(model, context.loaders.train, axis, context.mesh.device)
    return model


def validated(context: Context, model: nn.Module, axis: Axis) -> Metrics:
    """Return the validation metrics of a model as it is. Every rank of the axis must call."""
    result = evaluate(context.task, model, context.loaders.validation, axis)
    return {f"validation_{k}": v for k, v in result.items()}


@torch.no_grad()
def evaluate(task: Task, model: nn.Module, loader: Loader, axis: Axis) -> Metrics:
    """Return the task's metrics over all samples. Every rank of the axis must call."""
    device = next(model.parameters()).device
    model.eval()
    parts = loader.parts(parts_of(axis.rank, axis.size))

    def part(index: int) -> Tensor:
        totals = torch.zeros(task.num_totals, dtype=torch.float64, device=device)
        for batch in parts[index]:
            totals += task.totals(model, batch)
        return totals

    return task.metrics(sum_over_parts(part, task.num_totals, axis, device))


def ensemble(context: Context, own: Mapping[int, State], owners: Mapping[int, int]) -> Metrics:
    """Return test accuracy and test loss (negative log-likelihood) of the mean probabilities.

    `own` are the states, norms recomputed, of the candidates that my group holds; `owners` the
    group of each, in index order. Every rank must call, also if its group holds none. The
    probabilities are averaged as weights are, so that the bits do not depend on the mesh.
    """
    mesh, loader, num_classes = context.mesh, context.loaders.test, context.info.num_classes
    flat = {
        i: probabilities(context.load(own[i]), loader, num_classes, mesh.data).flatten()
        for i, group in owners.items()
        if group == mesh.group
    }
    targets = torch.cat([batch.targets for batch in loader.part(0, 1)])  # no damaged ones
    shards = CandidateShards(flat, owners, len(targets) * num_classes, mesh)
    mean = shards.mix(average(range(len(owners)), len(owners))).view(-1, num_classes)
    likelihood = mean.gather(1, targets[:, None]).double().clamp_min(LEAST)
    return {
        "test_accuracy": float((mean.argmax(1) == targets).double().mean()),
        "test_loss": float(-likelihood.log().mean()),
    }


def probabilities(model: nn.Module, loader: Loader, num_classes: int, axis: Axis) -> Tensor:
    """Return [samples, classes] in stored order, whole on every rank.

    Every rank of the axis must call, with the same model; the bits do not depend on their number.
    """
    device = next(model.parameters()).device
    model.eval()

    parts = loader.parts(parts_of(axis.rank, axis.size))

    @torch.no_grad()
    def part(index: int) -> Tensor:
        outputs = [model(*batch.inputs).float() for batch in parts[index]]
        return torch.cat([torch.empty(0, num_classes, device=device), *outputs]).softmax(1)

    return _stacked_parts(part, num_classes, axis, device)


def _stacked_parts(
    work: Callable[[int], Tensor], num_columns: int, axis: Axis, device: torch.device
) -> Tensor:
    """Return the rows of work(0) ... work(NUM_PARTS - 1). Every rank of the axis must call."""
    mine = {part: work(part) for part in parts_of(axis.rank, axis.size)}
    counts = torch.zeros(NUM_PARTS, dtype=torch.int64, device=device)
    for part, rows in mine.items():
        counts[part] = len(rows)
    ends = sum_(counts, axis).cumsum(0).tolist()
    whole = torch.zeros(ends[-1], num_columns, device=device)
    for part, rows in mine.items():
        whole[ends[part] - len(rows) : ends[part]] = rows
    return sum_(whole, axis)  # each row is zero on all ranks but one
