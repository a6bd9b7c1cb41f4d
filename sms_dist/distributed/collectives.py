"""What ranks tell each other: sums, JSON values and whole states. No pickle travels."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sms_dist.distributed.disagreement import differences
from sms_dist.distributed.topology import Axis

T = TypeVar("T")


def sum_(tensor: Tensor, axis: Axis) -> Tensor:
    """The sum over the ranks of the axis, in place. Every rank of the axis must call."""
    if axis.size > 1:
        dist.all_reduce(tensor, group=axis.group)
    return tensor


def any_(flags: Mapping[str, Tensor], axis: Axis) -> dict[str, Tensor]:
    """Named bool tensors, true where they are on any rank of the axis. Every rank must call."""
    if axis.size == 1:
        return dict(flags)
    flat = torch.cat([flag.flatten() for flag in flags.values()]).to(torch.uint8)
    dist.all_reduce(flat, dist.ReduceOp.MAX, group=axis.group)
    pieces = torch.split(flat.bool(), [flag.numel() for flag in flags.values()])
    return {name: piece.view(flags[name].shape) for name, piece in zip(flags, pieces, strict=True)}


def largest_(values: Tensor, axis: Axis) -> Tensor:
    """The largest over the ranks of the axis, in place, of numbers in the host's memory: no device
    is waited for. Every rank of the axis must call."""
    if axis.size > 1:
        dist.all_reduce(values, dist.ReduceOp.MAX, group=axis.host_group)
    return values


def broadcast_(tensor: Tensor, axis: Axis) -> Tensor:
    """What the axis' first rank has, in place. Every rank of the axis must call."""
    if axis.size > 1:
        dist.broadcast(tensor, group=axis.group, group_src=0)
    return tensor


def gather(tensor: Tensor, axis: Axis) -> Tensor:
    """[ranks, ...]: the tensor of every rank of the axis, equal in shape.

    Every rank of the axis must call.
    """
    if axis.size == 1:
        return tensor[None]
    sent = _on_wire(tensor.contiguous(), axis)
    received = sent.new_empty(axis.size, *sent.shape)
    dist.all_gather(list(received), sent, group=axis.group)
    return received.to(tensor.device)


def exchange(pieces: Tensor, counts: Sequence[int], axis: Axis) -> Tensor:
    """Send pieces[k] to rank k; what the others sent here, one after the other.

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
    """The JSON value of every rank of the axis. Every rank of the axis must call."""
    data = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=device)
    lengths = [int(n) for n in gather(torch.tensor([data.numel()], device=device), axis)]
    padded = torch.zeros(max(lengths), dtype=torch.uint8, device=device)
    padded[: data.numel()] = data
    texts = zip(gather(padded, axis), lengths, strict=True)
    return [json.loads(bytes(text[:length].tolist())) for text, length in texts]


def from_first(function: Callable[[], T], axis: Axis, device: torch.device) -> T:
    """What `function` returns (JSON) or complains of on the axis' first rank, on all of them.

    Every rank of the axis must call; only the first one runs the function.
    """
    answer, complaint = _attempt(function) if axis.is_first else (None, None)
    value, complaint = gather_json([answer, complaint], axis, device)[0]
    if complaint is not None:
        raise ValueError(complaint)
    return value  # type: ignore[no-any-return]


def together(function: Callable[[], T], axis: Axis, device: torch.device) -> T:
    """Run `function` everywhere; what one rank complains of, all raise. All ranks must call."""
    value, complaint = _attempt(function)
    complaints = [c for c in gather_json(complaint, axis, device) if c is not None]
    if complaints:
        raise ValueError(complaints[0])
    return value  # type: ignore[return-value]


def agree(facts: Mapping[str, str], axis: Axis, device: torch.device) -> None:
    """Make sure that all ranks hold the same facts; RuntimeError with a line for each difference.

    Ranks are named by their place on the axis. Every rank of the axis must call.
    """
    everyone = gather_json([dict(facts), platform.node()], axis, device)
    lines = differences([theirs for theirs, _ in everyone], [host for _, host in everyone])
    if lines:
        raise RuntimeError("\n".join(lines))


def broadcast_state_(state: Mapping[str, Tensor], axis: Axis) -> None:
    """Every tensor of the state as the axis' first rank has it, in place. All ranks must call."""
    for tensor in state.values():
        broadcast_(tensor, axis)


def _on_wire(tensor: Tensor, axis: Axis) -> Tensor:
    """gloo gathers and exchanges only what lies in the host's memory."""
    return tensor.cpu() if dist.get_backend(axis.group) == "gloo" else tensor


def _attempt(function: Callable[[], T]) -> tuple[T | None, str | None]:
    try:
        return function(), None
    except (ValueError, OSError) as error:
        return None, str(error)
