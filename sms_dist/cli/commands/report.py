"""sms-dist report: the paper's tables and figures, out of the journals of runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sms_dist.base.lookup import lookup
from sms_dist.base.plain import path, printable

if TYPE_CHECKING:
    from sms_dist.reports.runs import Run

DEFAULT_FOLDER = Path("report")


@click.command(epilog="Example: sms-dist report runs/digits_sms --table 1 --format markdown")
@click.argument("folders", metavar="RUNS...", nargs=-1, required=True, type=path)
@click.option(
    "--table",
    "name",
    default="methods",
    show_default=True,
    help="The layout of a table of the paper: 1, 2, 4 to 17; or methods, robustness, corruptions.",
)
@click.option(
    "--format",
    "style",
    type=str,
    help="text, markdown, latex or csv (default: text; with --out all of them).",
)
@click.option("--out", type=path, help="Write files into this folder, print their names only.")
@click.option(
    "--plot", "is_plotting", is_flag=True, help="Figures 3, 4a, 4b and 7 as PNG and SVG (in --out)."
)
def report(
    folders: tuple[Path, ...], name: str, style: str | None, out: Path | None, is_plotting: bool
) -> None:
    """Make tables and figures of finished runs.

    RUNS are run folders, or folders that contain some. Several seeds of one experiment become mean
    and standard deviation; runs that cannot be compared get tables of their own. Nothing but the
    runs' journals and configurations is read.
    """
    try:
        from sms_dist.reports.runs import read_runs
        from sms_dist.reports.table import FORMATS, text
        from sms_dist.reports.tables import make

        if is_plotting:
            import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f"sms-dist report needs {error.name}, which is not installed; "
            "pip install 'sms_dist[reports]'"
        ) from None
    if style is not None:
        lookup(FORMATS, style, "--format")
    runs, notes = read_runs(folders)
    tables, more_notes = make(name, runs)
    for note in (*notes, *more_notes):
        click.echo(f"note: {printable(note)}", err=True)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(tables, 1):
        stem = f"table_{name}" + (f"_{number}" if len(tables) > 1 else "")
        for suffix, form in FORMATS.values() if out and not style else [FORMATS[style or "text"]]:
            if out is not None:
                file = out / f"{stem}.{suffix}"
                file.write_text(form(table), encoding="utf-8")
                click.echo(file)
                continue
            if number > 1:
                click.echo()
            is_styled = form is text and sys.stdout.isatty()
            width = shutil.get_terminal_size().columns
            click.echo(text(table, width) if is_styled else form(table), nl=False)
    if is_plotting:
        _plot(runs, out or DEFAULT_FOLDER)


def _plot(runs: Sequence[Run], out: Path) -> None:
    from sms_dist.reports.figures import figures, save

    drawable, missing = figures(runs)
    for note in missing:
        click.echo(f"note: {note}", err=True)
    if not drawable:
        raise ValueError("--plot: these runs give no figure (the notes say what each needs)")
    out.mkdir(parents=True, exist_ok=True)
    for stem, figure in drawable.items():
        for file in save(figure, out / stem):
            click.echo(file)
