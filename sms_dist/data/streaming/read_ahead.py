"""Reads the parts of a split ahead that a rank is likely to ask for next."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sms_dist.data.streaming.bad_samples import BadSamples
from sms_dist.data.streaming.pool import Pool
from sms_dist.data.streaming.reader import Raw, Request

Place = tuple[int, int, int]  # of a batch: part, number of parts, number in the part


class ReadAhead:
    """Evaluation asks each rank for some of the parts in turn, each of a few batches only.

    So workers would often have nothing to do if they waited for the next part to be asked for.
    What was guessed wrongly is read again: a guess never changes what comes out.
    """

    def __init__(self, pool: Pool, bad: BadSamples) -> None:
        self._pool, self._bad = pool, bad
        self._last, self._stride = 0, 1
        self._places: list[Place] = []  # that are being read, the next one last
        self._batches: Iterator[Raw] = iter(())

    def part(
        self, index: int, num_parts: int, requests: Callable[[int], list[Request]]
    ) -> Iterator[Raw]:
        """The batches of a part, whose requests are given for each part."""
        if index > self._last:
            self._stride = index - self._last
        self._last = index
        for number in range(len(requests(index))):
            place = (index, num_parts, number)
            if not self._places or self._places[-1] != place:
                self._start(place, requests)
            self._places.pop()
            yield self._bad.checked(next(self._batches))

    def _start(self, place: Place, requests: Callable[[int], list[Request]]) -> None:
        """Read from a batch on to the last one of the last part."""
        first, num_parts, number = place
        expected = [
            ((part, num_parts, i), request)
            for part in range(first, num_parts, self._stride)
            for i, request in enumerate(requests(part))
            if (part, i) >= (first, number)
        ]
        self._places = [place for place, _ in reversed(expected)]
        self._batches = self._pool.run([request for _, request in expected])
