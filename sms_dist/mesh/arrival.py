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

from torch.distributed import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from sms_dist.mesh.disagreement import ranks_text

LOOK_SECONDS = 1.0  # at most, between two looks
ARRIVALS = "sms_dist arrivals"


def arrive(timeout: timedelta) -> tuple[Store, int, int]:
    """A store of this start alone, my rank, and the number of ranks. Every rank must call.

    ValueError that names the ranks which have not come in time.
    """
    store, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
    return own_store(store, rank, size, timeout), rank, size


def own_store(store: Store, rank: int, size: int, timeout: timedelta) -> Store:
    """Keys that only those see who arrive together. Every rank must call.

    Each rank leaves a word that nobody has left before; the first rank, which makes up a name,
    answers all words there are, also those of the dead.
    """
    word = f"{rank}:{secrets.token_hex(8)}"
    store.append(ARRIVALS, f"{word} ")  # type: ignore[attr-defined]  # its stub lacks it
    if rank == 0:
        name = f"sms_dist start {secrets.token_hex(8)}"
        _answer_all(store, name, size, timeout)
    else:  # rank 0 may come as late as any, and then waits as long for the others
        if not _comes(lambda: bool(store.check([word])), 2 * timeout):
            raise ValueError(f"rank 0 did not come within {2 * timeout.total_seconds():g} s")
        name = store.get(word).decode()
        store.append(_here(name), f"{rank} ")  # type: ignore[attr-defined]
    return PrefixStore(name, store)


def _here(name: str) -> str:
    return f"{name}: here"


def _answer_all(store: Store, name: str, size: int, timeout: timedelta) -> None:
    answered: set[str] = set()
    store.append(_here(name), "0 ")  # type: ignore[attr-defined]
    missing = set(range(size))

    def are_all_here() -> bool:
        words = set(store.get(ARRIVALS).decode().split()) - answered
        for word in words:
            store.set(word, name)
        answered.update(words)
        missing.difference_update(map(int, store.get(_here(name)).split()))
        return not missing

    if not _comes(are_all_here, timeout):
        late = ranks_text(sorted(missing))
        raise ValueError(f"{late} of {size} did not come within {timeout.total_seconds():g} s")


def _comes(condition: Callable[[], bool], timeout: timedelta) -> bool:
    """Waiting inside the store would print a warning at its timeout."""
    end, pause = time.monotonic() + timeout.total_seconds(), 0.01
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, LOOK_SECONDS)
    return True
