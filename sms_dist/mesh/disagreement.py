"""What ranks do not agree on: a line for each difference, ranks of one opinion together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
