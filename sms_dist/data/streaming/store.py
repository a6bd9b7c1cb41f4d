"""The stored samples by number, whichever shard they lie in."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sms_dist.data.archive import Place, read
from sms_dist.data.streaming.positions import KEY, Positions

MAX_OPEN = 128  # files


class ReadError(Exception):
    """A shard that was there when it was opened cannot be read any more."""


class Store:
    """Random access to the samples of some shards; the numbers follow their stored order."""

    def __init__(self, shards: Sequence[Path], positions: Sequence[Positions]) -> None:
        self._shards, self._positions = tuple(shards), tuple(positions)
        self._starts = np.array([0, *accumulate(map(len, positions))])
        self._open: OrderedDict[int, int] = OrderedDict()  # shard -> descriptor, the oldest first

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def starts(self) -> NDArray[np.int64]:
        """The number of each shard's first sample, then of all samples."""
        return self._starts

    def name(self, number: int) -> str:
        """Shard and key of a sample, for messages."""
        shard, row = self._find(number)
        key = bytes(self._positions[shard][row][KEY]).decode("utf-8", "replace")
        return f"{self._shards[shard]}: sample {key}"

    def fields(self, number: int, extensions: Sequence[str]) -> dict[str, bytes]:
        """The contents of a sample's files by extension; those that it lacks are left out."""
        shard, row = self._find(number)
        entry = self._positions[shard][row]
        wanted = [extension for extension in extensions if extension in entry.dtype.names]
        places = {extension: Place(*entry[extension].tolist()) for extension in wanted}
        try:
            file = self._descriptor(shard)
            return {name: read(file, place) for name, place in places.items() if place.size >= 0}
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ReadError(f"{self._shards[shard]} cannot be read any more ({reason})") from None

    def _find(self, number: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return shard, number - int(self._starts[shard])

    def _descriptor(self, shard: int) -> int:
        """Of the open file. Worker processes share those of their parent: reads name an offset."""
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) == MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[shard] = os.open(self._shards[shard], os.O_RDONLY)
        return self._open[shard]

    def __del__(self) -> None:
        for file in self._open.values():
            os.close(file)
