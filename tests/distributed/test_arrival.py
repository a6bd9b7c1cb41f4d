"""Ranks of one start find each other in a store that remembers earlier starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from sms_dist.mesh.handshake import ARRIVALS, own_store

SOON, LATER = timedelta(seconds=0.2), timedelta(seconds=60)


@pytest.fixture
def store():
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def started(store, size, ranks=None, timeout=LATER):
    """The stores that the ranks of a start get; they come in no order."""
    ranks = list(reversed(range(size))) if ranks is None else ranks
    with ThreadPoolExecutor(len(ranks)) as pool:
        coming = [pool.submit(own_store, store.clone(), r, size, timeout) for r in ranks]
        return [one.result() for one in coming]


def test_ranks_that_arrive_together_share_keys(store) -> None:
    first, *others = started(store, 3)
    first.set("key", "value")
    assert [other.get("key") for other in others] == [b"value", b"value"]


def test_a_later_start_sees_no_keys_of_an_earlier_one(store) -> None:
    for size in (3, 2, 3):  # a host leaves and comes back
        stores = started(store, size)
        assert not any(one.check(["key"]) for one in stores)
        stores[0].set("key", "value")


def test_words_of_ranks_that_died_before_they_met_disturb_nobody(store) -> None:
    store.append(ARRIVALS, "0:dead 1:dead 2:dead ")
    stores = started(store, 3)
    stores[0].set("key", "value")
    assert all(one.check(["key"]) for one in stores)


def test_who_has_not_come_is_named(store) -> None:
    with pytest.raises(ValueError, match=r"^rank 1 of 2 did not come within 0\.2 s"):
        started(store, 2, ranks=[0], timeout=SOON)
    with pytest.raises(ValueError, match=r"^rank 0 did not come within 0\.4 s"):
        started(store, 2, ranks=[1], timeout=SOON)
