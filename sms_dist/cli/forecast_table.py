"""A forecast as a person reads it: phase by phase for one number of ranks, a row each for more."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sms_dist.cli.amounts import DAY, HOUR, MINUTE, bytes_text
from sms_dist.cli.forecast.forecast import Forecast, PhaseForecast
from sms_dist.cli.forecasts import Forecasts, remark


def show(found: Forecasts, console: Console) -> None:
    """The table and what there is to say about it."""
    single = len(found.rows) == 1
    console.print(_phases(found.rows[0][1]) if single else _numbers_of_ranks(found))
    for line in [*(_totals(found) if single else []), *_words(found)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """3.2 s, 12.5 min, 3.4 h, 2.1 d: a forecast is not known to more digits."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 99.95 * MINUTE:
        return f"{seconds / MINUTE:.1f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 99.95 * HOUR else f"{seconds / DAY:.1f} d"


def _phases(found: Forecast) -> Table:
    moved = ("gradients", "soup", "measures", "control")  # bytes
    table = _table("phase", "time", "training", "measuring", *moved)
    for item in found.phases:
        table.add_row(*_phase(item))
    return table


def _phase(item: PhaseForecast) -> tuple[str, ...]:
    moved = item.traffic
    return (
        str(item.phase) if item.phase else "dense",
        duration(item.seconds),
        duration(item.training),
        duration(item.measuring),
        *map(bytes_text, (moved.gradients, moved.soup, moved.measuring, moved.control)),
    )


def _numbers_of_ranks(found: Forecasts) -> Table:
    table = _table("ranks", "hosts", "waves", "time", _hours(found), "efficient", "memory", "")
    for planned, each in found.rows:
        waves = max((len(item.waves) for item in planned.plan.phases), default=0)
        table.add_row(
            f"{each.num_ranks:,}",
            f"{each.num_hosts:,}",
            f"{waves:,}",
            duration(each.seconds),
            f"{each.rank_hours:,.2f}",
            f"{found.efficiency(each):.0%}",
            bytes_text(each.memory_bytes),
            remark(planned),
        )
    table.columns[-1].justify = "left"
    return table


def _totals(found: Forecasts) -> list[str]:
    planned, each = found.rows[0]
    idle = remark(planned)
    return [
        f"forecast     {duration(each.seconds)} on {_ranks(each)}, of which "
        f"{duration(each.start_seconds)} to start; {each.rank_hours:,.2f} {_hours(found)}; "
        f"{bytes_text(each.memory_bytes)} a rank" + (f"; {idle}" if idle else "")
    ]


def _words(found: Forecasts) -> list[str]:
    best = found.sensible
    lines = [
        f"sensible     {_ranks(best)}: {duration(best.seconds)}, efficiency "
        f"{found.efficiency(best):.0%}"
    ]
    if found.left_out:
        numbers = ", ".join(map(str, found.left_out))
        lines.append(f"left out     {numbers}: no whole number of groups")
    return [*lines, *(f"note         {note}" for note in found.notes)]


def _ranks(found: Forecast) -> str:
    return f"{found.num_ranks:,} rank{'s' if found.num_ranks > 1 else ''}"


def _hours(found: Forecasts) -> str:
    return "rank hours" if found.rates.device == "cpu" else "GPU hours"


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)  # 80 columns hold 4096 ranks
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table
