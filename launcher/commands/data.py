"""sms-dist data: shards of a data set, written and checked."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group(epilog="Example: sms-dist data prepare cifar10 --from downloads --to shards/cifar10")
def data() -> None:
    """Write and check the shards of a data set."""


@data.command(epilog="Example: sms-dist data prepare cifar10 --from downloads --to shards/cifar10")
@click.argument("name")
@click.option(
    "--from", "source", type=Path, required=True, help="Folder: torchvision's files or shards."
)
@click.option("--to", "target", type=Path, required=True, help="New folder for the shards.")
@click.option("--samples-per-shard", type=int, default=5000, show_default=True)
def prepare(name: str, source: Path, target: Path, samples_per_shard: int) -> None:
    """Write the data set NAME as WebDataset shards.

    With an index of counts and hashes, which `sms-dist data check` compares them with.
    """
    from data.prepare import prepare as write_shards

    try:
        write_shards(name, source, target, samples_per_shard, click.echo)
    except OSError as error:
        raise ValueError(f"{error.filename or target}: {error.strerror}") from None


@data.command(epilog="Example: sms-dist data check shards/cifar10")
@click.argument("folder", metavar="DIR", type=Path)
def check(folder: Path) -> None:
    """Compare shards with their index.

    One line for each shard that is damaged or missing, and exit status 1.
    """
    from data.prepare import check as problems_of

    problems = problems_of(folder)
    for problem in problems:
        click.echo(f"problem  {problem}")
    if problems:
        sys.exit(1)
    click.echo(f"ok       {folder}")
