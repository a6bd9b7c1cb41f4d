"""sms-dist plan: what an experiment will do, before it does it."""

from __future__ import annotations

from pathlib import Path

import click

from launcher.commands.options import config_options


@click.command(epilog="Example: sms-dist plan --config configs/digits_sms.yaml --ranks 4")
@config_options
@click.option(
    "--ranks",
    type=click.IntRange(min=1),
    help="Ranks to plan for (default: one group, engine.ranks_per_candidate).",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def plan(
    config_file: Path | None, settings: tuple[str, ...], ranks: int | None, is_json: bool
) -> None:
    """Print what an experiment will do.

    Phases, sparsities, candidates, waves, steps; neither the data nor a GPU need to be there.
    """
    from launcher.planned import planned
    from sms_dist.config_file import load

    found = planned(load(config_file, settings), ranks)
    if is_json:
        import json

        click.echo(json.dumps(found.as_json(), indent=2))
        return
    from rich.console import Console

    from launcher.plan_table import show

    show(found, Console())
