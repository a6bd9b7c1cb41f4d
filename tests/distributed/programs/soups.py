"""Merges the same candidates, and measures their ensemble, on meshes of several shapes.

The argument is a file, which gets name -> what each rank found, by mesh. "alone" is one process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from sms_dist.config import Config
from sms_dist.experiment.soup import pair_soups
from sms_dist.mesh import topology
from sms_dist.mesh.collectives import gather_json
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.pruning.mask import apply_
from sms_dist.soups.diversity import loss_barrier
from sms_dist.soups.merge import Mixer, merge
from sms_dist.soups.rules import RULES, Descent
from sms_dist.soups.vector import SurvivingVector
from sms_dist.training.context import Context, State, set_up
from sms_dist.training.evaluation import ensemble, measured
from sms_dist.training.oracle import SoupOracle

CONFIG = Config(
    data={"name": "digits", "train_samples": 240, "validation": 0.3, "batch_size": 16},
    model={"options": {"width": 4}},
    engine={"device": "cpu"},
)
INDICES = (0, 1, 3)  # candidate 2 diverged; with four groups one holds none
SCORES = {0: 0.02, 1: 0.02, 3: 0.01}
mesh = topology.start(CONFIG.engine.ranks_per_candidate, CONFIG.engine.device)
single = Axis(None, 0, 1)
alone = dataclasses.replace(mesh, world=single, data=single, candidate=single)


def meshed(num_groups: int) -> Topology:
    """The same ranks in another number of groups."""
    shape = (num_groups, mesh.world.size // num_groups)
    other = init_device_mesh("cpu", shape, mesh_dim_names=("candidate", "data"))
    groups = {name: other.get_group(name) for name in ("candidate", "data")}
    axes = {name: Axis(g, torch.distributed.get_rank(g), g.size()) for name, g in groups.items()}
    return dataclasses.replace(mesh, **axes)


def half(state: State) -> State:
    """A view that takes further weights away."""
    weight = state["classifier.weight"]
    return state | {"classifier.weight": weight * (torch.arange(weight.shape[1]) % 2)}


def random_mask(context: Context) -> dict[str, Tensor]:
    generator, like = torch.Generator().manual_seed(1), context.new_model().state_dict()
    return {n: torch.rand(like[n].shape, generator=generator) < 0.6 for n in context.prunable}


def candidate(context: Context, seed: int) -> State:
    generator, state = torch.Generator().manual_seed(seed), context.new_model().state_dict()
    for name in context.parameters:
        state[name] += 0.3 * torch.randn(state[name].shape, generator=generator)
    return state


def bits(state: State) -> str:
    hasher = hashlib.sha256()
    for tensor in state.values():
        hasher.update(tensor.numpy().tobytes())
    return hasher.hexdigest()


def buffers(mesh: Topology, owners: dict[int, int]) -> list[object]:
    """A soup of one parameter, and what becomes of buffers of many types."""
    like = {
        "mean": torch.zeros(3),
        "wide": torch.zeros(2, dtype=torch.float64),
        "wave": torch.zeros(2, dtype=torch.complex64),
        "hidden": torch.tensor([0.0, float("-inf")]),
        "steps": torch.tensor(0),
        "table": torch.zeros(2, 3, dtype=torch.int16),
        "flag": torch.zeros(1, dtype=torch.bool),
    }
    own = {}
    for i, group in owners.items():
        if group == mesh.group:
            own[i] = {n: t + i for n, t in like.items() if n not in ("table", "flag")}
            own[i] |= {"table": like["table"] + 300, "flag": torch.tensor([i == 1])}
            own[i] |= {"wave": like["wave"] + i * 1j, "weight": torch.ones(1) * i}
            own[i]["steps"] = torch.tensor(7 + i)
    vector = SurvivingVector({"weight": torch.zeros(1)}, ["weight"], {})
    mixer = Mixer(mesh, vector, own, owners, like)
    soup = mixer.mixed([0.5, 0.25, 0.25])
    return [{n: str(t.tolist()) for n, t in soup.items()}, list(mixer.differing)]


def findings(context: Context) -> dict[str, object]:
    here = dataclasses.replace(context, mesh=alone)
    mask, owners = random_mask(context), {i: i % context.mesh.num_groups for i in INDICES}
    states = {}
    for i in INDICES:
        state = candidate(here, i)
        apply_(state, mask)
        states[i], _ = measured(here, state, single)
    own = {i: state for i, state in states.items() if owners[i] == context.mesh.group}
    mixer = Mixer(context.mesh, context.surviving_vector(mask), own, owners, context.buffers)
    found: dict[str, object] = {"ensemble": ensemble(context, own, owners)}
    found["buffers"] = buffers(context.mesh, owners)
    for name, rule in RULES.items():
        teacher = candidate(here, 3) if rule.needs_teacher else None
        oracle = SoupOracle(context, mixer, half, teacher)
        soup = merge(mixer, rule, SCORES, oracle, Descent(steps=4))
        found[name] = [list(soup.coefficients.values()), bits(soup.state)]
    oracle = SoupOracle(context, mixer, lambda state: state)
    pairs = pair_soups(oracle, INDICES, dict.fromkeys(INDICES, 0.1))
    return found | {
        "pairs": [pair.as_json() for pair in pairs],
        "barrier": loss_barrier(oracle, len(INDICES)),
    }


whole = set_up(CONFIG, mesh)
meshes = {"4x1": meshed(4), "2x2": meshed(2), "1x4": meshed(1), "alone": alone}
here = {name: findings(dataclasses.replace(whole, mesh=mesh)) for name, mesh in meshes.items()}
everyone = gather_json(here, mesh.world, mesh.device)
if mesh.world.is_first:
    Path(sys.argv[1]).write_text(json.dumps(everyone))
topology.stop()
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
