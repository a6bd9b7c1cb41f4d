"""The first samples of a split, in batches of another size: for measuring how fast it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data.loader import Batch, Loader
from data.order import Step
from sms_dist.randomness import Stream


class Excerpt(Loader):
    """Batches are made as the loader makes them, of no more than `num_samples` samples."""

    def __init__(self, loader: Loader, batch_size: int, num_samples: int) -> None:
        super().__init__(min(num_samples, loader.num_samples), batch_size)
        self._loader = loader

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        return self._loader._batches(steps, augmentation)
