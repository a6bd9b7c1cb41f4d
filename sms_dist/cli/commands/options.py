"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sms_dist.base.lookup import search_beside

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(command: Command) -> Command:
    """Add --config and --set, as `config_file` and `settings`."""
    config = click.option(
        "--config",
        "config_file",
        type=Path,
        callback=_with_own_code,
        help="YAML file (default: the embedded experiment).",
    )
    settings = click.option(
        "--set", "settings", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key."
    )
    return config(settings(command))


def _with_own_code(
    context: click.Context, parameter: click.Parameter, file: Path | None
) -> Path | None:
    if file is not None:
        search_beside(file)
    return file


def run_dir_option(command: Command) -> Command:
    """--run-dir, as `run_dir`."""
    option = click.option("--run-dir", type=Path, help="Run folder (default: records.root/name).")
    return option(command)
