"""Ranks meet in a store of their own, and compare what they run before the first collective.

torchrun may keep one store for all starts: then ranks that it starts again would read addresses of
processes that are dead, and wait for them. Neither its count of restarts nor the number of ranks
tells two starts apart when hosts leave and come back. And collectives between ranks that differ
abort, hang or, worse, work.
"""

from __future__ import annotations

import hashlib
import json
import platform
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

LOOK_SECONDS = 1.0  # at most, between two looks
ARRIVALS = "sms_dist arrivals"
VERDICT = "verdict"
LEAVE = timedelta(seconds=5)
MAX_LINES = 20
MAX_VALUES = 4
MAX_HOSTS = 3
MAX_VALUE = 60  # characters
NOTHING = "nothing"  # the value of a fact that a rank does not know
SAME_PACKAGES = "install the same everywhere"
# By the first word of the fact's name.
WAYS_OUT = {
    **dict.fromkeys(("python", "torch", "numpy", "deepspeed", "sms_dist"), SAME_PACKAGES),
    "code": "start the same code everywhere",
    "key": "give all ranks the same --config and --set",
    "configuration": "give all ranks the same --config and --set",
    "data": "copy the same data to all hosts",
    "device": "set engine.device, or leave the other hosts out",
    "mask": "from equal weights: look for a host with another processor, or with a fault",
}


def arrive(timeout: timedelta) -> tuple[Store, int, int]:
    """Return a store of this start alone, my rank, and the number of ranks. Every rank must call.

    ValueError that names the ranks which have not come in time.
    """
    store, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
    return own_store(store, rank, size, timeout), rank, size


def own_store(store: Store, rank: int, size: int, timeout: timedelta) -> Store:
    """Return a store that only those ranks share which arrive together. Every rank must call.

    Each rank posts a word that nobody has posted before; the first rank, which makes up a name,
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
        store.append(f"{name}: here", f"{rank} ")  # type: ignore[attr-defined]
    return PrefixStore(name, store)


def _answer_all(store: Store, name: str, size: int, timeout: timedelta) -> None:
    answered: set[str] = set()
    missing = set(range(1, size))
    store.append(f"{name}: here", "0 ")  # type: ignore[attr-defined]

    def are_all_here() -> bool:
        words = set(store.get(ARRIVALS).decode().split()) - answered
        for word in words:
            store.set(word, name)
        answered.update(words)
        missing.difference_update(map(int, store.get(f"{name}: here").split()))
        return not missing

    if not _comes(are_all_here, timeout):
        late = ranks_text(sorted(missing))
        raise ValueError(f"{late} of {size} did not come within {timeout.total_seconds():g} s")


def _comes(condition: Callable[[], bool], timeout: timedelta) -> bool:
    """Return whether a condition comes true in time; waiting in the store would print a warning."""
    end, pause = time.monotonic() + timeout.total_seconds(), 0.01
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, LOOK_SECONDS)
    return True


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
    if not store.check([f"facts {digest}"]):  # mostly equal, and then sent by the first few
        store.set(f"facts {digest}", text)
    store.set(f"rank {rank}", f"{digest} {platform.node()}")
    if rank == 0:
        store.set(VERDICT, json.dumps(_verdict(store, size, timeout)))
    # rank 0 may come as late as any, and then waits as long for the others
    if _has_come(store, [VERDICT], 2 * timeout):
        lines: list[str] = json.loads(store.get(VERDICT))
    else:
        seconds = 2 * timeout.total_seconds()
        lines = [f"rank 0 has not compared the ranks within {seconds:g} s; look into its log"]
    if lines:
        store.set(f"heard by {rank}", "")
        if rank == 0:  # it may hold the store, which has to stay until the others have read it
            _has_come(store, [f"heard by {each}" for each in range(size)], LEAVE)
        raise ValueError("\n".join(lines))


def _verdict(store: Store, size: int, timeout: timedelta) -> list[str]:
    """Return what is wrong, as rank 0 finds it: in two requests if all came and agree."""
    ranks = range(size)
    missing: list[int] = []
    if not _has_come(store, [f"rank {rank}" for rank in ranks], timeout):
        missing = [rank for rank in ranks if not store.check([f"rank {rank}"])]
    posts = store.multi_get([f"rank {rank}" for rank in ranks if rank not in missing])
    digests, hosts = zip(*(bytes(post).decode().split(" ", 1) for post in posts), strict=True)
    if missing:
        return [
            f"{ranks_text(missing)} of {size} did not come within {timeout.total_seconds():g} s; "
            f"the others are on {hosts_text(hosts)}"
        ]
    if len(set(digests)) == 1:
        return []
    facts = {digest: json.loads(store.get(f"facts {digest}")) for digest in set(digests)}
    return differences([facts[digest] for digest in digests], hosts)


def _has_come(store: Store, keys: list[str], timeout: timedelta) -> bool:
    try:
        store.wait(keys, timeout)
    except dist.DistStoreError:
        return False
    return True


def differences(everyone: Sequence[Mapping[str, str]], hosts: Sequence[str]) -> list[str]:
    """Return a line `ranks do not agree on ...` for each fact in which ranks differ.

    `everyone` has the facts of each rank by name. The value of most ranks comes first; for the
    others the line names their hosts.
    """
    names = dict.fromkeys(name for facts in everyone for name in facts)
    lines = []
    for name in names:
        ranks_of: dict[str, list[int]] = {}
        for rank, facts in enumerate(everyone):
            ranks_of.setdefault(facts.get(name, NOTHING), []).append(rank)
        if len(ranks_of) > 1:
            lines.append(_difference(name, ranks_of, hosts))
    if len(lines) > MAX_LINES:
        rest = len(lines) - MAX_LINES
        lines[MAX_LINES:] = [f"ranks do not agree on {rest} further facts of {len(names)}"]
    return lines


def _difference(name: str, ranks_of: Mapping[str, list[int]], hosts: Sequence[str]) -> str:
    parts: list[str] = []
    for value, ranks in sorted(ranks_of.items(), key=lambda item: (-len(item[1]), item[1])):
        where = f" on {hosts_text([hosts[rank] for rank in ranks])}" if parts else ""
        short = value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 3] + "..."
        parts.append(f"{short} ({ranks_text(ranks)}{where})")
    if len(parts) > MAX_VALUES:
        parts[MAX_VALUES:] = [f"and {len(parts) - MAX_VALUES} others"]
    way_out = WAYS_OUT.get(name.partition(" ")[0])
    return f"ranks do not agree on {name}: {', '.join(parts)}" + (f"; {way_out}" if way_out else "")


def ranks_text(ranks: Sequence[int]) -> str:
    """Return ranks, given in order, as text: rank 6; ranks 0-5, 7."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1][1:] = [rank]
        else:
            runs.append([rank])
    word = "rank" if len(ranks) == 1 else "ranks"
    return f"{word} {', '.join('-'.join(map(str, run)) for run in runs)}"


def hosts_text(hosts: Sequence[str]) -> str:
    """Return hosts as text: host a; hosts a, b; 12 hosts."""
    names = list(dict.fromkeys(hosts))
    if len(names) > MAX_HOSTS:
        return f"{len(names)} hosts"
    return f"{'host' if len(names) == 1 else 'hosts'} {', '.join(names)}"
