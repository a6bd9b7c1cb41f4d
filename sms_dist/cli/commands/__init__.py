"""The verbs of `sms-dist`, and the options that several of them share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sms_dist.base.lookup import search_beside
from sms_dist.base.plain import path

Command = TypeVar("Command", bound=Callable[..., Any])
MOST = 1 << 20
ACCEPT = "--accept-changes"


def config_options(command: Command) -> Command:
    """Add --config and --set, as `config_file` and `settings`."""
    config = click.option(
        "--config",
        "config_file",
        type=path,
        callback=_with_own_code,
        help="YAML file (default: the embedded experiment).",
    )
    settings = click.option(
        "--set", "settings", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key."
    )
    return config(settings(command))


def run_dir_option(command: Command) -> Command:
    """Add --run-dir, as `run_dir`."""
    option = click.option("--run-dir", type=path, help="Run folder (default: records.root/name).")
    return option(command)


def accept_option(command: Command) -> Command:
    """Add --accept-changes, as `options`: none, or the option itself for the launcher."""
    option = click.option(
        ACCEPT,
        "options",
        is_flag=True,
        callback=lambda context, parameter, is_given: (ACCEPT,) if is_given else (),
        help="Go on although own code, weights or data have changed since the run began.",
    )
    return option(command)


def words(config_file: Path | None, settings: tuple[str, ...]) -> list[str]:
    """Return the options of `config_options` as words of a command line."""
    config = [] if config_file is None else ["--config", str(config_file)]
    return [*config, *(word for setting in settings for word in ("--set", setting))]


def check_writable(folder: Path, way_out: str) -> None:
    """Raise ValueError unless files can be made in a folder, which may have to be made itself."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        problem = "cannot be written into" if there.is_dir() else "is no folder"
        raise ValueError(f"{there} {problem}; {way_out}")


def numbers(ctx: click.Context, option: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Return the numbers of an option, () if it is not given: 8, 1,2,4 or 1..4096, doubling."""
    result = set()
    for word in text.split(",") if text else ():
        first, dots, last = word.strip().partition("..")
        if not first.isdecimal() or (dots and not last.isdecimal()):
            raise click.BadParameter(f"{text!r} is no list of numbers; write 8, 1,2,4 or 1..4096")
        number = int(first)
        result.add(number)
        while 0 < 2 * number <= min(int(last or first), MOST):
            number *= 2
            result.add(number)
    if result and not 1 <= min(result) <= max(result) <= MOST:
        raise click.BadParameter(f"{text!r} has to be between 1 and {MOST}")
    return tuple(sorted(result))


def _with_own_code(
    context: click.Context, parameter: click.Parameter, file: Path | None
) -> Path | None:
    if file is not None:
        search_beside(file)
    return file
