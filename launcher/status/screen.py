"""The status of runs as people see it: coloured on a terminal, else whole lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.screen import live_table, plain_line
from launcher.status.document import Document
from launcher.status.lines import Line, head, records, row, work
from sms_dist.records.progress import Progress

LABEL = 10  # columns
MAX_GROUPS = 32
STYLES = {
    "running": "bold green",
    "done": "bold green",
    "waiting": "bold yellow",
    "not started": "bold yellow",
    "stopped": "bold yellow",
    "failed": "bold red",
    "lost": "bold red",
}
COLUMNS = ("run", "state", "phase", "candidates", "left", "last sign")


def one(document: Document) -> RenderableType:
    """Everything about a run, within 80 columns."""
    style = STYLES[document["state"]]
    state = Text.assemble((document["state"], style), f"  {document['reason']}")
    groups = _groups(document)
    middle: list[RenderableType] = ["", live_table(groups), *_rest(document), ""] if groups else []
    above = _grid([("state", state), *work(document)])
    return Group(Text(head(document), "bold"), above, *middle, _grid(records(document)))


def several(documents: Sequence[Document]) -> Table:
    """A row for each run."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, no_wrap=name != "run", overflow="fold")
    for document in documents:
        state = Text(document["state"], STYLES[document["state"]])
        table.add_row(Text(document["run"]), state, *map(Text, row(document)))
    return table


def one_plain(document: Document) -> str:
    lines: list[Line] = [("state", f"{document['state']}  {document['reason']}")]
    lines += work(document)
    for number, progress in enumerate(_groups(document)):
        if progress is not None:
            lines.append(("groups", plain_line(number, progress)))
    lines += [("groups", text) for text in _rest(document)]
    lines += records(document)
    return "\n".join([head(document), *(f"{label:<{LABEL}}{text}" for label, text in lines)])


def several_plain(documents: Sequence[Document]) -> str:
    rows = [COLUMNS, *((each["run"], each["state"], *row(each)) for each in documents)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (map(str.ljust, cells, widths) for cells in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _grid(lines: Iterable[tuple[str, Text | str]]) -> Table:
    """A label is said once, and a long text goes on under itself."""
    table = Table.grid(padding=0)
    table.add_column(width=LABEL, style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    last = ""
    for label, text in lines:
        table.add_row(
            "" if label == last else label, text if isinstance(text, Text) else Text(text)
        )
        last = label
    return table


def _groups(document: Document) -> list[Progress | None]:
    """The first groups, where it matters what they do or did last."""
    found = {int(group): Progress(**facts) for group, facts in document["groups"].items()}
    if not found or document["state"] not in ("running", "failed", "lost"):
        return []
    num_groups = document["num_groups"] or max(found) + 1
    return [found.get(group) for group in range(min(num_groups, MAX_GROUPS))]


def _rest(document: Document) -> list[str]:
    rest = (document["num_groups"] or 0) - MAX_GROUPS
    return [f"and {rest} more groups: see --json"] if rest > 0 and _groups(document) else []
