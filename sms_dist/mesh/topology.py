"""The mesh of global ranks, candidate x data: rows train, columns average."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore

from sms_dist.mesh.control import Control
from sms_dist.mesh.division import groups_of
from sms_dist.mesh.handshake import arrive, compare
from sms_dist.mesh.watchdog import Watchdog

# A collective outlasts the watchdog's limit, which names who hangs. Groups that may be hours apart
# meet outside of collectives (`Control.meet`), and then wait for each other for a moment only.
SHORTEST, AFTER_WATCHDOG = timedelta(minutes=30), timedelta(minutes=5)
NO_LIMIT = timedelta(days=7)
ARRIVAL = timedelta(minutes=10)  # between the first rank that starts and the last one


@dataclass(frozen=True)
class Axis:
    """Ranks that hold collectives together, and my place among them."""

    group: dist.ProcessGroup | None  # None: all ranks, or I am not among them
    rank: int
    size: int
    # The same ranks, for tensors in host memory; only of those that train together.
    host_group: dist.ProcessGroup | None = None
    moved: Callable[[], None] = lambda: None  # workers call it now and then: a sign of progress

    @property
    def is_first(self) -> bool:
        return self.rank == 0


@dataclass(frozen=True)
class Topology:
    """This rank's place in the mesh."""

    world: Axis
    data: Axis  # my row: the ranks that train one candidate
    candidate: Axis  # my column: the ranks with my place in every row
    alone: dist.ProcessGroup | None  # me only; DeepSpeed wants a model-parallel group
    device: torch.device
    control: Control = field(default_factory=lambda: Control(None, 0, 1))
    timeout: timedelta = NO_LIMIT  # of a collective

    @property
    def num_groups(self) -> int:
        return self.candidate.size

    @property
    def group(self) -> int:
        return self.candidate.rank

    @property
    def is_leader(self) -> bool:
        """True on the rank that writes for its group."""
        return self.data.is_first


class GroupUnit:
    """DeepSpeed's model-parallel unit: data parallel over a group, model parallel over this rank.

    Without the latter, clipping would take the gradient's norm over the whole world, silently.
    """

    def __init__(self, data: Axis, alone: dist.ProcessGroup | None) -> None:
        self._data, self._alone = data, alone

    def get_data_parallel_group(self) -> dist.ProcessGroup | None:
        return self._data.group

    def get_data_parallel_rank(self) -> int:
        return self._data.rank

    def get_data_parallel_world_size(self) -> int:
        return self._data.size

    def get_data_parallel_group_ranks(self) -> list[int]:
        return dist.get_process_group_ranks(self._data.group)

    def get_model_parallel_group(self) -> dist.ProcessGroup | None:
        return self._alone

    def get_model_parallel_rank(self) -> int:
        return 0

    def get_model_parallel_world_size(self) -> int:
        return 1


def world_size() -> int:
    """Return the number of ranks that the launcher started, 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def device_of(name: str) -> torch.device:
    """Return this rank's device, by the name auto, cpu or cuda."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("engine.device=cuda: this machine has none; use auto or cpu")
    local = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def start(
    ranks_per_candidate: int = 1,
    device: str = "auto",
    *,
    threads: int = 1,
    deterministic: bool = False,
    silence_seconds: float = 60.0,
    hang_seconds: float | None = 1800.0,
    facts: Mapping[str, str] | None = None,
) -> Topology:
    """Join the other ranks and return my place in the mesh. Every rank must call.

    Args:
        device: auto, cpu or cuda.
        threads: CPU threads of this rank; they decide bits.
        deterministic: CUDA uses only algorithms that give the same bits every time.
        silence_seconds, hang_seconds: limits of the watchdog.
        facts: what all ranks must have in common; ValueError on all of them where it differs.
    """
    rows = groups_of(world_size(), ranks_per_candidate)
    own = device_of(device)
    torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
    timeout = collective_timeout(hang_seconds)
    # nccl where every rank of the host has a GPU to itself
    has_own_gpu = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count()
    backend = "nccl" if own.type == "cuda" and has_own_gpu else "gloo"
    if "MASTER_ADDR" not in os.environ:  # no launcher: one rank
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
        return in_mesh(rows, own, Control(None, 0, 1), timeout)
    store, rank, size = arrive(ARRIVAL)
    known = {**(facts or {}), "device": own.type}
    compare(known, PrefixStore("handshake", store), rank, size, ARRIVAL)
    # The watchdog is there before the ranks wait for each other for the first time.
    control = Control(store, rank, size)
    control.watchdog = Watchdog(store, rank, size, silence_seconds, hang_seconds, control.lose)
    store.set_timeout(timeout)
    default = PrefixStore("default_pg", store)
    dist.init_process_group(backend, timeout=timeout, store=default, rank=rank, world_size=size)
    return in_mesh(rows, own, control, timeout)


def collective_timeout(hang_seconds: float | None) -> timedelta:
    """Return how long a rank waits in a collective, by the watchdog's limit (None: it has none)."""
    if hang_seconds is None:
        return NO_LIMIT
    return max(SHORTEST, timedelta(seconds=hang_seconds)) + AFTER_WATCHDOG


def in_mesh(
    num_groups: int, device: torch.device, control: Control, timeout: timedelta = NO_LIMIT
) -> Topology:
    """Return my place among ranks that have met. Every rank must call.

    Each rank makes only the groups that it is in: with a device mesh every rank makes all of them,
    which for thousands of ranks takes hours.
    """
    world = _axis(dist.group.WORLD, control)
    columns = world.size // num_groups
    row, column = divmod(world.rank, columns)
    data = _group(range(row * columns, (row + 1) * columns), timeout)
    return Topology(
        world=world,
        data=_with_host_group(_axis(data, control), timeout),
        candidate=_axis(_group(range(column, world.size, columns), timeout), control),
        alone=_group([world.rank], timeout),
        device=device,
        control=control,
        timeout=timeout,
    )


def by_itself(device: str = "auto", threads: int = 1) -> Topology:
    """Return a mesh of this process alone, whoever started it: to look at models, not to train."""
    torch.set_num_threads(threads)
    return one_process(device_of(device))


def one_process(device: torch.device) -> Topology:
    """Return a mesh of this process alone, on a device."""
    axis = Axis(None, 0, 1)
    return Topology(world=axis, data=axis, candidate=axis, alone=None, device=device)


def first_ranks(topology: Topology, num: int) -> Axis | None:
    """Return the axis of the first `num` ranks, None on the others. Every rank must call."""
    world, timeout = topology.world, topology.timeout
    assert 0 < num <= world.size, num
    if num == world.size:
        return world if world.size == 1 else _with_host_group(world, timeout)
    group = dist.new_group(list(range(num)), timeout=timeout)
    return _with_host_group(_axis(group, topology.control), timeout) if world.rank < num else None


def stop(topology: Topology | None = None) -> None:
    """Leave the other ranks."""
    if topology is not None:
        topology.control.close()
    if dist.is_initialized():
        dist.destroy_process_group()


def _axis(group: dist.ProcessGroup | None, control: Control) -> Axis:
    assert group is not None
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    return Axis(group, rank, size, moved=control.moved)


def _group(
    ranks: Sequence[int], timeout: timedelta, backend: str | None = None
) -> dist.ProcessGroup:
    """Return a group that I am in. Only its ranks call, after equally many groups of their own."""
    group: dist.ProcessGroup | None = dist.new_group(
        list(ranks), timeout=timeout, backend=backend, use_local_synchronization=True
    )
    assert group is not None
    return group


def _with_host_group(axis: Axis, timeout: timedelta) -> Axis:
    """Return the axis with its host group. Every rank of the axis must call."""
    assert axis.group is not None
    if dist.get_backend(axis.group) != "nccl":  # which knows of no host memory
        return replace(axis, host_group=axis.group)
    ranks = dist.get_process_group_ranks(axis.group)
    return replace(axis, host_group=_group(ranks, timeout, backend="gloo"))
