"""Runs that may stand in one table: which keys must agree, and how the others are told apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from sms_dist.reports.collect import Run
from sms_dist.reports.grid import grouped
from sms_dist.reports.identity import differing, key_of
from sms_dist.reports.layout import Report, Table

Keys = Callable[[str], bool]
# In the titles or heads of tables anyway.
TITLED = ("data.name", "model.name", "pruning.goal_sparsity", "score")
SECTIONS = ("data.", "model.", "pretrain.", "pruning.", "retrain.", "engine.")


def shared(*free: str) -> Keys:
    """The keys on which the runs of a table have to agree: all of SECTIONS but the free ones."""
    return lambda key: key == "score" or (key.startswith(SECTIONS) and not key.startswith(free))


def per_setting(
    runs: Sequence[Run], keys_agree: Keys, build: Callable[[Sequence[Run]], Table]
) -> Report:
    """One table for each setting, never one of runs that cannot be compared."""

    def must_agree(key: str) -> bool:
        return key == "score" or keys_agree(key)

    settings = list(grouped(runs, lambda run: key_of(run.identity, must_agree)).values())
    if len(settings) == 1:
        return Report((build(runs),))
    keys = [key for key in differing(group[0].identity for group in settings) if must_agree(key)]
    untitled = [key for key in keys if key not in TITLED]
    tables = []
    for group in settings:
        table = build(group)
        told = ", ".join(f"{key}={_plain(group[0].identity.get(key))}" for key in untitled)
        tables.append(replace(table, title=f"{table.title}, {told}" if told else table.title))
    note = f"{len(settings)} settings, one table each: the runs differ in {_some(keys)}"
    return Report(tuple(tables), (note,))


def apart(
    runs: Sequence[Run], kind: Callable[[Run], Hashable], build: Callable[[Sequence[Run]], Report]
) -> Report:
    """A report on each kind of runs, as one."""
    parts = [build(group) for group in grouped(runs, kind).values()]
    tables = tuple(table for part in parts for table in part.tables)
    return Report(tables, tuple(dict.fromkeys(note for part in parts for note in part.notes)))


def variants(runs: Sequence[Run], is_told: Keys) -> list[tuple[str, list[Run]]]:
    """The runs of one row, parted where more than seeds and told keys differ.

    Each part with what tells it apart, as "weight_decay=0.001", "" if there is one part only.
    """

    def open_keys(key: str) -> bool:
        return not is_told(key)

    parts = grouped(runs, lambda run: key_of(run.identity, open_keys))
    different = [
        key for key in differing(part[0].identity for part in parts.values()) if open_keys(key)
    ]
    return [(_told(part[0], different), part) for part in parts.values()]


def _told(run: Run, keys: Sequence[str]) -> str:
    """What is empty needs no words."""
    found = {key: value for key, value in run.identity.items() if value not in ({}, [])}
    return ", ".join(f"{_brief(key, keys)}={_plain(found[key])}" for key in keys if key in found)


def _brief(key: str, keys: Sequence[str]) -> str:
    """The last word of a key, where no other one ends with it."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key


def _plain(value: Any) -> str:
    return str(value).replace("'", "")


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if keys[5:] else "")
