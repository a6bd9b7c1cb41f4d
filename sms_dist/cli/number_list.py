"""Numbers as an option takes them: 8, 1,2,4 or 1..4096, each twice the one before."""

from __future__ import annotations

import click

MOST = 1 << 20


def numbers(ctx: click.Context, option: click.Parameter, text: str | None) -> tuple[int, ...]:
    """The callback of an option; () where it is not given."""
    found: list[int] = []
    for word in text.split(",") if text else ():
        first, dots, last = word.strip().partition("..")
        if not first.isdecimal() or (dots and not last.isdecimal()):
            raise click.BadParameter(f"{text!r} is no list of numbers; write 8, 1,2,4 or 1..4096")
        found += _doubled(int(first), int(last or first))
    if found and not 1 <= min(found) <= max(found) <= MOST:
        raise click.BadParameter(f"{text!r} has to be between 1 and {MOST}")
    return tuple(sorted(set(found)))


def _doubled(first: int, last: int) -> list[int]:
    """1, 2, 4 ... up to the last one, and the first one in any case."""
    found = [first]
    while 0 < 2 * found[-1] <= min(last, MOST):
        found.append(2 * found[-1])
    return found
