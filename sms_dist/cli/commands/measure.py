"""sms-dist measure: how fast a configuration is on this host, for forecasts."""

from __future__ import annotations

import errno
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from sms_dist.cli.commands import config_options, words


@click.command(
    epilog="Example: sms-dist measure --config configs/digits_sms.yaml --nproc 2 --to rates.yaml"
)
@config_options
@click.option(
    "--nproc",
    type=click.IntRange(min=1),
    help="Ranks on this host, as many as will work there (default: one group).",
)
@click.option("--to", "file", type=Path, required=True, help="File to write the rates to.")
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
    _check(file)
    arguments, num_ranks = words(config_file, settings), nproc or config.engine.ranks_per_candidate
    rates = measured(arguments, config, num_ranks, steps)
    command = " ".join(["sms-dist measure", *arguments, "--nproc", str(num_ranks)])
    write_text(file, text(rates, [command, "Seconds and bytes of a rank; see docs/forecast.md."]))
    click.echo(f"rates: {file}")


def _check(file: Path) -> None:
    """Raise ValueError if the file cannot be written, before a minute of measuring."""
    from sms_dist.base.files import MEANINGS

    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if file.parent.exists() and not file.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{file.parent} is no folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}."):
            pass
    except OSError as error:
        problem, _ = MEANINGS.get(error.errno or 0, (error.strerror or str(error), ""))
        reason = problem.format(free="")
        raise ValueError(f"--to {file}: {reason}; name another file") from None
