"""sms-dist plan: what an experiment will do, and how long it will take, before it does it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sms_dist.base.plain import path
from sms_dist.cli.commands import config_options, numbers


@click.command(epilog="Example: sms-dist plan --config configs/digits_sms.yaml --ranks 4")
@config_options
@click.option(
    "--ranks",
    metavar="NUMBERS",
    callback=numbers,
    help="Ranks to plan for: 4; of a forecast also 1,2,4 or 1..4096 (default: those of the "
    "cluster, else one group).",
)
@click.option(
    "--rates",
    "rates_path",
    type=path,
    metavar="FILE|RUN",
    help="Forecast time, memory and traffic, with a file of `sms-dist measure` or from what a run "
    "folder has recorded.",
)
@click.option(
    "--cluster",
    "cluster_file",
    type=path,
    help="YAML file of the cluster: hosts, and the links between them.",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def plan(
    config_file: Path | None,
    settings: tuple[str, ...],
    ranks: tuple[int, ...],
    rates_path: Path | None,
    cluster_file: Path | None,
    is_json: bool,
) -> None:
    """Print what an experiment will do, and with --rates how long it will take.

    Phases, sparsities, candidates, waves, steps; neither the data nor a GPU need to be there.
    """
    from rich.console import Console

    from sms_dist.cli.forecast import forecasts, show
    from sms_dist.cli.plan import planned
    from sms_dist.cli.plan import show as show_plan
    from sms_dist.cli.rates import read_rates
    from sms_dist.cli.slurm.cluster import load_cluster
    from sms_dist.config.file import load

    config = load(config_file, settings)
    cluster = None if cluster_file is None else load_cluster(cluster_file)
    if rates_path is None:
        if len(ranks) > 1:
            raise ValueError("--ranks with several numbers needs --rates; or plan for one of them")
        num_ranks = ranks[0] if ranks else cluster.num_ranks if cluster else None
        plan, forecast = planned(config, num_ranks), None
    else:
        rates, notes = read_rates(rates_path, config, cluster)
        plan, forecast = forecasts(config, ranks, rates, cluster, notes)
    if is_json:
        click.echo(json.dumps(plan.as_json() | (forecast.as_json() if forecast else {}), indent=2))
        return
    console = Console()
    if forecast is None or len(forecast.forecasts) == 1:
        show_plan(plan, console)
    if forecast is not None:
        show(forecast, console)
