"""Where each ZeRO stage keeps this rank's masters; touches only what it is handed.

DeepSpeed's own save_checkpoint and load_checkpoint hold barriers over the world.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Attributes of DeepSpeed's optimizers with a flat master shard for each group of parameters.
SHARDS = (
    "single_partition_of_fp32_groups",  # ZeRO-1 and 2
    "fp32_groups_flat_partition",  # ZeRO-1 in bf16 that adds gradients up in fp32
    "fp32_partitioned_groups_flat",  # ZeRO-3
)


def masters(optimizer: Any) -> list[Tensor]:
    """What the optimizer inside steps on, in a fixed order: my shards, or whole parameters.

    `optimizer` is that of DeepSpeed's engine; with ZeRO-0 in fp32 it is PyTorch's own.
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
    """The loss scaler, with its numbers as attributes; None where there is none."""
    return getattr(optimizer, "loss_scaler", getattr(optimizer, "loss_scale_config", None))


def forget_first_step_(optimizer: Any) -> None:
    """As if it had not stepped: in low precision, ZeRO-0 makes its memory by a step on zeros.

    That pulls the masters by weight decay, leaves it in their momentum, and counts as a step.
    """
    if hasattr(optimizer, "fp32_groups"):
        optimizer.refresh_fp32_params()
        optimizer.optimizer.state.clear()


@torch.no_grad()
def compute_with_masters_(optimizer: Any) -> None:
    """Make the parameters what a step makes of the masters. Every rank of the group must call."""
    if hasattr(optimizer, "update_lp_params"):  # ZeRO-1 and 2: each gathers the shards of all
        optimizer.update_lp_params()
    elif hasattr(optimizer, "fp32_partitioned_groups_flat"):
        _compute_with_shards_(optimizer)
    elif hasattr(optimizer, "fp32_groups"):
        for low, high in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for parameter, master in zip(low, high, strict=True):
                parameter.copy_(master)


def _compute_with_shards_(optimizer: Any) -> None:
    """ZeRO-3: nobody may hold whole parameters meanwhile; the next forward pass gathers them."""
    optimizer.checkpoint_event_prologue()
    for group in range(len(optimizer.fp32_partitioned_groups_flat)):
        optimizer._reassign_or_swap_out_partitioned_parameters(group)
