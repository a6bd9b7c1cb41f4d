"""Before the first collective ranks compare what they run, over the store that they met at.

Collectives between ranks that differ abort, hang or, worse, work.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import Store

from sms_dist.mesh.disagreement import differences, hosts_text, ranks_text

VERDICT = "verdict"
LEAVE = timedelta(seconds=5)


def compare(
    facts: Mapping[str, str], store: Store, rank: int, size: int, timeout: timedelta
) -> None:
    """Make sure that all ranks know the same facts, and that all are there.

    ValueError on all of them, a line for each difference, or for the ranks that have not come in
    time. The store must be new, or have a prefix of its own. Every rank must call.
    """
    if size == 1:
        return
    text = json.dumps(dict(facts), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if not store.check([_facts_key(digest)]):  # mostly the same of all ranks, sent by the first few
        store.set(_facts_key(digest), text)
    store.set(_rank_key(rank), f"{digest} {platform.node()}")
    if rank == 0:
        store.set(VERDICT, json.dumps(_verdict(store, size, timeout)))
    lines = _awaited_verdict(store, timeout)
    if lines:
        _take_leave(store, rank, size)
        raise ValueError("\n".join(lines))


def _take_leave(store: Store, rank: int, size: int) -> None:
    """Rank 0 may hold the store: it goes when the others have heard the verdict."""
    store.set(f"heard by {rank}", "")
    if rank == 0:
        _has_come(store, [f"heard by {each}" for each in range(size)], LEAVE)


def _verdict(store: Store, size: int, timeout: timedelta) -> list[str]:
    """What rank 0 finds, in two requests if all came and agree."""
    keys = [_rank_key(rank) for rank in range(size)]
    missing = [] if _has_come(store, keys, timeout) else _missing(store, keys)
    there = [key for key in keys if key not in missing]
    posts = [bytes(post).decode().partition(" ") for post in store.multi_get(there)]
    digests, hosts = [post[0] for post in posts], [post[2] for post in posts]
    if missing:
        late = ranks_text([rank for rank, key in enumerate(keys) if key in missing])
        return [
            f"{late} of {size} did not come within {timeout.total_seconds():g} s; the others are "
            f"on {hosts_text(hosts)}"
        ]
    if len(set(digests)) == 1:
        return []
    read = {digest: json.loads(store.get(_facts_key(digest))) for digest in set(digests)}
    return differences([read[digest] for digest in digests], hosts)


def _missing(store: Store, keys: list[str]) -> dict[str, None]:
    return {key: None for key in keys if not store.check([key])}


def _awaited_verdict(store: Store, timeout: timedelta) -> list[str]:
    """Rank 0 may come as late as any, and then waits as long for the others."""
    if not _has_come(store, [VERDICT], 2 * timeout):
        seconds = 2 * timeout.total_seconds()
        return [f"rank 0 has not compared the ranks within {seconds:g} s; look into its log"]
    lines: list[str] = json.loads(store.get(VERDICT))
    return lines


def _has_come(store: Store, keys: list[str], timeout: timedelta) -> bool:
    try:
        store.wait(keys, timeout)
    except dist.DistStoreError:
        return False
    return True


def _rank_key(rank: int) -> str:
    return f"rank {rank}"


def _facts_key(digest: str) -> str:
    return f"facts {digest}"
