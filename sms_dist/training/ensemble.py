"""The true ensemble of the candidates: their probabilities averaged, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sms_dist.data.loader import Loader
from sms_dist.mesh.collectives import sum_
from sms_dist.mesh.division import NUM_PARTS, parts_of
from sms_dist.mesh.topology import Axis
from sms_dist.soups.candidate_shards import CandidateShards
from sms_dist.soups.rules import average
from sms_dist.tasks.base import Metrics
from sms_dist.training.context import Context, State

# Of a class that no candidate believes in: the logarithm of 0 is no number for a report.
LEAST = torch.finfo(torch.float32).tiny


def ensemble(context: Context, own: Mapping[int, State], owners: Mapping[int, int]) -> Metrics:
    """Test accuracy, and test loss (the negative log-likelihood), of the mean probabilities.

    `own` are the states, batch norm recomputed, of the candidates that my group holds; `owners` the
    group of each, in index order. Every rank must call, also where the group holds none. The
    probabilities are averaged as weights are, so that the bits do not depend on the topology.
    """
    mesh, loader, num_classes = context.mesh, context.loaders.test, context.info.num_classes
    held = {
        i: probabilities(context.load(own[i]), loader, num_classes, mesh.data).flatten()
        for i, group in owners.items()
        if group == mesh.group
    }
    targets = torch.cat([batch.targets for batch in loader.part(0, 1)])  # no damaged ones
    shards = CandidateShards(held, owners, len(targets) * num_classes, mesh)
    mean = shards.mix(average(range(len(owners)), len(owners))).view(-1, num_classes)
    likelihood = mean.gather(1, targets[:, None]).double().clamp_min(LEAST)
    return {
        "test_accuracy": float((mean.argmax(1) == targets).double().mean()),
        "test_loss": float(-likelihood.log().mean()),
    }


def probabilities(model: nn.Module, loader: Loader, num_classes: int, axis: Axis) -> Tensor:
    """[samples, classes], in stored order, whole on every rank. Every rank of the axis must call,
    with the same model; the bits do not depend on their number."""
    device = next(model.parameters()).device
    model.eval()
    parts = loader.parts(parts_of(axis.rank, axis.size))

    @torch.no_grad()
    def part(index: int) -> Tensor:
        outputs = [model(*batch.inputs).float() for batch in parts[index]]
        return torch.cat([torch.empty(0, num_classes, device=device), *outputs]).softmax(1)

    return _one_below_the_other(part, num_classes, axis, device)


def _one_below_the_other(
    work: Callable[[int], Tensor], num_columns: int, axis: Axis, device: torch.device
) -> Tensor:
    """The rows of work(0) ... work(NUM_PARTS - 1). Every rank of the axis must call."""
    mine = {part: work(part) for part in parts_of(axis.rank, axis.size)}
    counts = torch.zeros(NUM_PARTS, dtype=torch.int64, device=device)
    for part, rows in mine.items():
        counts[part] = len(rows)
    ends = sum_(counts, axis).cumsum(0).tolist()
    whole = torch.zeros(ends[-1], num_columns, device=device)
    for part, rows in mine.items():
        whole[ends[part] - len(rows) : ends[part]] = rows
    return sum_(whole, axis)  # each row is zero on all ranks but one
