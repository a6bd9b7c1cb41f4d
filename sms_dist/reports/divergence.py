"""Candidates that diverged, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]
NOT_FINITE, FAR, EARLIER = "not finite", "far", "earlier"  # kinds


def reason(divergence: Document) -> str:
    """Why a candidate counts as diverged, by what its document says of it."""
    if divergence["kind"] == EARLIER:
        return "left out since an earlier phase"
    if divergence["kind"] == NOT_FINITE:
        return f"loss or weights not finite after epoch {divergence['epoch']}"
    loss, median = divergence["loss"], divergence["median"]
    return f"training loss of {loss:.4g} far above the median, {median:.4g}"


def divergences(phase: Document) -> Iterator[str]:
    """Of a phase in summary.json: a line for each candidate that diverged, also if a retry went
    well."""
    for candidate in phase["candidates"]:
        if candidate.get("diverged"):
            yield _line("diverged", phase, candidate) + _tries(candidate)
        elif attempts := candidate.get("attempts"):
            yield _line("retried", phase, attempts[0] | {"index": candidate["index"]})


def _line(word: str, phase: Document, candidate: Document) -> str:
    who = f"candidate {candidate['index']} of phase {phase['phase']} (seed {candidate['seed']})"
    why = f", {reason(candidate['divergence'])}" if "divergence" in candidate else ""
    return f"{word}: {who}{why}"


def _tries(candidate: Document) -> str:
    number = len(candidate.get("attempts", ()))
    return f"; {number + 1} seeds were tried" if number else ""
