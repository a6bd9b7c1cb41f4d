"""sms-dist samples: predictions of the models of a run, side by side."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from sms_dist.base.plain import path


@click.command(epilog="Example: sms-dist samples runs/digits_sms --num 24 --differing")
@click.argument("run", metavar="RUN", type=path)
@click.option("--num", type=click.IntRange(min=1), default=8, show_default=True, help="How many.")
@click.option("--differing", "is_differing", is_flag=True, help="Only where the models disagree.")
@click.option("--phase", type=click.IntRange(min=0), help="One soup; 0: none (default: all).")
@click.option("--to", "target", type=path, help="File (default: RUN/samples.png; text: terminal).")
@click.option("--set", "settings", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key.")
def samples(
    run: Path,
    num: int,
    is_differing: bool,
    phase: int | None,
    target: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Show what the models of a run folder RUN make of test samples.

    The dense model and the soup of each finished phase stand side by side; with --phase N the soup
    of that phase beside the dense model, with --phase 0 the dense model alone. Images become a PNG,
    with the classes that the models predict or with their masks; translations become text. The
    samples are the first of the test set. The run may still be going on. A data set that was moved
    is named with --set data.path=DIR.
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
