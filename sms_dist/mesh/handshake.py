"""Ranks meet: how they find each other, and compare what they run before the first collective."""

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

MAX_LINES = 20
MAX_OPINIONS = 4
MAX_HOSTS = 3
MAX_VALUE = 60  # characters
NOTHING = "nothing"  # where a rank does not know of the fact
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


def differences(everyone: Sequence[Mapping[str, str]], hosts: Sequence[str]) -> list[str]:
    """Facts by name, and the host, of each rank -> `ranks do not agree on ...`, a line per fact.

    The opinion of most ranks comes first; for the others it is said on which hosts they are.
    """
    names = dict.fromkeys(name for facts in everyone for name in facts)
    lines = []
    for name in names:
        opinions = _opinions([facts.get(name, NOTHING) for facts in everyone])
        if len(opinions) > 1:
            lines.append(_line(name, opinions, hosts))
    if len(lines) > MAX_LINES:
        rest = len(lines) - MAX_LINES
        lines[MAX_LINES:] = [f"ranks do not agree on {rest} further facts of {len(names)}"]
    return lines


def ranks_text(ranks: Sequence[int]) -> str:
    """rank 6; ranks 0-5, 7. The ranks in order."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1][1:] = [rank]
        else:
            runs.append([rank])
    word = "rank" if len(ranks) == 1 else "ranks"
    return f"{word} {', '.join('-'.join(map(str, run)) for run in runs)}"


def hosts_text(hosts: Sequence[str]) -> str:
    """host a; hosts a, b; 12 hosts."""
    names = list(dict.fromkeys(hosts))
    if len(names) > MAX_HOSTS:
        return f"{len(names)} hosts"
    return f"{'host' if len(names) == 1 else 'hosts'} {', '.join(names)}"


def _opinions(values: Sequence[str]) -> dict[str, list[int]]:
    """Value -> its ranks, that of most ranks first."""
    found: dict[str, list[int]] = {}
    for rank, value in enumerate(values):
        found.setdefault(value, []).append(rank)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[1])))


def _line(name: str, opinions: Mapping[str, Sequence[int]], hosts: Sequence[str]) -> str:
    told = []
    for place, (value, ranks) in enumerate(opinions.items()):
        where = f" on {hosts_text([hosts[rank] for rank in ranks])}" if place else ""
        short = value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 3] + "..."
        told.append(f"{short} ({ranks_text(ranks)}{where})")
    if len(told) > MAX_OPINIONS:
        told[MAX_OPINIONS:] = [f"and {len(told) - MAX_OPINIONS} others"]
    way_out = WAYS_OUT.get(name.partition(" ")[0])
    return f"ranks do not agree on {name}: {', '.join(told)}" + (f"; {way_out}" if way_out else "")


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
