"""Gradients under a mask: only those of surviving weights travel between ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket
from torch.futures import Future

from sms_dist.mesh.topology import Axis
from sms_dist.pruning.mask import Mask


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
