"""Plain PyTorch: DistributedDataParallel inside a group of several ranks, the bare model in one."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sms_dist.distributed.engines.base import (
    Inputs,
    Job,
    Loss,
    hold_mask,
    make_optimizer,
    micro_batches,
)
from sms_dist.distributed.engines.latent import Latent


class DdpEngine:
    def __init__(self, job: Job) -> None:
        self._latent = Latent(job.model, job.rule, tuple(job.mask)) if job.rule else None
        if self._latent is None:
            hold_mask(job.model, job.mask)
        self._job = job
        self._model = self._wrapped()
        self._optimizer = make_optimizer(job)
        self._scaler = torch.amp.GradScaler(enabled=job.dtype is torch.float16)

    def step(self, inputs: Inputs, targets: Tensor, weight: float, rate: float, loss: Loss) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with self._latent.viewed() if self._latent else nullcontext():
            self._backward(inputs, targets, weight, loss)
        self._apply(rate)

    def _backward(self, inputs: Inputs, targets: Tensor, weight: float, loss: Loss) -> None:
        # DDP takes the mean over ranks; wanted is the sum over all ranks / weight.
        scale = self._job.axis.size / weight
        pieces = micro_batches(inputs, targets, self._job.engine.accumulation)
        for piece, wanted, is_last in pieces:
            with self._silent_unless(is_last):
                with self._autocast():
                    value = loss(self._model(*piece), wanted)
                self._scaler.scale(value * scale).backward()  # type: ignore[no-untyped-call]

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self._job.model.named_parameters()}

    is_sharded = False

    def state(self) -> dict[str, Tensor]:
        state = {f"model.{n}": t for n, t in self._job.model.state_dict().items()}
        for i, values in self._optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{k}": v for k, v in values.items() if v is not None}
        return state

    def restore(self, state):
        self._job.model.load_state_dict(
            {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")}
        )
        whole = self._optimizer.state_dict()
        for n, t in state.items():
            if n.startswith("optimizer."):
                _, i, k = n.split(".")
                whole["state"].setdefault(int(i), {})[k] = t
        self._optimizer.load_state_dict(whole)

    def close(self) -> None:
        del self._model, self._optimizer

    def _wrapped(self) -> nn.Module:
        job = self._job
        if job.axis.size == 1:
            return job.model
        with warnings.catch_warnings():
            # The name that replaces broadcast_buffers is not in every torch we support.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                job.model,
                process_group=job.axis.group,
                broadcast_buffers=False,  # batch norm is recomputed before anybody looks at it
                gradient_as_bucket_view=True,
            )

    def _apply(self, rate: float) -> None:
        self._scaler.unscale_(self._optimizer)
        if self._latent:
            self._latent.gradients_()
        if (limit := self._job.optimizer.clip_norm) is not None:
            nn.utils.clip_grad_norm_(self._job.model.parameters(), limit)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._latent:
            self._latent.after_step_()

    def _autocast(self) -> AbstractContextManager[None]:
        dtype = self._job.dtype
        if dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self._job.at.device.type, dtype=dtype)

    def _silent_unless(self, is_last: bool) -> AbstractContextManager[None]:
        """Gradients travel with the last micro-batch only."""
        if is_last or not isinstance(self._model, DistributedDataParallel):
            return nullcontext()
        return self._model.no_sync()
