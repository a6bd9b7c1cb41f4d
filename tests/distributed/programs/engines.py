"""Trains small models on 2 groups of 2 ranks with every engine and stores what each rank holds.

The argument is a folder; it gets case/candidate_<i>/rank_<r>/weights.safetensors and
mask.safetensors. What is compared with what stands in test_engines.py.
"""

from __future__ import annotations

import os
import sys
from itertools import product
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sms_dist import models
from sms_dist.config import EngineConfig, ModelConfig, PretrainConfig
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh import topology
from sms_dist.mesh.division import deal
from sms_dist.mesh.topology import Axis

BATCH, RATE = 16, 0.05
STEPS = {0: 3, 1: 7, 2: 4}  # of each candidate: groups go their own ways
ENGINES = {
    "ddp": {"name": "ddp"},
    **{f"zero_{stage}": {"name": "deepspeed", "zero_stage": stage} for stage in range(4)},
}

folder = Path(sys.argv[1])
mesh = topology.start(ranks_per_candidate=2, device="cpu")


def plain() -> nn.Module:
    """Without batch norm, so that a step does not depend on how its batch is cut."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))


def normed() -> nn.Module:
    shape, config = (1, 8, 8), ModelConfig(options={"width": 4})
    return models.build(config, shape, 10, seed=1, data_name="digits")


def half_pruned(model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    parameters = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    return {n: torch.rand(p.shape, generator=generator) < 0.5 for n, p in parameters.items()}


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(outputs.float(), targets, reduction="sum")


def train(case: str, model: nn.Module, axis: Axis, candidate: int, clip: float | None, **engine):
    """Train one candidate, store its weights; the data depend on the candidate alone."""
    mask = half_pruned(model)
    optimizer = optimizer_settings(PretrainConfig(weight_decay=1e-2, clip_norm=clip))
    config = EngineConfig(device="cpu", **engine)
    trained = make_engine(Job(model, mask, axis, mesh, config, optimizer, BATCH))
    generator = torch.Generator().manual_seed(candidate)
    scale = 1 + 20 * candidate  # gradients of very different size
    share = slice(BATCH * axis.rank // axis.size, BATCH * (axis.rank + 1) // axis.size)
    for _ in range(STEPS[candidate]):
        inputs = scale * torch.randn(BATCH, 1, 8, 8, generator=generator)
        targets = torch.randint(10, (BATCH,), generator=generator)
        trained.step((inputs[share],), targets[share], BATCH, RATE, loss)
    place = folder / case / f"candidate_{candidate}" / f"rank_{axis.rank}"
    place.mkdir(parents=True)
    safetensors.torch.save_file(trained.weights(), place / "weights.safetensors")
    safetensors.torch.save_file(mask, place / "mask.safetensors")
    trained.close()


for (name, engine), precision in product(ENGINES.items(), ("fp32", "bf16")):
    for candidate in deal(range(3), mesh.num_groups, mesh.group):
        train(
            f"{name}_{precision}",
            normed(),
            mesh.data,
            candidate,
            None,
            precision=precision,
            **engine,
        )

for name, engine in ENGINES.items():
    for candidate in deal(range(3), mesh.num_groups, mesh.group):
        train(f"{name}_clipped", plain(), mesh.data, candidate, 0.1, **engine)
        train(f"{name}_pieces", plain(), mesh.data, candidate, 0.1, accumulation=2, **engine)
    if mesh.group == 1:  # the other group stays away
        train(f"{name}_lonely", plain(), mesh.data, 1, 0.1, **engine)

if mesh.world.is_first:  # one process with whole batches
    for candidate in range(3):
        train("single", plain(), Axis(None, 0, 1), candidate, 0.1)
        train("unclipped", plain(), Axis(None, 0, 1), candidate, None)

topology.stop(mesh)
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
