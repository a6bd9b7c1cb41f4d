"""Trains straight through, and from a state on disk on, with every engine on groups of 2 ranks.

The first argument is a folder, which gets case/candidate_<i>/rank_<r>/<what>.safetensors. Others
are cases to go on with from what another launch has left there; without them, all cases are run,
both ways. What is compared with what stands in test_engine_states.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"  # before deepspeed is imported

import safetensors.torch
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sms_dist.config import EngineConfig, PretrainConfig
from sms_dist.engines import make_engine
from sms_dist.engines.base import Engine, Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh import topology
from sms_dist.mesh.topology import Axis
from sms_dist.sparse_rules import make_rule
from sms_dist.sparse_rules.base import Rule, Setup

BATCH, RATE = 16, 0.05
STEPS = {0: 4, 1: 7}  # of each candidate: groups go their own ways
SAVED = {0: 2, 1: 4}  # the step after which the state is taken
ENGINES = {
    "ddp": {"name": "ddp"},
    **{f"zero_{stage}": {"name": "deepspeed", "zero_stage": stage} for stage in range(4)},
}
ADDS_IN_FP32 = {"data_types": {"grad_accum_dtype": "fp32"}}  # another optimizer of DeepSpeed's
# A scale that overflows at once, and tries again two steps later.
SCALED = {"fp16": {"initial_scale_power": 17, "hysteresis": 1, "loss_scale_window": 1}}


class Tangled(nn.Module):
    """Gradients arrive in another order than DDP expects at first; some randomness; buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(24, 10)
        self.first = nn.Linear(64, 24)
        self.side = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 24))
        self.norm = nn.BatchNorm1d(24)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("center", torch.zeros(64))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        flat = images.flatten(1)
        self.center = (0.9 * self.center + 0.1 * flat.mean(0)).detach()
        flat = flat - self.center
        hidden = self.norm(self.first(flat)).relu()
        return self.last(self.dropout(hidden)), self.last(self.side(flat))


@dataclass(frozen=True)
class Case:
    """One training; what is not said is as the configuration has it."""

    name: str
    engine: dict[str, Any]
    optimizer: dict[str, Any] = field(default_factory=dict)
    rule: str | None = None
    is_of_all_ranks: bool = False  # one group of four


def cases() -> Iterator[Case]:
    adamw, clip = {"optimizer": "adamw"}, {"clip_norm": 0.1}
    # Pairwise: every engine with each precision and optimizer, not with each of their pairs.
    for name, engine in ENGINES.items():
        yield Case(f"{name}_fp32_adamw", engine, adamw)
        yield Case(f"{name}_bf16_sgd", {**engine, "precision": "bf16"})
        yield Case(f"{name}_clipped_pieces", {**engine, "accumulation": 2}, clip)
    yield Case("ddp_fp32_sgd", ENGINES["ddp"])
    for name in ("zero_1", "zero_3"):
        yield Case(f"{name}_bf16_adamw", {**ENGINES[name], "precision": "bf16"}, adamw)
    for name in ("ddp", "zero_1", "zero_3"):
        yield Case(f"{name}_of_four", ENGINES[name], is_of_all_ranks=True)
    for name in ("ddp", "zero_1"):
        yield Case(f"{name}_no_momentum", ENGINES[name], {"momentum": 0.0})
    yield Case("ddp_of_four_pieces", {**ENGINES["ddp"], "accumulation": 2}, is_of_all_ranks=True)
    surviving = {**ENGINES["ddp"], "gradients": "surviving"}
    yield Case("ddp_surviving_fp32_sgd", surviving)
    yield Case("ddp_surviving_clipped_pieces", {**surviving, "accumulation": 2}, clip)
    yield Case("ddp_surviving_of_four", surviving, is_of_all_ranks=True)
    bf16 = {"precision": "bf16", "deepspeed": ADDS_IN_FP32}
    yield Case("zero_1_bf16_adding_in_fp32", {**ENGINES["zero_1"], **bf16})
    for name in ("zero_0", "zero_1", "zero_3"):
        fp16 = {"precision": "fp16", "deepspeed": SCALED}
        yield Case(f"{name}_fp16", {**ENGINES[name], **fp16})
    for rule in ("dpf", "str"):
        yield Case(f"ddp_{rule}", ENGINES["ddp"], rule=rule)


folder, half_done = Path(sys.argv[1]), sys.argv[2:]
# PyTorch computes in fp16 on a CPU; DeepSpeed only does not expect it.
get_accelerator().is_fp16_supported = lambda: True
mesh = topology.start(ranks_per_candidate=2, device="cpu")


def half_pruned(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    parameters = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    return {n: torch.rand(p.shape, generator=generator) < 0.5 for n, p in parameters.items()}


def rule_of(case: Case, model: nn.Module) -> Rule | None:
    if case.rule is None:
        return None
    weights = {n: p.detach() for n, p in model.named_parameters() if p.dim() > 1}
    options = {"refresh": 3} if case.rule == "dpf" else {}
    return make_rule(case.rule, options, weights, Setup(500, 8, 1))


def loss(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    return sum(cross_entropy(o.float(), targets, reduction="sum") for o in outputs)


class Run:
    """A fresh engine for a candidate; the data depend on the candidate and the step alone."""

    def __init__(self, case: Case, axis: Axis, candidate: int) -> None:
        torch.manual_seed(1)
        model = Tangled()
        self.mask = half_pruned(model)
        config = EngineConfig(device="cpu", **case.engine)
        optimizer = optimizer_settings(PretrainConfig(weight_decay=1e-2, **case.optimizer))
        rule = rule_of(case, model)
        self.engine: Engine = make_engine(
            Job(model, self.mask, axis, mesh, config, optimizer, BATCH, rule)
        )
        self._candidate = candidate
        self._share = slice(BATCH * axis.rank // axis.size, BATCH * (axis.rank + 1) // axis.size)

    def train(self, first: int, end: int) -> None:
        for step in range(first, end):
            generator = torch.Generator().manual_seed(100 * self._candidate + step)
            inputs = torch.randn(BATCH, 1, 8, 8, generator=generator)[self._share]
            targets = torch.randint(10, (BATCH,), generator=generator)[self._share]
            torch.manual_seed(step)
            self.engine.step((inputs,), targets, BATCH, RATE, loss)


def store(tensors: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({name: t.detach().clone() for name, t in tensors.items()}, path)


def straight(case: Case, axis: Axis, candidate: int, place: Path) -> None:
    run = Run(case, axis, candidate)
    run.train(0, SAVED[candidate])
    store(run.engine.state(), place / "saved.safetensors")
    run.train(SAVED[candidate], STEPS[candidate])
    store(run.engine.weights(), place / "straight.safetensors")
    store(run.engine.state(), place / "straight_state.safetensors")
    store(run.mask, place / "mask.safetensors")
    run.engine.close()


def go_on(case: Case, axis: Axis, candidate: int, place: Path) -> None:
    run = Run(case, axis, candidate)
    store(run.engine.weights(), place / "fresh.safetensors")
    store(run.engine.state(), place / "fresh_state.safetensors")
    first = place if run.engine.is_sharded else place.parent / "rank_0"
    state = safetensors.torch.load_file(first / "saved.safetensors")
    if case.name.endswith("fp32_adamw"):
        answers = {name: refused(run.engine, bad, state, axis) for name, bad in damaged(state)}
        (place / "refused.json").write_text(json.dumps(answers))
    run.engine.restore(state)
    store(run.engine.state(), place / "restored.safetensors")
    run.train(SAVED[candidate], STEPS[candidate])
    store(run.engine.weights(), place / "resumed.safetensors")
    store(run.engine.state(), place / "resumed_state.safetensors")
    run.engine.close()


def damaged(state: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    weights = "model.last.weight" if "model.last.weight" in state else "model.master.0"
    yield "missing", {name: t for name, t in state.items() if name != weights}
    yield "unknown", state | {"optimizer.0.momentum_buffer": state["optimizer.0.exp_avg"]}
    yield "halved", {name: t for name, t in state.items() if name != "optimizer.0.exp_avg"}
    yield "shape", state | {weights: state[weights][:-1]}
    yield "type", state | {weights: state[weights].bfloat16()}


def refused(engine: Engine, bad: dict[str, Tensor], good: dict[str, Tensor], axis: Axis) -> str:
    """What the engine says when one rank's state is damaged."""
    try:
        engine.restore(bad if axis.rank == 1 else good)
    except ValueError as error:
        return str(error)
    return "not at all"


for case in cases():
    if half_done and case.name not in half_done:
        continue
    axis, candidate = (mesh.world, 0) if case.is_of_all_ranks else (mesh.data, mesh.group)
    place = folder / case.name / f"candidate_{candidate}" / f"rank_{axis.rank}"
    if not half_done:
        straight(case, axis, candidate, place)
        dist.barrier(axis.group)  # the first rank's file is everybody's
    go_on(case, axis, candidate, place)

topology.stop(mesh)
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
