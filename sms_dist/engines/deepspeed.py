"""DeepSpeed with ZeRO 0 to 3 inside a candidate's group."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sms_dist.engines.base import Inputs, Job, Loss, make_optimizer, micro_batches
from sms_dist.engines.state import (
    check_restorable,
    copy_,
    deepspeed_scaler_state,
    joined,
    optimizer_state,
    part,
    restore_deepspeed_scaler_,
    restore_optimizer_state_,
)
from sms_dist.mesh.collectives import together
from sms_dist.mesh.topology import GroupUnit
from sms_dist.pruning.hold import hold
from sms_dist.soups.states import SharedBuffers, weights

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.ops import __compatible_ops__
from deepspeed.runtime.zero import partition_parameters, partitioned_param_coordinator, stage3
from deepspeed.utils import logger

logger.setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)  # its own, of old names
# Its shared-memory all-reduce would be compiled on first use, which takes a minute.
__compatible_ops__["deepspeed_shm_comm"] = False
# ZeRO-3 compares its trace of the model with that of global rank 0, over the world: it would hang
# once groups take different numbers of steps. Ranks of a group run the same model by design.
for _module in (partition_parameters, partitioned_param_coordinator, stage3):
    _module.assert_ints_same_as_other_ranks = lambda ints: None
# A job's model is the same on all ranks. To send it once more would need tensors that can be viewed
# as bytes, which those without dims and those in channels-last layout cannot.
deepspeed.DeepSpeedEngine._broadcast_model = lambda engine: None


# Attributes of DeepSpeed's optimizers with a flat master shard for each group of parameters.
SHARDS = (
    "single_partition_of_fp32_groups",  # ZeRO-1 and 2
    "fp32_groups_flat_partition",  # ZeRO-1 in bf16 that adds gradients up in fp32
    "fp32_partitioned_groups_flat",  # ZeRO-3
)


class DeepSpeedEngine:
    """Take a candidate's steps with DeepSpeed, its state spread over the group from ZeRO-1 on."""

    def __init__(self, job: Job) -> None:
        assert job.rule is None, "checked before anything starts"
        self._held = hold(job.model, job.mask)
        self._job = job
        named = job.model.named_parameters()
        # DeepSpeed has no masters of these, and rounds them to the precision it computes in.
        self._frozen = {n: p.detach().clone() for n, p in named if not p.requires_grad}
        # It reads these, which a launcher sets; without one there is one rank.
        for name, value in {"RANK": job.mesh.world.rank, "WORLD_SIZE": job.mesh.world.size}.items():
            os.environ.setdefault(name, str(value))
        os.environ.setdefault("LOCAL_RANK", "0")
        self._buffers = SharedBuffers(job.model, job.axis)
        with _barriers_inside(job.axis.group):
            self._engine, *_ = deepspeed.initialize(
                model=job.model,
                optimizer=make_optimizer(job),
                config=deepspeed_config(job),
                mpu=GroupUnit(job.axis, job.mesh.alone),
                dist_init_required=False,
            )
        forget_first_step_(self._engine.optimizer)

    def step(self, inputs: Inputs, targets: Tensor, weight: float, rate: float, loss: Loss) -> None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        scale = self._job.axis.size / weight  # as in DDP: DeepSpeed takes the mean over ranks
        pieces = micro_batches(inputs, targets, self._job.engine.accumulation)
        for piece, wanted, is_last in pieces:
            self._engine.set_gradient_accumulation_boundary(is_last)
            value = loss(self._engine(*self._as_computed(piece)), wanted) * scale
            self._engine.backward(value, scale_wrt_gas=False)
            self._engine.step()
        self._buffers.average_()

    def weights(self) -> dict[str, Tensor]:
        frozen = {name: tensor.clone() for name, tensor in self._frozen.items()}
        return weights(self._engine) | frozen

    @property
    def is_sharded(self) -> bool:
        return self._job.engine.zero_stage > 0

    def state(self) -> dict[str, Tensor]:
        engine = self._engine
        held = masters(engine.optimizer)
        return joined(
            {
                "model": self._model_state(held),
                "optimizer": optimizer_state(engine.basic_optimizer, held),
                "scaler": deepspeed_scaler_state(scaler(engine.optimizer)),
            }
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        engine = self._engine
        held = masters(engine.optimizer)

        def check() -> None:
            check_restorable(state, self.state(), engine.basic_optimizer, held)

        together(check, self._job.axis, self._job.mesh.device)
        copy_(self._model_state(held), part(state, "model"))
        restore_optimizer_state_(part(state, "optimizer"), engine.basic_optimizer, held)
        restore_deepspeed_scaler_(part(state, "scaler"), scaler(engine.optimizer))
        compute_with_masters_(engine.optimizer)

    def _model_state(self, held: list[Tensor]) -> dict[str, Tensor]:
        """Return this rank's share of the weights in fp32, and the buffers, which are whole."""
        shares = {str(i): master.detach() for i, master in enumerate(held)}
        return joined({"master": shares, "buffer": dict(self._engine.module.named_buffers())})

    def close(self) -> None:
        self._held.release()
        self._engine.destroy()
        del self._engine

    def _as_computed(self, inputs: Inputs) -> Inputs:
        """Return numbers in the precision of the forward pass; tokens stay integers."""
        dtype = self._job.dtype
        return tuple(t.to(dtype) if t.is_floating_point() else t for t in inputs)


@contextmanager
def _barriers_inside(group: dist.ProcessGroup | None) -> Iterator[None]:
    """Keep DeepSpeed's barriers inside the group.

    While ZeRO-3 sets itself up it holds barriers over the world, which other groups may never reach
    (in a wave that is not full).
    """

    def barrier(*args: Any, **options: Any) -> Any:
        return dist.barrier(group=group)

    original, deepspeed.comm.barrier = deepspeed.comm.barrier, barrier
    try:
        yield
    finally:
        deepspeed.comm.barrier = original


def deepspeed_config(job: Job) -> dict[str, Any]:
    """Return DeepSpeed's configuration, derived from ours; `engine.deepspeed` is merged over it."""
    engine = job.engine
    pieces = job.axis.size * engine.accumulation
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": max(1, job.batch_size // pieces),
        "gradient_accumulation_steps": engine.accumulation,
        "gradient_clipping": job.optimizer.clip_norm or 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": engine.zero_stage},
        "steps_per_print": 2**31,
    }
    if engine.precision != "fp32":
        config[engine.precision] = {"enabled": True}
        config["data_types"] = {"buffer_dtype": engine.precision}
    return merged(config, engine.deepspeed)


def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `extra` over it, section by section."""
    result = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def masters(optimizer: Any) -> list[Tensor]:
    """Return the tensors that the optimizer steps on: this rank's shards, or whole parameters.

    `optimizer` is that of DeepSpeed's engine; with ZeRO-0 in fp32 it is PyTorch's own. (DeepSpeed's
    save_checkpoint and load_checkpoint hold barriers over the world, so they are not used.)
    """
    if getattr(optimizer, "swap_optimizer", False):
        raise ValueError(
            "engine.deepspeed.zero_optimization.offload_optimizer.device=nvme: what lies there "
            "cannot be saved during training; use cpu or none"
        )
    for name in SHARDS:
        if hasattr(optimizer, name):
            return list(getattr(optimizer, name))
    if hasattr(optimizer, "fp32_groups"):  # ZeRO-0 in low precision
        return [master for group in optimizer.fp32_groups for master in group]
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def scaler(optimizer: Any) -> Any:
    """Return the loss scaler, with its numbers as attributes; None if there is none."""
    return getattr(optimizer, "loss_scaler", getattr(optimizer, "loss_scale_config", None))


def forget_first_step_(optimizer: Any) -> None:
    """Undo the step on zeros by which ZeRO-0 in low precision makes its memory.

    It pulls the masters by weight decay, leaves that in their momentum, and counts as a step.
    """
    if hasattr(optimizer, "fp32_groups"):
        optimizer.refresh_fp32_params()
        optimizer.optimizer.state.clear()


@torch.no_grad()
def compute_with_masters_(optimizer: Any) -> None:
    """Compute the parameters from the masters. Every rank of the group must call."""
    if hasattr(optimizer, "update_lp_params"):  # ZeRO-1 and 2: each gathers the shards of all
        optimizer.update_lp_params()
    elif hasattr(optimizer, "fp32_partitioned_groups_flat"):
        _compute_with_shards_(optimizer)
    elif hasattr(optimizer, "fp32_groups"):
        for low, high in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for parameter, master in zip(low, high, strict=True):
                parameter.copy_(master)


def _compute_with_shards_(optimizer: Any) -> None:
    """Release whole parameters of ZeRO-3, so that the next forward pass gathers them anew."""
    optimizer.checkpoint_event_prologue()
    for group in range(len(optimizer.fp32_partitioned_groups_flat)):
        optimizer._reassign_or_swap_out_partitioned_parameters(group)
