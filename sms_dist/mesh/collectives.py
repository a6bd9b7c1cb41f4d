"""Collectives between ranks: sums, JSON values, whole states, without pickle."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sms_dist.mesh.division import NUM_PARTS, parts_of
from sms_dist.mesh.handshake import differences
from sms_dist.mesh.topology import Axis

T = TypeVar("T")


def sum_(tensor: Tensor, axis: Axis) -> Tensor:
    """Sum a tensor over the ranks of the axis, in place. Every rank of the axis must call."""
    if axis.size > 1:
        dist.all_reduce(tensor, group=axis.group)
    return tensor


def any_(flags: Mapping[str, Tensor], axis: Axis) -> dict[str, Tensor]:
    """Return bool tensors, true where they are on any rank of the axis. Every rank must call."""
    if axis.size == 1:
        return dict(flags)
    flat = torch.cat([flag.flatten() for flag in flags.values()]).to(torch.uint8)
    dist.all_reduce(flat, dist.ReduceOp.MAX, group=axis.group)
    pieces = torch.split(flat.bool(), [flag.numel() for flag in flags.values()])
    return {name: piece.view(flags[name].shape) for name, piece in zip(flags, pieces, strict=True)}


def largest_(values: Tensor, axis: Axis) -> Tensor:
    """Take the largest over the ranks of the axis, in place, of numbers in the host's memory.

    So no device is waited for. Every rank of the axis must call.
    """
    if axis.size > 1:
        assert axis.host_group is not None, "only ranks that train together have one"
        dist.all_reduce(values, dist.ReduceOp.MAX, group=axis.host_group)
    return values


def broadcast_(tensor: Tensor, axis: Axis) -> Tensor:
    """Copy the tensor of the axis' first rank, in place. Every rank of the axis must call."""
    if axis.size > 1:
        dist.broadcast(tensor, group=axis.group, group_src=0)
    return tensor


def gather(tensor: Tensor, axis: Axis) -> Tensor:
    """Return the tensors of all ranks of the axis, equal in shape: [ranks, ...].

    Every rank of the axis must call.
    """
    if axis.size == 1:
        return tensor[None]
    sent = _on_wire(tensor.contiguous(), axis)
    received = sent.new_empty(axis.size, *sent.shape)
    dist.all_gather(list(received), sent, group=axis.group)
    return received.to(tensor.device)


def exchange(pieces: Tensor, counts: Sequence[int], axis: Axis) -> Tensor:
    """Send pieces[k] to rank k; return the pieces that were sent here, one after the other.

    `pieces` are [ranks, own count, length]; `counts` are the numbers of rows that each rank of the
    axis sends (to everybody the same). Every rank of the axis must call.
    """
    if axis.size == 1:
        return pieces[0]
    sent = _on_wire(pieces.flatten(0, 1).contiguous(), axis)
    received = sent.new_empty(sum(counts), pieces.shape[2])
    own = [pieces.shape[1]] * axis.size
    dist.all_to_all_single(received, sent, list(counts), own, group=axis.group)
    return received.to(pieces.device)


def gather_json(value: Any, axis: Axis, device: torch.device) -> list[Any]:
    """Return the JSON value of every rank of the axis. Every rank of the axis must call.

    Each writes its text at its place in the whole, so that empty values cost nothing: with
    thousands of ranks most are nearly empty.
    """
    text = _as_bytes(value, device)
    lengths = torch.zeros(axis.size, dtype=torch.int64, device=device)
    lengths[axis.rank] = text.numel()
    ends = [0, *sum_(lengths, axis).cumsum(0).tolist()]
    whole = torch.zeros(ends[-1], dtype=torch.uint8, device=device)
    whole[ends[axis.rank] : ends[axis.rank + 1]] = text
    text_of_all = sum_(whole, axis).cpu().numpy().tobytes()
    return [json.loads(text_of_all[start:end]) for start, end in pairwise(ends)]


def from_first(function: Callable[[], T], axis: Axis, device: torch.device) -> T:
    """Return on all ranks the JSON that `function` returns on the first one, or raise its error.

    Every rank of the axis must call; only the first one runs the function.
    """
    text = _as_bytes(_attempt(function) if axis.is_first else None, device)
    length = broadcast_(torch.tensor([text.numel()], device=device), axis)
    answer = text if axis.is_first else text.new_empty(int(length))
    value, complaint = json.loads(broadcast_(answer, axis).cpu().numpy().tobytes())
    if complaint is not None:
        raise ValueError(complaint)
    return value  # type: ignore[no-any-return]


def together(function: Callable[[], T], axis: Axis, device: torch.device) -> T:
    """Run `function` on all ranks; an error of one is raised by all. All ranks must call."""
    value, complaint = _attempt(function)
    num_complaints = sum_(torch.tensor([int(complaint is not None)], device=device), axis)
    if num_complaints.item():
        complaints = gather_json(complaint, axis, device)
        raise ValueError(next(each for each in complaints if each is not None))
    return value  # type: ignore[return-value]


def alike(function: Callable[[], T], what: str, axis: Axis, device: torch.device) -> T:
    """Run `function` on all ranks and return its JSON value, which must be the same on all.

    ValueError on all of them if it raises one on any, or if two values differ. All ranks must call.
    """
    cause, text = None, ""
    try:
        value = function()
        text = json.dumps(value)
    except (ValueError, OSError) as error:
        cause = error
    complaint = None if cause is None else str(cause)
    everyone = gather_json([text, complaint], axis, device)
    for _, problem in everyone:
        if problem is not None:
            raise ValueError(problem) from cause
    for rank, (theirs, _) in enumerate(everyone):
        if theirs != everyone[0][0]:
            raise ValueError(
                f"ranks do not agree on {what}: {everyone[0][0]} (rank 0), {theirs} (rank {rank})"
            ) from cause
    return value


def agree(facts: Mapping[str, str], axis: Axis, device: torch.device) -> None:
    """Make sure that all ranks hold the same facts; RuntimeError with a line for each difference.

    Ranks are named by their place on the axis. Every rank of the axis must call.
    """
    if _is_same(dict(facts), axis, device):
        return
    everyone = gather_json([dict(facts), platform.node()], axis, device)
    lines = differences([theirs for theirs, _ in everyone], [host for _, host in everyone])
    raise RuntimeError("\n".join(lines))


def broadcast_state_(state: Mapping[str, Tensor], axis: Axis) -> None:
    """Copy the state of the axis' first rank, in place. All ranks must call."""
    for tensor in state.values():
        broadcast_(tensor, axis)


def _is_same(facts: Mapping[str, str], axis: Axis, device: torch.device) -> bool:
    """Compare by a hash: 64 bytes a rank, however many ranks. Every rank of the axis must call."""
    if axis.size == 1:
        return True
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()
    own = torch.tensor(list(digest), dtype=torch.uint8, device=device)
    both = torch.stack([own, 255 - own])
    dist.all_reduce(both, dist.ReduceOp.MAX, group=axis.group)
    largest, smallest = both[0], 255 - both[1]
    return torch.equal(largest, smallest)


def _as_bytes(value: Any, device: torch.device) -> Tensor:
    """Return JSON as uint8."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)


def _on_wire(tensor: Tensor, axis: Axis) -> Tensor:
    """Return the tensor where the backend can send it: gloo needs the host's memory."""
    return tensor.cpu() if dist.get_backend(axis.group) == "gloo" else tensor


def _attempt(function: Callable[[], T]) -> tuple[T | None, str | None]:
    try:
        return function(), None
    except (ValueError, OSError) as error:
        return None, str(error)


_COLUMNS = 1 << 16  # values that are summed over ranks together: a table of 32 MiB


def sum_over_parts(
    work: Callable[[int], Tensor], num_values: int, axis: Axis, device: torch.device
) -> Tensor:
    """Return the sum of work(0) ... work(NUM_PARTS - 1), float64 [num_values] each, in this order.

    The number of parts is fixed and each part is worked on by one rank alone, so neither rounding
    nor order depends on the number of ranks. Every rank of the axis must call.
    """
    own = parts_of(axis.rank, axis.size)
    total = torch.zeros(num_values, dtype=torch.float64, device=device)
    if axis.size == 1:
        for part in own:
            total += work(part)
            axis.moved()
        return total
    rows = total.new_empty(len(own), num_values)
    for row, part in zip(rows, own, strict=True):
        row.copy_(work(part))
        axis.moved()
    pairs = zip(torch.split(total, _COLUMNS), torch.split(rows, _COLUMNS, 1), strict=True)
    for some_total, some_rows in pairs:
        _add_in_order_(some_total, some_rows, own, axis)
    return total


def _add_in_order_(total: Tensor, rows: Tensor, own: range, axis: Axis) -> None:
    """Add the rows of all ranks in order; `rows` are mine, and zero on all other ranks."""
    table = total.new_zeros(NUM_PARTS, len(total))
    table[own.start : own.stop] = rows
    for row in sum_(table, axis).unbind():
        total += row
