"""DeepSpeed with ZeRO 0 to 3 inside a candidate's group; the only file that imports deepspeed."""

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
from sms_dist.engines.deepspeed_config import deepspeed_config
from sms_dist.engines.deepspeed_state import (
    compute_with_masters_,
    forget_first_step_,
    masters,
    scaler,
)
from sms_dist.engines.masked_gradients import hold_mask
from sms_dist.engines.named_tensors import copy_, joined, part
from sms_dist.engines.optimizer_state import (
    check_restorable,
    optimizer_state,
    restore_optimizer_state_,
)
from sms_dist.engines.scaler_state import deepspeed_scaler_state, restore_deepspeed_scaler_
from sms_dist.mesh.collectives import together

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.ops import __compatible_ops__
from deepspeed.runtime.zero import partition_parameters, partitioned_param_coordinator, stage3
from deepspeed.utils import logger, safe_get_full_fp32_param

logger.setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)  # its own, of old names
# Its shared-memory all-reduce would be compiled on first use, which takes a minute.
__compatible_ops__["deepspeed_shm_comm"] = False
# ZeRO-3 compares its trace of the model with that of global rank 0, over the world: it would hang
# once groups take different numbers of steps. Ranks of a group run the same model by design.
for _module in (partition_parameters, partitioned_param_coordinator, stage3):
    _module.assert_ints_same_as_other_ranks = lambda ints: None


class GroupUnit:
    """DeepSpeed's model-parallel unit: data parallel over my group, model parallel over me alone.

    Without the latter, clipping would take the gradient's norm over the whole world, silently.
    """

    def __init__(self, job: Job) -> None:
        self._axis, self._alone = job.axis, job.mesh.alone

    def get_data_parallel_group(self) -> dist.ProcessGroup | None:
        return self._axis.group

    def get_data_parallel_rank(self) -> int:
        return self._axis.rank

    def get_data_parallel_world_size(self) -> int:
        return self._axis.size

    def get_data_parallel_group_ranks(self) -> list[int]:
        return dist.get_process_group_ranks(self._axis.group)

    def get_model_parallel_group(self) -> dist.ProcessGroup | None:
        return self._alone

    def get_model_parallel_rank(self) -> int:
        return 0

    def get_model_parallel_world_size(self) -> int:
        return 1


class DeepSpeedEngine:
    def __init__(self, job: Job) -> None:
        assert job.rule is None, "checked before anything starts"
        hold_mask(job.model, job.mask)
        self._job = job
        self._names = [name for name, _ in job.model.named_parameters()]
        with _barriers_inside(job.axis.group):
            self._engine, *_ = deepspeed.initialize(
                model=job.model,
                optimizer=make_optimizer(job),
                config=deepspeed_config(job),
                mpu=GroupUnit(job),
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

    def weights(self) -> dict[str, Tensor]:
        parameters = self._engine.module.parameters()
        if self._job.engine.zero_stage == 0:
            masters = self._masters_of_stage_0()
            full = [masters.get(parameter, parameter) for parameter in parameters]
        else:
            full = [safe_get_full_fp32_param(parameter) for parameter in parameters]
        named = zip(self._names, full, strict=True)
        return {name: tensor.detach().float().clone() for name, tensor in named}

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
        """My share of the weights in fp32; and the buffers, which nobody shares."""
        shares = {str(i): master.detach() for i, master in enumerate(held)}
        return joined({"master": shares, "buffer": dict(self._engine.module.named_buffers())})

    def close(self) -> None:
        self._engine.destroy()
        del self._engine

    def _as_computed(self, inputs: Inputs) -> Inputs:
        """Numbers in the precision of the forward pass; tokens stay what they are."""
        dtype = self._job.dtype
        return tuple(t.to(dtype) if t.is_floating_point() else t for t in inputs)

    def _masters_of_stage_0(self) -> dict[Tensor, Tensor]:
        """Low-precision parameter -> fp32 master, where the optimizer keeps them as lists."""
        optimizer = self._engine.optimizer
        low, high = getattr(optimizer, "fp16_groups", []), getattr(optimizer, "fp32_groups", [])
        pairs = [zip(*groups, strict=True) for groups in zip(low, high, strict=True)]
        return {parameter: master for group in pairs for parameter, master in group}


@contextmanager
def _barriers_inside(group: dist.ProcessGroup | None) -> Iterator[None]:
    """While ZeRO-3 sets itself up it holds barriers over the world, which other groups may not
    reach (a wave that is not full): keep them inside the group."""

    def barrier(*args: Any, **options: Any) -> Any:
        return dist.barrier(group=group)

    original, deepspeed.comm.barrier = deepspeed.comm.barrier, barrier
    try:
        yield
    finally:
        deepspeed.comm.barrier = original
