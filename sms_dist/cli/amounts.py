"""Bytes and times in words, times no more exact than they are known."""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds


def bytes_text(num: float) -> str:
    """Return 0 B, 999 B, 1.0 kB, 12.3 MB."""
    for unit in UNITS:
        if num < 1000 or unit == UNITS[-1]:
            break
        num /= 1000
    return f"{num:.0f} {unit}" if unit == "B" else f"{num:.1f} {unit}"


def about(seconds: float) -> str:
    """Return about 40 s, about 12 min, about 2 h 10 min, about 3 d 4 h."""
    limits = {57.5: 5, HOUR - 30: MINUTE, DAY - 300: 10 * MINUTE}
    unit = next((unit for limit, unit in limits.items() if seconds < limit), HOUR)
    return f"about {span(max(5, unit * round(seconds / unit)))}"


def span(seconds: float) -> str:
    """Return 3 s, 12 min, 2 h 5 min, 3 d 4 h, rounded down."""
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    large, small = ((DAY, "d"), (HOUR, "h")) if whole >= DAY else ((HOUR, "h"), (MINUTE, "min"))
    rest = whole % large[0] // small[0]
    return f"{whole // large[0]} {large[1]}" + (f" {rest} {small[1]}" if rest else "")


def ago(seconds: float, is_exact: bool = True) -> str:
    return f"{span(seconds)} ago" if is_exact else f"about {span(seconds)} ago"
