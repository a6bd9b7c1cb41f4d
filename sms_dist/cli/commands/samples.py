"""sms-dist samples: what the models of a run say of test samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from PIL import Image

    from sms_dist.cli.opened_run import OpenedRun

PICTURE = "samples.png"


@click.command(epilog="Example: sms-dist samples runs/digits_sms --num 24 --differing")
@click.argument("run", metavar="RUN", type=Path)
@click.option("--num", type=click.IntRange(min=1), default=8, show_default=True, help="How many.")
@click.option(
    "--differing", "is_differing", is_flag=True, help="Only those on which the models disagree."
)
@click.option(
    "--phase",
    type=click.IntRange(min=0),
    help="The phase whose soup is shown, 0 for the dense model alone (default: all).",
)
@click.option(
    "--to",
    "target",
    type=Path,
    help=f"File to write (default: {PICTURE} in RUN; of translations the terminal).",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override a key, such as the data.path of a moved data set.",
)
def samples(
    run: Path,
    num: int,
    is_differing: bool,
    phase: int | None,
    target: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Show what the models of a run folder RUN make of test samples.

    The dense model and the soup of each finished phase, side by side. Images become a PNG: of
    classes with what each model takes them for, of segmentation with the masks. Translations
    become text. The samples are the first of the test set; the run may still be going on.
    """
    from sms_dist.cli.opened_run import open_run
    from sms_dist.training.predictions import predicted

    opened = open_run(run, phase, settings)
    if is_differing and len(opened.models) == 1:
        raise ValueError(f"--differing: {opened.names[0]} is the only model here; leave it out")
    found = predicted(
        opened.context, opened.models, num, lambda sample: sample.is_disputed or not is_differing
    )
    if not found:
        count = opened.context.loaders.test.num_samples
        click.echo(f"the models agree on all {count} test samples")
    elif opened.context.info.task == "translation":
        _tell(found, opened, target)
    else:
        _draw(found, opened, target or run / PICTURE)


def _tell(found: Sequence[Any], opened: OpenedRun, target: Path | None) -> None:
    from sms_dist.reports.sample_texts import sentences_text

    text = sentences_text(found, opened.facts, opened.names)
    if target is None:
        click.echo(text, nl=False)
    else:
        _write(target, text.encode())


def _draw(found: Sequence[Any], opened: OpenedRun, target: Path) -> None:
    from sms_dist.reports.sample_sheets import labelled_sheet, scene_sheet

    info = opened.context.info
    sheet = scene_sheet if info.task == "segmentation" else labelled_sheet
    _write(target, _png(sheet(found, opened.facts, opened.names, info)))


def _png(picture: Image.Image) -> bytes:
    from io import BytesIO

    content = BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _write(target: Path, content: bytes) -> None:
    try:
        target.write_bytes(content)
    except OSError as error:
        raise ValueError(f"--to {target}: {error.strerror}") from None
    click.echo(f"wrote {target}")
