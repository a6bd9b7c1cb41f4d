"""The damaged samples that a rank has met, up to the number that is allowed."""

from __future__ import annotations

from sms_dist.data.streaming.reader import Raw

FIELD = "data.max_bad_samples"


class BadSamples:
    """Remembers what is wrong with each, once; one too many is an error."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found: dict[str, None] = {}

    @property
    def found(self) -> tuple[str, ...]:
        """A line for each: shard, key and fault."""
        return tuple(self._found)

    def checked(self, raw: Raw) -> Raw:
        """The batch; ValueError in one line where there is none, or too many are damaged."""
        self._found |= dict.fromkeys(raw.bad)
        if len(self._found) > self._limit:
            last = next(reversed(self._found))
            if self._limit == 0:
                raise ValueError(f"{last}; {FIELD} is the number to leave out")
            raise ValueError(
                f"{len(self._found)} samples are damaged, more than {FIELD}={self._limit};"
                f" the last one: {last}"
            )
        if raw.fault is not None:
            raise ValueError(raw.fault)
        return raw
