"""When a training is saved so that a later start can go on from its middle, and when it stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sms_dist.config import RecordsConfig
from sms_dist.mesh.collectives import gather_json, largest_
from sms_dist.mesh.control import Control, Stopped
from sms_dist.mesh.topology import Axis

LOOK_SECONDS = 0.25  # of training between two looks at what the other ranks of the group want
LEAST_WORTH = 50  # times what a point costs: so long the training goes on before the next one
Tensors = Mapping[str, Tensor]


class Saved(NamedTuple):
    """A training between two steps."""

    shared: Tensors  # the same on all ranks of the group
    own: Tensors  # of this rank
    document: Mapping[str, Any]  # JSON; "steps": those done


class Points(Protocol):
    """This rank's files of the recovery points, as `records.recovery` keeps them."""

    seconds: float

    @property
    def is_busy(self) -> bool: ...
    def find(self, rank: int) -> dict[int, Any]: ...
    def load(self, found: Any) -> dict[str, Tensor]: ...
    def go_on_from(self, found: Any) -> None: ...
    def write(self, tensors: Tensors, document: Mapping[str, Any]) -> None: ...
    def finish(self) -> None: ...


class Keeper:
    """Looks up from the training now and then, together with the other ranks of the group.

    All that talks is inside `last` and `after_step`, which every rank of the group calls, after the
    same steps. No other group takes part.
    """

    def __init__(
        self,
        points: Points,
        axis: Axis,
        control: Control,
        records: RecordsConfig,
        device: torch.device,
    ) -> None:
        self._points, self._axis, self._device = points, axis, device
        self._control, self._records = control, records
        self._next_look = 0
        self._looked = self._saved = time.monotonic()
        self._last_look = 0

    def last(self, is_sharded: bool) -> Saved | None:
        """The last point of this training that is whole on all ranks of the group, if there is one.

        `is_sharded`: is the engine's state spread over the ranks? Else a point by another number of
        ranks will do. Every rank of the group must call.
        """
        everyone, axis = self._points.find(0), self._axis
        mine = self._points.find(axis.rank)
        if not is_sharded:  # what another number of ranks had of their own can be done without
            mine = {n: f for n, f in everyone.items() if f.document["ranks"] != axis.size} | mine
        usable = sorted(everyone.keys() & mine.keys())
        steps = _newest(gather_json(usable, axis, self._device))
        if steps is None:
            return None
        first, own = everyone[steps], mine[steps]
        self._points.go_on_from(first)
        self._next_look = self._last_look = steps
        shared = section(self._points.load(first), "shared.")
        if own.document["ranks"] != axis.size:
            return Saved(shared, {}, first.document)
        return Saved(shared, section(self._points.load(own), "own."), first.document)

    def after_step(self, steps: int, capture: Callable[[], Saved]) -> None:
        """Save what `capture` gives if it is time to, or if somebody wants to stop: then Stopped.

        `steps`: those done. Every rank of the group must call.
        """
        self._control.moved(steps)
        every = self._records.every_steps
        is_due = bool(every) and steps % (every or 1) == 0
        if steps >= self._next_look or is_due:
            self._look(steps, capture, is_due)

    def finish(self) -> None:
        """Wait until what this rank has begun to write is on the disk."""
        self._points.finish()

    def _look(self, steps: int, capture: Callable[[], Saved], is_due: bool) -> None:
        if is_due:
            self._points.finish()
        wishes = self._wishes(steps, is_due)
        is_stopping, is_due, is_busy, gap = wishes
        self._next_look = steps + gap
        if is_stopping:
            self._stop(capture)
        if is_due and not is_busy:
            self._save(capture)

    def _wishes(self, steps: int, is_due: bool) -> tuple[bool, bool, bool, int]:
        """Of the group: stop, save, not yet, steps until the next look."""
        now = time.monotonic()
        mine = [
            self._control.requested is not None,
            is_due or self._is_time(now),
            self._points.is_busy,
            self._gap(steps, now),
        ]
        if self._axis.size == 1:
            stop, save, busy, gap = map(int, mine)
        else:
            stop, save, busy, gap = largest_(torch.tensor(mine), self._axis).tolist()
        return bool(stop), bool(save), bool(busy), gap

    def _is_time(self, now: float) -> bool:
        every = self._records.every_seconds
        if every is None or not self._axis.is_first:
            return False
        return now - self._saved >= max(every, LEAST_WORTH * self._points.seconds)

    def _gap(self, steps: int, now: float) -> int:
        """Steps that last about as long as there is to be between two looks."""
        seconds = max(now - self._looked, 1e-6) / max(steps - self._last_look, 1)
        self._looked, self._last_look = now, steps
        return max(1, min(1000, round(LOOK_SECONDS / seconds)))

    def _save(self, capture: Callable[[], Saved]) -> None:
        self._saved = time.monotonic()
        saved = capture()
        tensors = {f"own.{name}": t for name, t in saved.own.items()}
        if self._axis.is_first:
            tensors |= {f"shared.{name}": t for name, t in saved.shared.items()}
        # To the CPU, and copied: the next step changes what is on the device.
        copies = {name: _copy(tensor) for name, tensor in tensors.items()}
        self._points.write(copies, {**saved.document, "ranks": self._axis.size})

    def _stop(self, capture: Callable[[], Saved]) -> None:
        self._points.finish()
        self._together()  # or a rank would write over the only point that another one has whole
        self._save(capture)
        self._points.finish()
        self._together()
        raise Stopped

    def _together(self) -> None:
        largest_(torch.zeros(1, dtype=torch.int64), self._axis)


def _newest(usable: list[list[int]]) -> int | None:
    """The largest number that is in all lists."""
    common = set.intersection(*map(set, usable))
    return max(common, default=None)


def section(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, under the rest of their names."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
