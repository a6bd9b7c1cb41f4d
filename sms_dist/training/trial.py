"""Ways of taking a step, timed in turn: how a run finds out what is faster on its machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from sms_dist.base.randomness import stream
from sms_dist.data.loader import Batch, Loader
from sms_dist.mesh.topology import Axis

TURNS = 7  # of each way, after one that does not count
SECONDS = 10.0  # after which there is no further turn
WORTH = 0.95  # of the time of the usual way, below which another one is taken


def seconds_of(ways: Sequence[Callable[[], None]], device: torch.device) -> list[list[float]]:
    """Of each way, several times in turn."""
    taken: list[list[float]] = [[] for _ in ways]
    begin = time.perf_counter()
    for turn in range(TURNS + 1):
        for seconds, way in zip(taken, ways, strict=True):
            seconds.append(seconds_once(way, device))
        if turn and time.perf_counter() - begin > SECONDS:
            break
    return [seconds[1:] for seconds in taken]


def seconds_once(way: Callable[[], None], device: torch.device) -> float:
    """Until it is done on the device too."""
    _wait(device)
    start = time.perf_counter()
    way()
    _wait(device)
    return time.perf_counter() - start


def first_batch(loader: Loader, seed: int, phase: int, axis: Axis) -> Batch:
    """My share of a batch to try with."""
    address = (seed, "trial", phase)
    order, augmentation = stream(*address, 0), stream(*address, 1)
    return next(loader.epoch(order, augmentation, axis.rank, axis.size))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
