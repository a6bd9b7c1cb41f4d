"""Thousands of ranks: what each has to do is counted, in torch's fake process group."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore
from torch.testing._internal.distributed.fake_pg import FakeStore

from sms_dist.mesh import topology
from sms_dist.mesh.control import Control
from sms_dist.mesh.handshake import compare
from sms_dist.mesh.watchdog import MOST_RANKS_A_SECOND

SIZES = (64, 4096)


class Counting:
    """A store that counts what it is asked for, and the keys that it is asked for."""

    def __init__(self):
        self.store, self.asked, self.keys = HashStore(), Counter(), 0

    def __getattr__(self, name):
        def call(first, *rest):
            self.asked[name] += 1
            self.keys += len(first) if isinstance(first, list) else 1
            return getattr(self.store, name)(first, *rest)

        return call


@pytest.fixture
def placed():
    """(rank, size, ranks per candidate) -> its place, and the number of groups it has made."""

    def place(rank, size, group):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
        found = topology.in_mesh(size // group, torch.device("cpu"), Control(None, 0, 1))
        return found, len(dist.distributed_c10d._world.pg_map) - 1

    yield place
    dist.destroy_process_group()


def greeted(size):
    """The requests of rank 0, and of another one, when the others have come before."""
    facts, store, soon = {"torch": "2.13.0"}, Counting(), timedelta(seconds=5)
    store.store.set("verdict", "[]")
    for rank in range(2, size):
        store.store.set(f"rank {rank}", "")
    compare(facts, store, 1, size, soon)
    other, store.asked = store.asked, Counter()
    digest = store.store.get("rank 1").decode()
    for rank in range(2, size):
        store.store.set(f"rank {rank}", digest)
    store.keys = 0
    compare(facts, store, 0, size, soon)
    return store.asked.total(), other.total(), store.keys


def test_a_rank_of_4096_makes_the_groups_that_it_is_in_and_no_others(placed) -> None:
    found, num_made = placed(2050, 4096, 4)
    assert num_made == 3  # its row, its column, itself
    assert (found.world.rank, found.world.size) == (2050, 4096)
    assert (found.group, found.num_groups) == (512, 1024)
    assert (found.data.rank, found.data.size, found.is_leader) == (2, 4, False)
    assert dist.get_process_group_ranks(found.data.group) == [2048, 2049, 2050, 2051]
    assert dist.get_process_group_ranks(found.candidate.group) == list(range(2, 4096, 4))
    assert dist.get_process_group_ranks(found.alone) == [2050]


def test_a_handshake_is_as_many_requests_for_4096_ranks_as_for_64() -> None:
    few, many = (greeted(size) for size in SIZES)
    assert many[:2] == few[:2]
    assert many[2] - few[2] == 2 * (
        SIZES[1] - SIZES[0]
    )  # keys: rank 0 waits for each, and reads it


def test_ranks_listen_less_often_the_more_they_are() -> None:
    """All together they may ask the store for no more than it can serve."""
    waits = [Control(None, 0, size)._listen_seconds for size in (1, 256, 4096)]
    assert waits[:2] == [0.5, 0.5]
    assert 4096 / waits[2] <= MOST_RANKS_A_SECOND
