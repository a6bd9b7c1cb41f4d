"""Which samples each rank sees at each step: a function of a stream, cut among the ranks last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sms_dist.base.randomness import Stream


class Step(NamedTuple):
    """The indices of a step's samples."""

    own: Tensor  # those of one rank
    everyone: Tensor  # those of all ranks


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Optimizer steps that see every sample once."""
    return -(-num_samples // batch_size)


def windowed(sizes: Sequence[int], num_mixed: int, stream: Stream) -> Tensor:
    """An order of the samples of shards with `sizes` samples, for disks that are slow to seek.

    The shards are permuted and read `num_mixed` at a time, whose samples are permuted: each sample
    once, and no more than `num_mixed` shards are open at any time.
    """
    generator = stream.generator()
    ends = torch.tensor([0, *sizes]).cumsum(0)
    shards = torch.randperm(len(sizes), generator=generator)
    windows = []
    for start in range(0, len(sizes), num_mixed):
        chosen = shards[start : start + num_mixed]
        mixed = torch.cat([torch.arange(int(ends[i]), int(ends[i + 1])) for i in chosen])
        windows.append(mixed[torch.randperm(len(mixed), generator=generator)])
    return torch.cat([torch.empty(0, dtype=torch.int64), *windows])


def cut(
    order: Tensor, batch_size: int, rank: int, num_ranks: int, start_step: int = 0
) -> Iterator[Step]:
    """Each step of an epoch in this order, from `start_step` on.

    Step sizes differ by at most 1, so that no step of an epoch weighs less than the others;
    the union over the ranks does not depend on their number.
    ValueError when a rank would get nothing in some step.
    """
    num_samples = len(order)
    num_steps = steps_per_epoch(num_samples, batch_size)
    assert 0 <= rank < num_ranks, (rank, num_ranks)
    smallest = num_samples // num_steps if num_steps else num_ranks
    if smallest < num_ranks:
        raise ValueError(
            f"data.batch_size={batch_size} cuts {num_samples} samples into steps of {smallest},"
            f" fewer than the {num_ranks} ranks of a candidate;"
            f" try engine.ranks_per_candidate={smallest} or a larger batch"
        )
    return _steps(order, num_steps, rank, num_ranks, start_step)


def part_indices(num_samples: int, batch_size: int, part: int, num_parts: int) -> Iterator[Tensor]:
    """The sample indices of the batches that fall to one of `num_parts` readers, in stored order.

    The batches do not depend on num_parts; a part may get none.
    """
    assert 0 <= part < num_parts, (part, num_parts)
    num_batches = steps_per_epoch(num_samples, batch_size)
    for batch in range(*_bounds(num_batches, part, num_parts)):
        yield torch.arange(*_bounds(num_samples, batch, num_batches))


def _steps(
    order: Tensor, num_steps: int, rank: int, num_ranks: int, start_step: int
) -> Iterator[Step]:
    for step in range(start_step, num_steps):
        start, end = _bounds(len(order), step, num_steps)
        low, high = _bounds(end - start, rank, num_ranks)
        yield Step(order[start + low : start + high], order[start:end])


def _bounds(total: int, piece: int, num_pieces: int) -> tuple[int, int]:
    """Start and end of one of `num_pieces` consecutive pieces whose sizes differ by at most 1."""
    return total * piece // num_pieces, total * (piece + 1) // num_pieces
