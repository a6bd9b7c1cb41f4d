"""How models fare on corrupted test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sms_dist.data.corruptions import CorruptedSet
from sms_dist.data.loader import Batch, part_indices, steps_per_epoch
from sms_dist.mesh.collectives import sum_over_parts
from sms_dist.mesh.division import NUM_PARTS
from sms_dist.training.context import Context


@torch.no_grad()
def corrupted_scores(
    context: Context, models: Sequence[nn.Module], corrupted: CorruptedSet
) -> list[float]:
    """Each model's score on one corrupted copy of the test images, made once for all of them.

    Batch norm stays as it was found on clean images. Every rank must call.
    """
    task, device, num = context.task, context.mesh.device, context.task.num_totals
    for model in models:
        model.eval()

    def part(index: int) -> Tensor:
        totals = torch.zeros(len(models), num, dtype=torch.float64, device=device)
        for batch in _batches(context, corrupted, index):
            totals += torch.stack([task.totals(model, batch) for model in models])
        return totals.flatten()

    totals = sum_over_parts(part, len(models) * num, context.mesh.world, device)
    return [task.metrics(row)[task.score] for row in totals.view(len(models), num)]


def some_batches(count: int, batch_size: int, wanted: int, index: int) -> Iterator[Tensor]:
    """Of a part, the places in whole batches; in all parts together about as many as are wanted,
    from all over the set."""
    num_batches = steps_per_epoch(count, batch_size)
    num_wanted = max(1, min(num_batches, round(wanted / count * num_batches)))
    for places in part_indices(count, batch_size, index, NUM_PARTS):
        number = -(-int(places[0]) * num_batches // count)
        if number * num_wanted // num_batches != (number + 1) * num_wanted // num_batches:
            yield places


def _batches(context: Context, corrupted: CorruptedSet, index: int) -> Iterator[Batch]:
    """Of one of the parts; sub-groups are not asked for."""
    pixels, config = context.loaders.pixels, context.config.data
    assert pixels is not None, "checked before anything starts"
    wanted = config.corruption_samples or corrupted.count
    for places in some_batches(corrupted.count, config.batch_size, wanted, index):
        images, targets = corrupted.read(int(places[0]), int(places[-1]) + 1)
        inputs = pixels.normalised(images.to(context.mesh.device))
        size = len(places)
        yield Batch((inputs,), targets.to(context.mesh.device).long(), size, float(size))
