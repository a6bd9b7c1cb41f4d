"""Plain PyTorch: DistributedDataParallel inside a group of several ranks, the bare model in one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sms_dist.engines import compile_mode
from sms_dist.engines.base import Inputs, Job, Loss, make_optimizer, micro_batches
from sms_dist.engines.compiled import GRAPHS, compiled, explained
from sms_dist.engines.optimizers import OPTIMIZERS
from sms_dist.engines.state import (
    check_restorable,
    copy_,
    joined,
    number,
    optimizer_state,
    part,
    restore_optimizer_state_,
    restore_torch_scaler_,
    torch_scaler_state,
)
from sms_dist.engines.surviving_gradients import SurvivingGradients
from sms_dist.mesh.collectives import together
from sms_dist.pruning.hold import Pruned
from sms_dist.soups.states import SharedBuffers, weights
from sms_dist.sparse_rules.base import Rule


class DdpEngine:
    """Take a candidate's steps with PyTorch alone; every kind of job can be trained with it."""

    def __init__(self, job: Job) -> None:
        self._latent = Latent(job.model, job.rule, tuple(job.mask)) if job.rule else None
        parameters = dict(job.model.named_parameters())
        mask: Mapping[str, Tensor] = {} if job.rule else job.mask
        self._pruned = Pruned({parameters[name]: kept for name, kept in mask.items()})
        self._pruned.weights_()
        self._job = job
        self._compile = compile_mode(job.engine.compile, job.mesh.device.type)
        self._model = self._wrapped()
        self._buffers = SharedBuffers(job.model, job.axis)
        self._optimizer = make_optimizer(job)
        self._has_own_optimizer = job.optimizer.name not in OPTIMIZERS
        # A CUDA graph overwrites the gradients of the step before: micro-batches are added up in
        # memory of their own. (On a CPU these modes do the same without graphs.)
        self._replays_graphs = self._compile in GRAPHS
        self._holds_gradients = self._replays_graphs and job.engine.accumulation > 1
        if self._holds_gradients:
            for parameter in self._trained():
                parameter.grad = torch.zeros_like(parameter)
        self._scaler = torch.amp.GradScaler(enabled=job.dtype is torch.float16)
        self._num_steps = 0
        self._missed_first_backward = False

    def step(self, inputs: Inputs, targets: Tensor, weight: float, rate: float, loss: Loss) -> None:
        with explained(self._compile) if self._compile != "eager" else _all_used():
            if self._missed_first_backward:
                self._repeat_first_backward(inputs, targets)
            self._optimizer.zero_grad(set_to_none=not self._holds_gradients)
            with self._latent.viewed() if self._latent else nullcontext():
                self._backward(inputs, targets, weight, loss)
        self._apply(rate)
        self._buffers.average_()
        self._num_steps += 1

    def _backward(self, inputs: Inputs, targets: Tensor, weight: float, loss: Loss) -> None:
        # DDP takes the mean over ranks; wanted is the sum over all ranks / weight.
        scale = self._job.axis.size / weight
        pieces = micro_batches(inputs, targets, self._job.engine.accumulation)
        for piece, wanted, is_last in pieces:
            with self._silent_unless(is_last):
                with self._autocast():
                    value = loss(self._outputs(piece), wanted)
                self._scaler.scale(value * scale).backward()  # type: ignore[no-untyped-call]

    def _outputs(self, inputs: Inputs) -> Any:
        if self._replays_graphs:
            # the outputs of the last step may be overwritten
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return self._model(*inputs)

    def weights(self) -> dict[str, Tensor]:
        return weights(self._model)

    @property
    def is_sharded(self) -> bool:
        return False  # only statistics of norm layers differ, and no step depends on them

    def state(self) -> dict[str, Tensor]:
        rule, optimizer = self._job.rule, self._optimizer
        return joined(
            {
                "engine": {"num_steps": number(self._num_steps)},
                "model": self._model_state(),
                "optimizer": optimizer_state(optimizer, self._trained()),
                "scaler": torch_scaler_state(self._scaler),
                "rule": rule.state() if rule else {},
            }
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        together(lambda: self._check(state), self._job.axis, self._job.mesh.device)
        copy_(self._model_state(), part(state, "model"))
        restore_optimizer_state_(part(state, "optimizer"), self._optimizer, self._trained())
        restore_torch_scaler_(part(state, "scaler"), self._scaler)
        if self._job.rule:
            self._job.rule.restore(part(state, "rule"))
        self._num_steps = int(state["engine.num_steps"])
        self._missed_first_backward = self._num_steps > 0

    def close(self) -> None:
        del self._model, self._optimizer

    def _model_state(self) -> dict[str, Tensor]:
        model = self._job.model
        return {n: t.detach() for n, t in (*model.named_parameters(), *model.named_buffers())}

    def _trained(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _check(self, state: Mapping[str, Tensor]) -> None:
        check_restorable(state, self.state(), self._optimizer, self._trained())

    def _repeat_first_backward(self, inputs: Inputs, targets: Tensor) -> None:
        """Run a backward pass that changes nothing but the order of the buckets of DDP.

        DDP orders its buckets anew after the first backward pass, as gradients arrived in it.
        From three ranks on, the order in which a gradient is summed, and so its bits, depend on its
        place in a bucket. A restored engine must have the same order from its first step on.
        """
        self._missed_first_backward = False
        if not isinstance(self._model, DistributedDataParallel):
            return
        device, model = self._job.mesh.device, self._job.model
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        *_, (piece, _, _) = micro_batches(inputs, targets, self._job.engine.accumulation)
        with torch.random.fork_rng([device] if device.type == "cuda" else []), self._autocast():
            outputs = self._outputs(piece)
        tensors = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.autograd.backward(tensors, [torch.zeros_like(tensor) for tensor in tensors])
        copy_(dict(model.named_buffers()), before)  # a forward pass may have put others there

    def _wrapped(self) -> nn.Module:
        job = self._job
        bare = job.model
        if self._compile != "eager":
            is_repeatable = job.engine.deterministic or job.mesh.device.type == "cpu"
            bare = compiled(bare, self._compile, is_repeatable)
        if job.axis.size == 1:
            return bare
        with warnings.catch_warnings():
            # The name that replaces broadcast_buffers is not in every torch we support.
            warnings.simplefilter("ignore", FutureWarning)
            model = DistributedDataParallel(
                bare,
                process_group=job.axis.group,
                broadcast_buffers=False,  # norms are recomputed; the others have a mean
                gradient_as_bucket_view=True,
                find_unused_parameters=job.engine.conditional,
            )
        if job.engine.gradients == "surviving" and self._pruned:
            surviving = SurvivingGradients(job.model, job.mask, job.axis)
            model.register_comm_hook(None, lambda _, bucket: surviving.mean(bucket))
        return model

    def _apply(self, rate: float) -> None:
        self._pruned.gradients_()  # first: an overflow in what is pruned is none
        self._scaler.unscale_(self._optimizer)
        if self._latent:
            self._latent.gradients_()
        if (limit := self._job.optimizer.clip_norm) is not None:
            nn.utils.clip_grad_norm_(self._job.model.parameters(), limit)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._has_own_optimizer:
            self._pruned.weights_()
            self._pruned.state_(self._optimizer)
        if self._latent:
            self._latent.after_step_()

    def _autocast(self) -> AbstractContextManager[None]:
        dtype = self._job.dtype
        if dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self._job.mesh.device.type, dtype=dtype)

    def _silent_unless(self, is_last: bool) -> AbstractContextManager[None]:
        """Return a context in which gradients travel with the last micro-batch only."""
        if is_last or not isinstance(self._model, DistributedDataParallel):
            return nullcontext()
        return self._model.no_sync()


@contextmanager
def _all_used() -> Iterator[None]:
    """Turn the error of DDP about a parameter without gradient into a ValueError of one line."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("Expected to have finished reduction"):
            raise
        raise ValueError(
            "engine.conditional=false: this model has used some of its parameters in one step and "
            "not in another, which ranks of a group must know; set it to true"
        ) from None


class Latent:
    """The weights behind a sparse training rule: the network computes with the rule's view of them.

    Nothing here communicates: gradients are those of all ranks of the group already, so every rank
    comes to the same weights.
    """

    def __init__(self, model: nn.Module, rule: Rule, names: tuple[str, ...]) -> None:
        parameters = dict(model.named_parameters())
        self._rule, self._weights = rule, {name: parameters[name] for name in names}

    @contextmanager
    def viewed(self) -> Iterator[None]:
        """Give the model the rule's view of the weights, and take it back afterwards."""
        weights = self._detached()
        view = self._rule.view(weights)
        if view is weights:
            yield
            return
        saved = {name: weight.clone() for name, weight in weights.items()}
        self._set(view)
        yield
        self._set(saved)

    def gradients_(self) -> None:
        """Turn the gradients of the view into those of the weights that are trained."""
        gradients = {  # one that is frozen or unused has none, and moves with the rule only
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad
            for name, weight in self._weights.items()
        }
        self._rule.gradients_(self._detached(), gradients)

    def after_step_(self) -> None:
        self._rule.after_step_(self._detached())

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])

    def _detached(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self._weights.items()}
