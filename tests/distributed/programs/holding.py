"""Trains a small net under a held mask on 2 ranks, in DDP and in DeepSpeed, and by hand.

The argument is a folder; it gets <case>/rank_<r>/weights.safetensors and mask.safetensors. What is
compared with what stands in test_holding.py.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import deepspeed
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import sms_dist.engines.deepspeed  # noqa: F401  (its shared-memory operation is not compiled)
from sms_dist.mesh import topology
from sms_dist.pruning.hold import hold

BATCH, BEFORE, STEPS = 8, 2, 3
folder = Path(sys.argv[1])
mesh = topology.start(ranks_per_candidate=2, device="cpu")
rank, size = mesh.data.rank, mesh.data.size


def net() -> nn.Module:
    """Its weights do not divide by two, and its first layer is frozen."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))
    model[0].requires_grad_(False)
    return model


def adamw(parameters) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


def trained(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


MASK = {
    name: torch.rand(p.shape, generator=torch.Generator().manual_seed(len(name))) < 0.5
    for name, p in net().named_parameters()
    if p.dim() > 1
}


def batches(first: int, last: int):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(BATCH, 9, generator=generator)
        yield inputs, torch.randint(3, (BATCH,), generator=generator)


def steps(forward, backward, step, first: int, last: int, dtype=torch.float32) -> None:
    for inputs, targets in batches(first, last):
        own = slice(BATCH * rank // size, BATCH * (rank + 1) // size)
        backward(cross_entropy(forward(inputs[own].to(dtype)).float(), targets[own]))
        step()


def save(case: str, weights: dict[str, Tensor]) -> None:
    place = folder / case / f"rank_{rank}"
    place.mkdir(parents=True)
    copies = {name: tensor.detach().float().contiguous() for name, tensor in weights.items()}
    safetensors.torch.save_file(copies, place / "weights.safetensors")
    safetensors.torch.save_file(MASK, place / "mask.safetensors")


def by_hand(case: str, before: int) -> None:
    """One process with whole batches; the mask comes after `before` steps."""
    model = net()
    optimizer, parameters = adamw(trained(model)), dict(model.named_parameters())
    for number, (inputs, targets) in enumerate(batches(0, BEFORE + STEPS)):
        if number == before:
            for name, kept in MASK.items():
                parameters[name].data.mul_(kept)
                for value in optimizer.state[parameters[name]].values():
                    if value.dim():
                        value.mul_(kept)
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        for name, kept in MASK.items() if number >= before else ():
            if parameters[name].grad is not None:
                parameters[name].grad.mul_(kept)
        optimizer.step()
    save(case, parameters)


def with_ddp(case: str, order: str) -> None:
    model = net()
    held = hold(model, MASK) if order == "before" else None
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
    if case == "zero_redundancy":
        optimizer = ZeroRedundancyOptimizer(
            trained(model), torch.optim.AdamW, lr=0.01, weight_decay=0.1
        )
    else:
        optimizer = adamw(trained(model))

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    if held is None:
        steps(wrapped, Tensor.backward, step, 0, BEFORE)
        held = hold(wrapped, MASK, optimizer)
        steps(wrapped, Tensor.backward, step, BEFORE, BEFORE + STEPS)
    else:
        steps(wrapped, Tensor.backward, step, 0, BEFORE + STEPS)
    held.check()
    held.release()
    save(case, dict(model.named_parameters()))


def with_deepspeed(case: str, stage: int, order: str, dtype: torch.dtype) -> None:
    model = net()
    config = {
        "train_micro_batch_size_per_gpu": BATCH // size,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 20},
        "steps_per_print": 2**31,
    }
    if dtype is torch.bfloat16:
        config["bf16"] = {"enabled": True}
    held = hold(model, MASK) if order == "before" else None
    names = {p: name for name, p in model.named_parameters()}
    engine, *_ = deepspeed.initialize(model=model, optimizer=adamw(trained(model)), config=config)
    if held is None:
        steps(engine, engine.backward, engine.step, 0, BEFORE, dtype)
        held = hold(engine, MASK)
        with suppress(ValueError):
            hold(engine, MASK)
            raise AssertionError("held twice")
        steps(engine, engine.backward, engine.step, BEFORE, BEFORE + STEPS, dtype)
    else:
        steps(engine, engine.backward, engine.step, 0, BEFORE + STEPS, dtype)
    held.check()
    weights = {}
    for parameter, name in names.items():
        with deepspeed.zero.GatheredParameters([parameter], enabled=stage == 3):
            weights[name] = parameter.detach().clone()
    save(case, weights)
    engine.destroy()


def refused(model: nn.Module) -> None:
    with suppress(ValueError):
        hold(model, MASK)
        raise AssertionError("FSDP was held")


refused(fully_shard(net()))
refused(FullyShardedDataParallel(net(), use_orig_params=True, device_id=torch.device("cpu")))
by_hand("hand_before", 0)
by_hand("hand_after", BEFORE)
with_ddp("ddp_before", "before")
with_ddp("ddp_after", "after")
with_ddp("zero_redundancy", "after")
for stage in range(4):
    for order in ("before", "after"):
        for dtype in (torch.float32, torch.bfloat16):
            bits = str(dtype).removeprefix("torch.")
            with_deepspeed(f"zero_{stage}_{order}_{bits}", stage, order, dtype)
dist.barrier()
topology.stop(mesh)
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
