"""Compares what ranks compute together with what one of them computes alone.

The arguments are the ranks per candidate and a file, which gets a list of what each rank found:
name -> true, or the cases that went wrong.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import update_bn

from sms_dist import data, models
from sms_dist.config import DataConfig, ModelConfig
from sms_dist.mesh import collectives, topology
from sms_dist.mesh.collectives import (
    agree,
    broadcast_state_,
    from_first,
    gather_json,
    sum_over_parts,
    together,
)
from sms_dist.mesh.topology import Axis, first_ranks
from sms_dist.soups.diversity import gram
from sms_dist.soups.merge import CandidateShards, mix
from sms_dist.soups.norms import recompute_, recompute_norms
from sms_dist.soups.states import weights
from sms_dist.tasks import make_task
from sms_dist.training.evaluation import evaluate

mesh = topology.start(ranks_per_candidate=int(sys.argv[1]), device="cpu")
world, cpu, rank = mesh.world, mesh.device, mesh.world.rank
alone = Axis(None, 0, 1)
LAST = mesh.num_groups - 1
OWNERS = (  # the group of each candidate
    [0],
    [LAST],
    [0, LAST],
    [LAST, 0],
    [0, 0, LAST],
    [i % mesh.num_groups for i in range(5)],
    [-i % mesh.num_groups for i in range(7)],
)
LENGTHS = (1, 2, 8, 64, 1001)


def candidates(num: int, length: int) -> torch.Tensor:
    """[num, length]: huge values that cancel in the right order, and only in that."""
    generator = torch.Generator().manual_seed(1000 * num + length)
    small = torch.randn(num, length, generator=generator)
    huge = torch.randn(length, generator=generator) * 1e24
    signs = torch.tensor([(1.0, -1.0, 0.0)[i % 3] for i in range(num)])
    return signs[:, None] * huge + small


def attempt(function, kind=ValueError) -> str | None:
    """The complaint of a function, None if there was none."""
    try:
        function()
    except kind as error:
        return str(error)
    return None


def complain(text: str, error=ValueError):
    raise error(text)


def mixing() -> dict[str, list]:
    """The cases in which the sharded mean or products are not those of one process."""
    wrong: dict[str, list] = {"mix": [], "weighted": [], "skipped": [], "gram": []}
    for owners in OWNERS:
        for length in LENGTHS:
            m, whole = len(owners), candidates(len(owners), length)
            own = {i: whole[i] for i, group in enumerate(owners) if group == mesh.group}
            shards = CandidateShards(own, dict(enumerate(owners)), length, mesh)
            even, uneven = [1 / m] * m, [(i + 1) / m for i in range(m)]
            first = [1.0] + [0.0] * (m - 1)
            for name, shares in (("mix", even), ("weighted", uneven), ("skipped", first)):
                if not torch.equal(shards.mix(shares), mix(whole, shares)):
                    wrong[name].append([owners, length])
            if not torch.allclose(shards.gram(), gram(whole), rtol=1e-9, atol=0):
                wrong["gram"].append([owners, length])
    return wrong


def gaps() -> bool:
    """Candidates are known by index, and some may be missing."""
    whole, owners = candidates(3, 10), {1: LAST, 4: 0, 6: LAST}
    own = {
        i: row for (i, group), row in zip(owners.items(), whole, strict=True) if group == mesh.group
    }
    shards = CandidateShards(own, owners, 10, mesh)
    return torch.equal(shards.mix([1 / 3] * 3), mix(whole, [1 / 3] * 3))


def part(index: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(index)
    values = torch.randn(5, generator=generator, dtype=torch.float64)
    return values * 10.0 ** torch.randint(-12, 12, (5,), generator=generator)


def measuring(axis: Axis) -> list:
    """Batch norm and metrics of a model over an axis, and alone."""
    config = DataConfig(name="digits", train_samples=500)
    dataset = data.load(config)
    loaders, task = dataset.loaders(32, cpu), make_task(dataset.info, config)
    found = []
    for where in (axis, alone):
        model = models.build(
            ModelConfig(options={"width": 4}), (1, 8, 8), 10, seed=3, data_name="digits"
        )
        recompute_(model, loaders.train, where, cpu)
        splits = (loaders.test, loaders.validation)
        metrics = [evaluate(task, model, split, where) for split in splits]
        found.append(({name: b.clone() for name, b in model.named_buffers()}, metrics))
    (buffers, metrics), (expected, wanted) = found
    return [
        len(expected) == 9 and all(torch.equal(buffers[n], expected[n]) for n in expected),
        metrics == wanted,
    ]


class Counting(nn.Module):
    """A block that is called twice, a running mean, and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.fc = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), nn.Linear(4, 2)
        self.register_buffer("center", torch.zeros(4))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.center = 0.5 * self.center + 0.5 * x.mean(0)
            self.steps += 1 + int(x[0, 0] == 7)
        return self.fc(self.block(self.block(x) * 3 + x))


def norms(axis: Axis) -> list:
    """Statistics over an axis against torch's alone; the first rank has all batches but three."""
    torch.manual_seed(0)
    batches = [torch.randn(n, 4) + n for n in (3, 5, 4, 6, 2, 7)]
    shares = [batches] if axis.size == 1 else [batches[3:], batches[:2], batches[2:3], []]
    shares = [batches[:5], batches[5:]] if axis.size == 2 else shares
    model, reference = Counting(), Counting()
    reference.load_state_dict(model.state_dict())
    update_bn(batches, reference)
    ranks = SimpleNamespace(topology=replace(mesh, world=axis))
    recompute_norms(model, shares[axis.rank], ranks)
    pairs = zip(model.block.buffers(), reference.block.buffers(), strict=True)
    return [torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-6) for a, b in pairs]


def united() -> list:
    """Buffers of DDP: a mean as that of one process with the whole batch, the first's count."""
    torch.manual_seed(0)
    whole, model = torch.randn(8, 4), Counting()
    share = whole.chunk(mesh.data.size)[mesh.data.rank]
    share[0, 0] = 7 * mesh.data.rank  # another count on all ranks but the first
    wrapped = DistributedDataParallel(model, process_group=mesh.data.group)
    wrapped(share)
    state = weights(wrapped)
    return [
        torch.allclose(state["center"], 0.5 * _mean_of(whole), atol=1e-6),
        int(state["steps"]),
        list(state) == list(model.state_dict()),
    ]


def _mean_of(whole: torch.Tensor) -> torch.Tensor:
    whole[:: 8 // mesh.data.size, 0] = 7.0 * torch.arange(mesh.data.size)
    return whole.mean(0)


def firsts(num: int) -> list[int] | None:
    axis = first_ranks(mesh, num)
    if axis is None:
        return None
    mine = torch.tensor([1.0])
    if axis.group is not None:
        torch.distributed.all_reduce(mine, group=axis.group)
    return [axis.rank, axis.size, int(mine)]


found = {f"{name} goes wrong for": cases for name, cases in mixing().items()}
found["gaps"] = gaps()
called = []
found["from_first"] = from_first(lambda: called.append(rank) or {"from": rank}, world, cpu)
found["called"] = called
found["from_first complains"] = attempt(
    lambda: from_first(lambda: complain(f"no, says {rank}"), world, cpu)
)
found["together"] = together(lambda: rank, world, cpu)
found["together complains"] = attempt(
    lambda: together(lambda: complain("no, says 2") if rank == 2 else rank, world, cpu)
)
found["together complains of files"] = attempt(
    lambda: together(lambda: complain("gone", OSError) if rank == 3 else rank, world, cpu)
)
same = {"configuration": "a", "mask": "b"}
found["agree"] = attempt(lambda: agree(same, world, cpu), RuntimeError)
other = same | {"mask": "c", "weather": "rain"} if rank == 3 else same
found["agree complains"] = attempt(lambda: agree(other, world, cpu), RuntimeError)
found["gather_json"] = gather_json({"rank": rank, "text": "ü" * 500 * rank}, world, cpu)
state = {"a": torch.full((3, 2), float(rank)), "b": torch.tensor(rank)}
broadcast_state_(state, world)
found["broadcast"] = [tensor.flatten().tolist() for tensor in (state["a"], state["b"])]
for name, axis in (("world", world), ("data", mesh.data)):
    total, expected = (sum_over_parts(part, 5, where, cpu) for where in (axis, alone))
    collectives._COLUMNS = 2  # three tables, the last one narrower
    in_tables = sum_over_parts(part, 5, axis, cpu)
    collectives._COLUMNS = 1 << 16
    is_same = torch.equal(total, expected) and torch.equal(in_tables, expected)
    found[f"parts over the {name}"] = is_same
    found[f"batch norm, metrics over the {name}"] = measuring(axis)
    found[f"norms over the {name}"] = norms(axis)
found["united"] = united()
found["four first"] = firsts(4)
found["two first"] = firsts(2)
found["mesh"] = [mesh.group, mesh.data.rank, mesh.is_leader]

everyone = gather_json(found, world, cpu)
if world.is_first:
    Path(sys.argv[2]).write_text(json.dumps(everyone))
topology.stop()
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
