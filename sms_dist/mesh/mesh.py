"""The mesh for training loops of one's own, on the process group that they have made."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from sms_dist.base.plain import shown, whole_number
from sms_dist.mesh.collectives import alike
from sms_dist.mesh.control import Control
from sms_dist.mesh.division import deal, groups_of
from sms_dist.mesh.topology import (
    SHORTEST,
    Axis,
    GroupUnit,
    Topology,
    device_of,
    in_mesh,
    one_process,
    world_size,
)

FIELD = "ranks_per_candidate"


class Mesh:
    """My place among the candidate groups: so many ranks train one candidate together.

    Every rank must call, after `torch.distributed.init_process_group`; without a process group the
    mesh is this process alone. The ranks of a group are consecutive. A rank under a launcher uses
    the GPU of its LOCAL_RANK, any other process the current one; without GPUs all use the CPU.

    Attributes:
        num_groups, group: the number of groups, and mine
        data_rank, data_size: my place among the ranks of my group, and their number
        is_first: True on the first rank of all, which prints and writes
        device: where this rank computes
        data_group: the process group of my group, for DistributedDataParallel (None: no ranks)
        mpu: my group as DeepSpeed wants to know it, for `deepspeed.initialize(mpu=...)` (None: no
            ranks)
        topology: the axes of the mesh, as the functions of this package take them

    Raises:
        ValueError: on every rank, where the ranks do not fill groups of this size, or ask for
            groups of different sizes; where a launcher started several ranks, but there is no
            process group.
    """

    def __init__(self, ranks_per_candidate: int = 1) -> None:
        if dist.is_initialized():
            world = Axis(dist.group.WORLD, dist.get_rank(), dist.get_world_size())
            device = _device()
            ranks = alike(lambda: whole_number(ranks_per_candidate, FIELD), FIELD, world, device)
            num_groups = groups_of(world.size, ranks, FIELD)
            # A rank that waits for others waits on the world's group, with its own timeout.
            control = Control(None, world.rank, world.size)
            self.topology = in_mesh(num_groups, device, control, SHORTEST)
        elif world_size() > 1:
            raise ValueError(
                f"a launcher started {world_size()} ranks, but they have no process group; call "
                "torch.distributed.init_process_group() before Mesh"
            )
        else:
            groups_of(1, ranks_per_candidate, FIELD)
            self.topology = one_process(_device())
        self.num_groups, self.group = self.topology.num_groups, self.topology.group
        data = self.topology.data
        self.data_rank, self.data_size, self.data_group = data.rank, data.size, data.group
        self.is_first = self.topology.world.is_first
        self.device = self.topology.device
        self.mpu = GroupUnit(data, self.topology.alone) if data.group is not None else None

    def mine(self, num_candidates: int) -> range:
        """Return the candidates that my group trains, one after the other, of so many in all."""
        num = whole_number(num_candidates, "num_candidates")
        return deal(range(num), self.num_groups, self.group)  # type: ignore[return-value]

    def __repr__(self) -> str:
        return (
            f"Mesh(group {self.group} of {self.num_groups}, rank {self.data_rank} of "
            f"{self.data_size} in it, {self.device})"
        )


def topology_of(mesh: Mesh) -> Topology:
    """Return the axes of a mesh; ValueError for what is none."""
    topology = getattr(mesh, "topology", None)
    if not isinstance(topology, Topology):
        raise ValueError(f"mesh={shown(mesh)} is no mesh; give what Mesh() returns")
    return topology


def _device() -> torch.device:
    if "LOCAL_RANK" in os.environ or not torch.cuda.is_available():
        return device_of("auto")
    return torch.device("cuda", torch.cuda.current_device())
