"""Where the ranks of one start find each other, undisturbed by what earlier starts have left.

torchrun may keep one store for all starts: then ranks that it starts again would read addresses of
processes that are dead, and wait for them. Neither its count of restarts nor the number of ranks
tells two starts apart when hosts leave and come back.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

TIMEOUT = timedelta(minutes=10)  # between the first rank and the last
LOOK_SECONDS = 1.0  # at most, between two looks
ARRIVALS = "sms_dist arrivals"


def arrive() -> tuple[Store, int, int]:
    """A store of this start alone, my rank, and the number of ranks. Every rank must call."""
    store, rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT)))
    return own_store(store, rank, size), rank, size


def own_store(store: Store, rank: int, size: int) -> Store:
    """Keys that only those see who arrive together. Every rank must call.

    Each rank leaves a word that nobody has left before; the first rank, which makes up a name,
    answers all words there are, also those of the dead.
    """
    word = f"{rank}:{secrets.token_hex(8)}"
    store.append(ARRIVALS, f"{word} ")  # type: ignore[attr-defined]  # its stub lacks it
    if rank == 0:
        name = f"sms_dist start {secrets.token_hex(8)}"
        _answer_all(store, name, size)
    else:
        _wait_until(lambda: bool(store.check([word])), "rank 0 has")
        name = store.get(word).decode()
        store.add(f"{name}: here", 1)
    return PrefixStore(name, store)


def _answer_all(store: Store, name: str, size: int) -> None:
    answered: set[str] = set()

    def are_all_here() -> bool:
        words = set(store.get(ARRIVALS).decode().split()) - answered
        for word in words:
            store.set(word, name)
        answered.update(words)
        return bool(store.add(f"{name}: here", 0) == size - 1)

    _wait_until(are_all_here, f"some of the {size} ranks have")


def _wait_until(condition: Callable[[], bool], who: str) -> None:
    """Waiting inside the store would print a warning at its timeout."""
    end, pause = time.monotonic() + TIMEOUT.total_seconds(), 0.01
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{who} not come within {TIMEOUT}")
        time.sleep(pause)
        pause = min(2 * pause, LOOK_SECONDS)
