"""sms-dist measure: how fast a configuration is on this host, for forecasts."""

from __future__ import annotations

from pathlib import Path

import click

from sms_dist.base.plain import path
from sms_dist.cli.commands import check_writable, config_options, words


@click.command(
    epilog="Example: sms-dist measure --config configs/digits_sms.yaml --nproc 2 --to rates.yaml"
)
@config_options
@click.option(
    "--nproc",
    type=click.IntRange(min=1),
    help="Ranks on this host, as many as will work there (default: one group).",
)
@click.option("--to", "file", type=path, required=True, help="File to write the rates to.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Training steps of an epoch, at most.",
)
def measure(
    config_file: Path | None, settings: tuple[str, ...], nproc: int | None, file: Path, steps: int
) -> None:
    """Measure how fast a configuration is on this host.

    A short run of it, two phases of a few epochs; then `sms-dist plan --rates FILE` forecasts runs
    of any size. Processes that share a host slow each other down: measure with as many as will work
    on it, and while nothing else does.
    """
    from sms_dist.base.files import write_text
    from sms_dist.cli.measure import measure as measured
    from sms_dist.cli.rates import text
    from sms_dist.config.file import load

    config = load(config_file, settings)
    check_writable(file.parent, f"name another file than --to {file}")
    if file.is_dir():
        raise ValueError(f"--to {file} is a folder; name another file")
    arguments, num_ranks = words(config_file, settings), nproc or config.engine.ranks_per_candidate
    rates = measured(arguments, config, num_ranks, steps)
    command = " ".join(["sms-dist measure", *arguments, "--nproc", str(num_ranks)])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text(rates, [command, "Seconds and bytes of a rank; see docs/forecast.md."]))
    click.echo(f"rates: {file}")
