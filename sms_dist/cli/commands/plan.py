"""sms-dist plan: what an experiment will do, and how long it will take, before it does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sms_dist.cli.commands.options import config_options
from sms_dist.cli.number_list import numbers

if TYPE_CHECKING:
    from sms_dist.cli.slurm.cluster import ClusterConfig
    from sms_dist.config import Config


@click.command(epilog="Example: sms-dist plan --config configs/digits_sms.yaml --ranks 4")
@config_options
@click.option("--ranks", metavar="NUMBERS", callback=numbers,
              help="Ranks to plan for: 4; of a forecast also 1,2,4 or 1..4096 "
              "(default: those of the cluster, else one group).")  # fmt: skip
@click.option("--rates", type=Path, metavar="FILE|RUN",
              help="Forecast time, memory, bytes: with a file of `sms-dist measure`, or from what "
              "a run folder has recorded.")  # fmt: skip
@click.option("--cluster", "cluster_file", type=Path,
              help="YAML file of the cluster: hosts, and the links between them.")  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def plan(
    config_file: Path | None,
    settings: tuple[str, ...],
    ranks: tuple[int, ...],
    rates: Path | None,
    cluster_file: Path | None,
    is_json: bool,
) -> None:
    """Print what an experiment will do, and with --rates how long it will take.

    Phases, sparsities, candidates, waves, steps; neither the data nor a GPU need to be there.
    """
    from sms_dist.cli.slurm.cluster import load_cluster
    from sms_dist.config.file import load

    config = load(config_file, settings)
    cluster = None if cluster_file is None else load_cluster(cluster_file)
    if rates is None and len(ranks) > 1:
        raise ValueError("--ranks with several numbers needs --rates; or plan for one of them")
    if rates is None:
        _show_plan(config, _num_ranks(ranks, cluster), is_json)
    else:
        _show_forecast(config, ranks, rates, cluster, is_json)


def _num_ranks(ranks: tuple[int, ...], cluster: ClusterConfig | None) -> int | None:
    """As given, else of the cluster, else (None) one group."""
    if ranks:
        return ranks[0]
    return None if cluster is None else cluster.num_ranks


def _show_plan(config: Config, ranks: int | None, is_json: bool) -> None:
    from sms_dist.cli.planned import planned

    found = planned(config, ranks)
    if is_json:
        click.echo(json.dumps(found.as_json(), indent=2))
        return
    from rich.console import Console

    from sms_dist.cli.plan_table import show

    show(found, Console())


def _show_forecast(
    config: Config,
    ranks: tuple[int, ...],
    rates: Path,
    cluster: ClusterConfig | None,
    is_json: bool,
) -> None:
    from sms_dist.cli.forecasts import forecasts

    found = forecasts(config, ranks, rates, cluster)
    plan = found.rows[0][0]
    if is_json:
        click.echo(json.dumps(plan.as_json() | found.as_json(), indent=2))
        return
    from rich.console import Console

    from sms_dist.cli.forecast_table import show
    from sms_dist.cli.plan_table import show as show_plan

    console = Console()
    if len(found.rows) == 1:
        show_plan(plan, console)
    show(found, console)
