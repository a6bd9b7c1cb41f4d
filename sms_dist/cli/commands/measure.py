"""sms-dist measure: how fast a configuration is on this host, for forecasts."""

from __future__ import annotations

import errno
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from sms_dist.cli.commands.options import config_options
from sms_dist.cli.number_list import numbers


@click.command(
    epilog="Example: sms-dist measure --config configs/digits_sms.yaml --nproc 1,2 --to rates.yaml"
)
@config_options
@click.option("--nproc", callback=numbers, default="1", show_default=True,
              help="Processes on this host, as many as will work there: 1,2,4.")  # fmt: skip
@click.option("--to", "file", type=Path, required=True, help="File to write the rates to.")
@click.option("--seconds", type=click.FloatRange(min=0.01), default=2.0, show_default=True,
              help="Time for each thing that is measured.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True,
              help="Training steps of an epoch, at most.")  # fmt: skip
def measure(
    config_file: Path | None,
    settings: tuple[str, ...],
    nproc: tuple[int, ...],
    file: Path,
    seconds: float,
    steps: int,
) -> None:
    """Measure how fast a configuration is on this host.

    Real training steps, evaluation, and a short run, for a minute or so; then
    `sms-dist plan --rates FILE` forecasts runs of any size. Processes that share a host slow each
    other down: measure with as many as will work on it, and while nothing else does.
    """
    from sms_dist.base.files import write_text
    from sms_dist.cli.forecast.rates import text
    from sms_dist.cli.measuring.measure import measure as measured
    from sms_dist.config.file import load

    config = load(config_file, settings)
    _check(file)
    arguments = [] if config_file is None else ["--config", str(config_file)]
    arguments += [word for setting in settings for word in ("--set", setting)]
    rates = measured(arguments, nproc, seconds, steps, Path(config.records.root))
    words = " ".join(["sms-dist measure", *arguments, "--nproc", ",".join(map(str, nproc))])
    comments = [words, "Seconds and bytes of a process; see docs/forecast.md."]
    write_text(file, text(rates, comments))
    click.echo(f"rates: {file}")


def _check(file: Path) -> None:
    """That it can be written, before a minute of measuring; ValueError for people."""
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
