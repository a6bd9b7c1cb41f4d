"""Trains on a group of 2 ranks: eagerly, compiled, again, and compiled from a state on.

The argument is a folder; it gets case/<what>/rank_<r>/weights.safetensors and mask.safetensors.
What is compared with what stands in test_compiled_engine.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sms_dist.config import EngineConfig, PretrainConfig
from sms_dist.engines import make_engine
from sms_dist.engines.base import Engine, Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh import topology
from sms_dist.sparse_rules import make_rule
from sms_dist.sparse_rules.base import Setup

SIZES = (18, 18, 16, 18, 16, 16)  # of the steps, of both ranks together
SAVED, RATE = 4, 0.05  # the step after which the state is taken
CASES: dict[str, dict[str, Any]] = {
    "default": {"compile": "default"},
    "surviving": {"compile": "default", "gradients": "surviving"},
    "dpf": {"compile": "default", "precision": "bf16"},
    "graphs": {"compile": "reduce-overhead", "accumulation": 2},  # on a CPU: without them
}

folder = Path(sys.argv[1])
mesh = topology.start(ranks_per_candidate=2, device="cpu")


class Tangled(nn.Module):
    """Gradients arrive in another order than DDP expects at first."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(24, 10)
        self.first = nn.Linear(64, 24)
        self.side = nn.Linear(64, 24)
        self.norm = nn.LayerNorm(24)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        flat = images.flatten(1)
        hidden = self.norm(self.first(flat)).relu()
        return self.last(hidden), self.last(self.side(flat).relu())


def half_pruned(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    parameters = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    return {n: torch.rand(p.shape, generator=generator) < 0.5 for n, p in parameters.items()}


def new(case: str, **changes: Any) -> tuple[Engine, dict[str, Tensor]]:
    torch.manual_seed(1)
    model = Tangled()
    mask, rule = half_pruned(model), None
    if case == "dpf":
        weights = {n: p.detach() for n, p in model.named_parameters() if n in mask}
        rule = make_rule("dpf", {"refresh": 3}, weights, Setup(500, 8, 1))
    config = EngineConfig(device="cpu", **(CASES[case] | changes))
    optimizer = optimizer_settings(PretrainConfig(weight_decay=1e-2))
    return make_engine(Job(model, mask, mesh.data, mesh, config, optimizer, max(SIZES), rule)), mask


def loss(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    return sum(cross_entropy(o.float(), targets, reduction="sum") for o in outputs)


def train(engine: Engine, first: int = 0, end: int = len(SIZES)) -> None:
    for step in range(first, end):
        size, axis = SIZES[step], mesh.data
        generator = torch.Generator().manual_seed(step)
        share = slice(size * axis.rank // axis.size, size * (axis.rank + 1) // axis.size)
        inputs = torch.randn(size, 1, 8, 8, generator=generator)[share]
        targets = torch.randint(10, (size,), generator=generator)[share]
        engine.step((inputs,), targets, size, RATE, loss)


def store(case: str, what: str, engine: Engine, mask: dict[str, Tensor]) -> None:
    place = folder / case / what / f"rank_{mesh.data.rank}"
    place.mkdir(parents=True)
    safetensors.torch.save_file(engine.weights(), place / "weights.safetensors")
    safetensors.torch.save_file(mask, place / "mask.safetensors")
    engine.close()


for case in CASES:
    for what, changes in {"eager": {"compile": "eager"}, "straight": {}, "again": {}}.items():
        engine, mask = new(case, **changes)
        train(engine)
        store(case, what, engine, mask)
    engine, _ = new(case)
    train(engine, end=SAVED)
    state = {name: tensor.clone() for name, tensor in engine.state().items()}
    torch.compiler.reset()  # as in a new process, which sees the other shape first
    engine, mask = new(case)
    engine.restore(state)
    train(engine, SAVED)
    store(case, "resumed", engine, mask)

topology.stop(mesh)
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
