"""One split as a `Loader`: the order of the resident one, batches from the pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.data.loader import Batch, Loader
from sms_dist.data.order import Step, part_indices, windowed
from sms_dist.data.pixels import Pixels
from sms_dist.data.streaming.bad_samples import BadSamples
from sms_dist.data.streaming.pool import Pool
from sms_dist.data.streaming.read_ahead import ReadAhead
from sms_dist.data.streaming.reader import Raw, Request


class Streaming(Loader):
    """Samples of shards, read while they are asked for, and somewhat ahead."""

    def __init__(
        self,
        split: str,
        sizes: Sequence[int],
        batch_size: int,
        num_mixed: int | None,
        pixels: Pixels,
        pool: Pool,
        bad: BadSamples,
        device: torch.device,
    ) -> None:
        """`sizes`: samples of the split in each shard, of which `num_mixed` are mixed at a time."""
        super().__init__(sum(sizes), batch_size)
        self._split, self._sizes, self._num_mixed = split, tuple(sizes), num_mixed
        self._pool, self._bad, self._device = pool, bad, device
        self._pixels = pixels
        self._ahead = ReadAhead(pool, bad)

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        requests = [
            Request(self._split, step.own.numpy(), len(step.everyone), augmentation)
            for step in steps
        ]
        return (self._batch(self._bad.checked(raw)) for raw in self._pool.run(requests))

    def part(self, index: int, num_parts: int, batch_size: int | None = None) -> Iterator[Batch]:
        """One of several readers' batches, in stored order, not augmented; there may be none.

        Damaged samples are left out. The parts that are likely to follow are read ahead.
        """
        size = batch_size or self._batch_size

        def requests(part: int) -> list[Request]:
            pieces = part_indices(self.num_samples, size, part, num_parts)
            return [Request(self._split, piece.numpy(), len(piece), None) for piece in pieces]

        raws = self._ahead.part(index, num_parts, requests)
        return (self._batch(raw) for raw in raws if raw.size)

    def stored(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images (uint8) and targets as they are stored, without those that are damaged."""
        request = Request(self._split, np.arange(start, stop), stop - start, None)
        (raw,) = self._pool.run([request])
        raw = self._bad.checked(raw)
        return raw.images, raw.targets

    def _order(self, order: Stream) -> Tensor:
        if self._num_mixed is None:
            return super()._order(order)
        return windowed(self._sizes, self._num_mixed, order)

    def _batch(self, raw: Raw) -> Batch:
        images, targets = self._moved(raw.images), self._moved(raw.targets)
        subgroups = None if raw.subgroups is None else self._moved(raw.subgroups)
        inputs = self._pixels.normalised(images)
        return Batch((inputs,), targets.long(), raw.size, float(raw.size), subgroups)

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)
