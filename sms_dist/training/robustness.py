"""How models fare on corrupted test images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from data.corrupted import CorruptedSet
from torch import Tensor, nn

from data.loader import Batch, Loader
from data.pixels import Pixels
from sms_dist.distributed.parts import NUM_PARTS, sum_over_parts
from sms_dist.distributed.topology import Axis
from sms_dist.tasks.base import Task


@torch.no_grad()
def corrupted_scores(
    task: Task,
    models: Sequence[nn.Module],
    loader: Loader,
    pixels: Pixels,
    corrupted: CorruptedSet,
    axis: Axis,
) -> list[float]:
    """Each model's score on one corrupted copy of the test images, which all of them share.

    The models' batch norm is not touched. Every rank of the axis must call.
    """
    device = next(models[0].parameters()).device
    num = task.num_totals
    for model in models:
        model.eval()

    def part(index: int) -> Tensor:
        totals = torch.zeros(len(models), num, dtype=torch.float64, device=device)
        for batch in _corrupted(loader.part(index, NUM_PARTS), pixels, corrupted):
            totals += torch.stack([task.totals(model, batch) for model in models])
        return totals.flatten()

    totals = sum_over_parts(part, len(models) * num, axis, device)
    return [task.metrics(row)[task.score] for row in totals.view(len(models), num)]


def _corrupted(
    batches: Iterable[Batch], pixels: Pixels, corrupted: CorruptedSet
) -> Iterator[Batch]:
    for batch in batches:
        (inputs,) = batch.inputs
        images = corrupted.images(pixels.restored(inputs), batch.ids)
        yield batch._replace(inputs=(pixels.normalised(images.to(inputs.device)),))
