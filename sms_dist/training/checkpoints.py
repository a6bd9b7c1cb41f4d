"""Checkpoints of a training: when they are made, which one a later start resumes from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sms_dist.config import RecordsConfig
from sms_dist.config.compare import fingerprint
from sms_dist.engines.state import Tensors, joined, part
from sms_dist.mesh.collectives import gather_json, largest_
from sms_dist.mesh.control import Control, Stopped
from sms_dist.mesh.topology import Axis
from sms_dist.run.checkpoint_files import RankCheckpoints
from sms_dist.run.paths import RunPaths
from sms_dist.soups.states import as_bytes
from sms_dist.training.context import Context

LOOK_SECONDS = 0.25  # of training between two exchanges of what the ranks of the group want
MIN_GAP = 50  # times what a checkpoint costs: the training that lies between two of them


class Checkpoint(NamedTuple):
    """The state of a training between two steps."""

    shared: Tensors  # the same on all ranks of the group
    own: Tensors  # this rank's
    document: Mapping[str, Any]  # JSON; "steps" is the number of steps done


class Checkpointer:
    """Makes the checkpoints of one training, together with the other ranks of the group.

    All communication is inside `last` and `after_step`, which every rank of the group calls after
    the same steps. No other group takes part.
    """

    def __init__(
        self,
        points: RankCheckpoints,
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

    def last(self, is_sharded: bool) -> Checkpoint | None:
        """Return the newest checkpoint that is whole on all ranks of the group; None without one.

        Unless the engine's state is sharded, it may be by another number of ranks. Every rank of
        the group must call.
        """
        everyone, axis = self._points.find(0), self._axis
        mine = self._points.find(axis.rank)
        if not is_sharded:  # a rank can do without its own tensors from another number of ranks
            mine = {n: f for n, f in everyone.items() if f.document["ranks"] != axis.size} | mine
        usable = sorted(everyone.keys() & mine.keys())
        common = set.intersection(*map(set, gather_json(usable, axis, self._device)))
        if not common:
            return None
        steps = max(common)
        first, own = everyone[steps], mine[steps]
        self._points.go_on_from(first)
        self._next_look = self._last_look = steps
        shared = part(self._points.load(first), "shared")
        if own.document["ranks"] != axis.size:
            return Checkpoint(shared, {}, first.document)
        return Checkpoint(shared, part(self._points.load(own), "own"), first.document)

    def after_step(self, steps: int, capture: Callable[[], Checkpoint]) -> None:
        """Save what `capture` returns if it is time to; if a rank wants to stop, raise Stopped.

        `steps` are those done. Every rank of the group must call.
        """
        self._control.moved(steps)
        every = self._records.every_steps
        is_due = bool(every) and steps % (every or 1) == 0
        if steps >= self._next_look or is_due:
            self._look(steps, capture, is_due)

    def finish(self) -> None:
        """Wait until the checkpoint that this rank has begun to write is on the disk."""
        self._points.finish()

    def _look(self, steps: int, capture: Callable[[], Checkpoint], is_due: bool) -> None:
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
        """Return what the group wants: stop, save, not yet save, steps to the next exchange."""
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
        return now - self._saved >= max(every, MIN_GAP * self._points.seconds)

    def _gap(self, steps: int, now: float) -> int:
        """Return the number of steps that last about LOOK_SECONDS."""
        seconds = max(now - self._looked, 1e-6) / max(steps - self._last_look, 1)
        self._looked, self._last_look = now, steps
        return max(1, min(1000, round(LOOK_SECONDS / seconds)))

    def _save(self, capture: Callable[[], Checkpoint]) -> None:
        self._saved = time.monotonic()
        saved = capture()
        tensors = joined({"own": saved.own, "shared": saved.shared if self._axis.is_first else {}})
        # To the CPU, and copied: the next step changes what is on the device.
        copies = {name: _copy(tensor) for name, tensor in tensors.items()}
        self._points.write(copies, {**saved.document, "ranks": self._axis.size})

    def _stop(self, capture: Callable[[], Checkpoint]) -> None:
        self._points.finish()
        self._together()  # or a rank would overwrite the only checkpoint that another has whole
        self._save(capture)
        self._points.finish()
        self._together()
        raise Stopped

    def _together(self) -> None:
        largest_(torch.zeros(1, dtype=torch.int64), self._axis)


def checkpointer(
    context: Context, paths: RunPaths, training: str, axis: Axis, **identity: Any
) -> Checkpointer:
    """Return what makes the checkpoints of a training by the ranks of the axis.

    `training` names their folder. A checkpoint is resumed from only if the configuration and the
    `identity` are those it was made with.
    """
    facts = {"configuration": fingerprint(context.config), **identity}
    points = RankCheckpoints(paths.recovery(training), axis.rank, facts)
    mesh = context.mesh
    return Checkpointer(points, axis, mesh.control, context.config.records, mesh.device)


def state_digest(state: Tensors) -> str:
    """Return a hash of names and bits: a training from other weights is another training."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(as_bytes(tensor.detach().cpu()).numpy().tobytes())
    return digest.hexdigest()


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
