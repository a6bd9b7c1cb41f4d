"""Runs the benchmarks of this folder one after another, and keeps what each of them found.

python benchmarks/all.py [--only soup] [--more] [--to results/bench]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click
from turns import ENVIRONMENT

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # runs from a clone, not installed

# In the order of the table; those that need no GPU, no root and no data.
SCRIPTS = (
    "threshold",
    "soup",
    "step",
    "loader",
    "batch_norm",
    "groups",
    "packed",
    "phase",
    "start",
)
# Those that want root and iproute2, or more than a minute or two.
MORE = (
    *("freed_memory", "in_group_gradients", "slow_links", "forecast"),
    *("scale_algorithms", "scale_ranks", "compiled"),
)


@click.command()
@click.option("--only", multiple=True, type=click.Choice(SCRIPTS + MORE), help="Some of them.")
@click.option("--more", "is_more", is_flag=True, help="Also those for root, which take longer.")
@click.option(
    "--to",
    "folder",
    type=Path,
    default=HERE.parent / "runs" / "bench",
    help="Folder for their JSON files. [default: runs/bench]",
)
def main(only: tuple[str, ...], is_more: bool, folder: Path) -> None:
    """Exit status 1 if one of them did not run to its end; a missed target is a result like any
    other."""
    failed = []
    for name in only or (*SCRIPTS, *(MORE if is_more else ())):
        start = time.monotonic()
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(folder / f"{name}.json")]
        if subprocess.run(command, env=os.environ | ENVIRONMENT).returncode:
            failed.append(name)
        click.echo(f"-- {name}: {time.monotonic() - start:.0f} s\n")
    if failed:
        raise click.ClickException(f"did not run to their end: {', '.join(failed)}")


if __name__ == "__main__":
    main()
