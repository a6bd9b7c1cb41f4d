"""Measuring a model: batch norm recomputed first, then every sample once over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from sms_dist.data.loader import Loader
from sms_dist.mesh.division import parts_of
from sms_dist.mesh.parts import sum_over_parts
from sms_dist.mesh.topology import Axis
from sms_dist.models.state import bare_state
from sms_dist.tasks.base import Metrics, Task
from sms_dist.training.batch_norm import recompute_
from sms_dist.training.context import Context, State

Tell = Callable[[Literal["batch norm", "evaluate"]], None]


def measured(
    context: Context, state: State, axis: Axis, tell: Tell = lambda stage: None
) -> tuple[State, Metrics]:
    """The state with recomputed batch norm, and its validation and test metrics.

    Soup, candidate and dense model are all measured this way; `tell` hears what comes next. Every
    rank of the axis must call, with the same state; the bits do not depend on their number.
    """
    tell("batch norm")
    model = with_batch_norm(context, state, axis)
    tell("evaluate")
    found = evaluate(context.task, model, context.loaders.test, axis)
    metrics = {f"test_{name}": value for name, value in found.items()}
    if context.loaders.validation.num_samples:
        metrics |= validated(context, model, axis)
    return {name: tensor.clone() for name, tensor in bare_state(model).items()}, metrics


def with_batch_norm(context: Context, state: State, axis: Axis) -> nn.Module:
    """The model of a state, its batch norm recomputed. Every rank of the axis must call."""
    model = context.load(state)
    recompute_(model, context.loaders.train, axis, context.mesh.device)
    return model


def validated(context: Context, model: nn.Module, axis: Axis) -> Metrics:
    """Validation metrics of a model as it is. Every rank of the axis must call."""
    result = evaluate(context.task, model, context.loaders.validation, axis)
    return {f"validation_{k}": v for k, v in result.items()}


@torch.no_grad()
def evaluate(task: Task, model: nn.Module, loader: Loader, axis: Axis) -> Metrics:
    """The task's metrics over all samples. Every rank of the axis must call."""
    device = next(model.parameters()).device
    model.eval()
    parts = loader.parts(parts_of(axis.rank, axis.size))

    def part(index: int) -> Tensor:
        totals = torch.zeros(task.num_totals, dtype=torch.float64, device=device)
        for batch in parts[index]:
            totals += task.totals(model, batch)
        return totals

    return task.metrics(sum_over_parts(part, task.num_totals, axis, device))
