"""sms-dist samples: what the models of a run say of test samples."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click


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
    help="File to write (default: samples.png in RUN; of translations the terminal).",
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
    from sms_dist.cli.predictions import open_run, picture, predictions, text

    opened = open_run(run, phase, settings)
    if is_differing and len(opened.models) == 1:
        (name,) = opened.models
        raise ValueError(f"--differing: {name} is the only model here; leave it out")
    wanted = (each for each in predictions(opened) if each.is_disputed or not is_differing)
    shown = list(islice(wanted, num))
    if not shown:
        count = opened.context.loaders.test.num_samples
        click.echo(f"the models agree on all {count} test samples")
        return
    if opened.context.info.task != "translation":
        target = target or run / "samples.png"
        picture(shown, opened).save(target, "PNG")
    elif target is not None:
        target.write_text(text(shown, opened), encoding="utf-8")
    click.echo(f"wrote {target}" if target else text(shown, opened), nl=target is not None)
