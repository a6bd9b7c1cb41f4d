"""Gradients under a mask: pruned weights get none, and only surviving ones travel between ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket
from torch.futures import Future

from sms_dist.mesh.topology import Axis
from sms_dist.pruning.mask import Mask, apply_

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes, as wide as a gradient


class GradientMask:
    """Zeroes the pruned weights, and on demand their gradients, of all tensors in one operation.

    It multiplies integers: the bits of a gradient times one or zero. What is pruned becomes +0.0
    whatever it was; floats would keep NaN, infinity times zero, and the sign of zero. It needs as
    many bytes for a prunable weight as its gradient has.
    """

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        parameters = dict(model.named_parameters())
        apply_({name: p.detach() for name, p in parameters.items()}, mask)
        pruned = {parameters[name]: kept for name, kept in mask.items() if not kept.all()}
        self._parameters = list(pruned)
        self._kept = [_as_integers(kept, parameter) for parameter, kept in pruned.items()]

    @property
    def prunes(self) -> bool:
        """Return True if any weight is pruned."""
        return bool(self._parameters)

    def weights_(self) -> None:
        """Zero the pruned weights: some optimizers move weights that have no gradient."""
        if self._parameters:
            pairs = zip(self._parameters, self._kept, strict=True)
            torch._foreach_mul_([p.detach().view(k.dtype) for p, k in pairs], self._kept)

    def gradients_(self) -> None:
        """Zero the gradients of the pruned weights."""
        pairs = zip(self._parameters, self._kept, strict=True)
        present = [(p.grad.view(kept.dtype), kept) for p, kept in pairs if p.grad is not None]
        if present:
            gradients, kept = zip(*present, strict=True)
            torch._foreach_mul_(gradients, kept)


def hold_mask(model: nn.Module, mask: Mask) -> None:
    """Zero the pruned weights and let no gradient reach them, by hooks.

    This is for engines that reduce gradients while they arrive. Call it before they wrap the model.
    """
    parameters = dict(model.named_parameters())
    apply_({name: p.detach() for name, p in parameters.items()}, mask)
    for name, kept in mask.items():
        hook = partial(_without, ~kept)
        parameters[name].register_hook(hook)  # type: ignore[no-untyped-call]


def _without(pruned: Tensor, gradient: Tensor) -> Tensor:
    return gradient.masked_fill(pruned, 0)


def _as_integers(kept: Tensor, parameter: Tensor) -> Tensor:
    """Return the mask as integers, laid out in memory as the parameter and its gradient are."""
    dtype = INTEGERS[parameter.element_size()]
    return torch.empty_like(parameter, dtype=dtype, requires_grad=False).copy_(kept)


@dataclass(frozen=True)
class _Exchange:
    """A bucket that is being exchanged."""

    buffer: Tensor
    places: Tensor  # where in the buffer that lies which travels
    sent: Tensor  # [size x share], what travels and zeros after it
    received: Tensor  # [size, share], my share of each rank's
    work: dist.Work
    done: Future[Tensor]


class SurvivingGradients:
    """A communication hook of DDP that averages the gradients of surviving weights only.

    They are added up in the order of ranks: each rank adds up a share of them and sends the sums to
    all. That is as many bytes as a ring sends, of less. With two ranks the bits are those of DDP.
    From three on, the order in which an all-reduce adds depends on the place in the buffer, so its
    bits differ from these. Every rank has the same mask, and hands over the same buckets in order.
    """

    def __init__(self, model: nn.Module, mask: Mask, axis: Axis) -> None:
        self._axis = axis
        self._kept: dict[Tensor, Tensor] = {
            p: mask[name] for name, p in model.named_parameters() if name in mask
        }
        self._places: dict[int, tuple[list[Tensor], Tensor]] = {}  # of each bucket
        self._exchanges: list[_Exchange] = []

    def mean(self, bucket: GradBucket) -> Future[Tensor]:
        """Return the bucket's buffer, once it holds the mean. All ranks must call, as DDP does."""
        exchange = self._begin(bucket)
        self._exchanges.append(exchange)
        if bucket.is_last():
            self._finish()
        return exchange.done

    def _begin(self, bucket: GradBucket) -> _Exchange:
        """Send every rank its share, while the backward pass goes on."""
        axis, buffer = self._axis, bucket.buffer()
        places = self._places_in(bucket)
        share = max(1, -(-len(places) // axis.size))
        compact = buffer.new_zeros(axis.size * share)
        torch.index_select(buffer, 0, places, out=compact[: len(places)])
        compact.mul_(1 / axis.size)  # before the sum, as DDP does
        # gloo exchanges only what lies in the host's memory
        sent = compact.cpu() if dist.get_backend(axis.group) == "gloo" else compact
        received = torch.empty_like(sent)
        work = dist.all_to_all_single(received, sent, group=axis.group, async_op=True)
        assert work is not None
        devices: list[int | str | torch.device] = [buffer.device] if buffer.is_cuda else []
        done: Future[Tensor] = Future(devices=devices)
        return _Exchange(buffer, places, sent, received.view(axis.size, -1), work, done)

    def _finish(self) -> None:
        """Add up and send back, after the last bucket: so collectives begin in the same order."""
        exchanges, self._exchanges = self._exchanges, []
        returning = [self._add_up(exchange) for exchange in exchanges]
        for exchange, work in zip(exchanges, returning, strict=True):
            work.wait()
            means = exchange.sent[: len(exchange.places)].to(exchange.buffer.device)
            exchange.buffer.index_copy_(0, exchange.places, means)
            exchange.done.set_result(exchange.buffer)

    def _add_up(self, exchange: _Exchange) -> dist.Work:
        exchange.work.wait()
        total, *others = exchange.received
        for other in others:
            total += other
        sums = list(exchange.sent.view_as(exchange.received))
        work: dist.Work = dist.all_gather(sums, total, group=self._axis.group, async_op=True)
        return work

    def _places_in(self, bucket: GradBucket) -> Tensor:
        """Return where in the bucket surviving gradients, and those without a mask, lie."""
        parameters = bucket.parameters()
        known, places = self._places.get(bucket.index(), ([], None))
        # DDP makes its buckets anew after the first step
        if places is None or list(map(id, known)) != list(map(id, parameters)):
            travels = torch.cat([self._travels(parameter) for parameter in parameters])
            places = travels.nonzero().flatten()
            self._places[bucket.index()] = parameters, places
        return places

    def _travels(self, parameter: Tensor) -> Tensor:
        """Return flags in the order in which the parameter, and so its gradient, lies in memory."""
        flags = torch.ones_like(parameter, dtype=torch.bool, requires_grad=False)
        if parameter in self._kept:
            flags.copy_(self._kept[parameter])
        return flags.as_strided((flags.numel(),), (1,))
