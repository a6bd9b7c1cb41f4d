"""sms-dist data: shards of a data set, written and checked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sms_dist.base.plain import path, printable

if TYPE_CHECKING:
    from sms_dist.data.card import TextCard
    from sms_dist.data.prepare import Findings

MOST_CLASSES = 40  # in a table of all of them
NUM_PICTURES = 24
LANGUAGES = click.option(
    "--languages", type=str, nargs=2, default=("en", "de"), show_default=True, help="Of texts."
)


@click.group(epilog="Example: sms-dist data prepare cifar10 --from downloads --to shards/cifar10")
def data() -> None:
    """Write and check the shards of a data set."""


@data.command(epilog="Example: sms-dist data prepare cifar10 --from downloads --to shards/cifar10")
@click.argument("name")
@click.option(
    "--from", "source", type=path, required=True, help="Folder: as downloaded, or shards."
)
@click.option("--to", "target", type=path, required=True, help="New folder for the shards.")
@click.option("--samples-per-shard", type=int, help="[default: as suits the data set]")
@LANGUAGES
def prepare(
    name: str,
    source: Path,
    target: Path,
    samples_per_shard: int | None,
    languages: tuple[str, str],
) -> None:
    """Write the data set NAME as WebDataset shards; `card` for images of your own.

    With an index of counts and hashes, which `sms-dist data check` compares them with. Parallel
    text becomes a pair of files for training and one for testing.
    """
    from sms_dist.data.prepare import prepare as write_shards
    from sms_dist.data.texts.files import prepare as write_texts

    def write() -> None:
        if card := _text_card(name):
            write_texts(card, source, target, languages, click.echo)
        else:
            write_shards(name, source, target, samples_per_shard, click.echo)

    _in_words(write, target)


@data.command(epilog="Example: sms-dist data index shards/mine")
@click.argument("folder", metavar="DIR", type=path)
@click.option("--name", default="card", show_default=True, help="Data set; card: see card.yaml.")
def index(folder: Path, name: str) -> None:
    """Write the index.json of shards that have none."""
    from sms_dist.data.prepare import write_missing

    _in_words(lambda: write_missing(folder, name, click.echo), folder)


@data.command(epilog="Example: sms-dist data check shards/cifar10 --sheet samples.png")
@click.argument("folder", metavar="DIR", type=path)
@click.option("--name", help="Data set, where neither index.json nor card.yaml says it.")
@click.option("--sheet", type=path, help="PNG file to write, with some of the samples.")
def check(folder: Path, name: str | None, sheet: Path | None) -> None:
    """Read every sample, compare with the index, count the classes.

    One line for each fault, and exit status 1.
    """
    from sms_dist.data import index as indices
    from sms_dist.data.prepare import check as examine
    from sms_dist.data.texts.files import check as problems_of_texts

    if _text_card(name or indices.name_of(folder)):
        _report(problems_of_texts(folder), folder)
        return
    findings = examine(folder, name, NUM_PICTURES if sheet else 0)
    if sheet and findings.pictures:
        from sms_dist.data.sheet import sheet as draw

        drawn = draw(findings.pictures, findings.card, findings.info)
        _in_words(lambda: drawn.save(sheet, "PNG"), sheet)
    if not findings.problems:
        _print_histogram(findings)
    if not findings.has_index:
        click.echo("no index.json: checksums were not compared")
    _report(findings.problems, folder)


@data.command(epilog="Example: sms-dist data vocabulary texts --size 8000 --to en_de.model")
@click.argument("folder", metavar="DIR", type=path)
@click.option("--size", type=int, default=32_000, show_default=True, help="Pieces.")
@click.option("--to", "target", type=path, required=True, help="New file, for data.vocabulary.")
@LANGUAGES
def vocabulary(folder: Path, size: int, target: Path, languages: tuple[str, str]) -> None:
    """Train a SentencePiece vocabulary on the training sentences of parallel text."""
    from sms_dist.data.texts.vocabulary import train_vocabulary

    _in_words(lambda: train_vocabulary(folder, size, target, languages), target)
    click.echo(f"ok       {target}")


def _text_card(name: str | None) -> TextCard | None:
    """Return the card of a set of parallel text; None for any other, and for unknown names."""
    from sms_dist.data import card as cards

    is_path = name is not None and name.endswith(cards.ENDINGS)
    if name is None or name == cards.OWN or not (is_path or name in cards.names()):
        return None
    card = cards.read(cards.path_of(name, None))
    return card if isinstance(card, cards.TextCard) else None


def _report(problems: Sequence[str], folder: Path) -> None:
    for problem in problems:
        click.echo(f"problem  {printable(problem)}")
    if problems:
        sys.exit(1)
    click.echo(f"ok       {folder}")


def _in_words(do: Callable[[], None], place: Path) -> None:
    """Do something, and say in one line if a file cannot be read or written."""
    try:
        do()
    except OSError as error:
        raise ValueError(f"{error.filename or place}: {error.strerror or error}") from None


def _print_histogram(findings: Findings) -> None:
    """Print samples, or shares of pixels, of each class; of many only the rarest and commonest."""
    from rich.console import Console
    from rich.table import Table

    info, of_pixels = findings.info, findings.info.task == "segmentation"
    table = Table(title=f"{info.name}: {'pixels' if of_pixels else 'samples'} of each class")
    table.add_column("class")
    for split, count in findings.counts.items():
        table.add_column(f"{split} ({count})", justify="right")
    names = [*info.classes, "void"]
    shown = list(range(len(names) if findings.histogram["train"][-1] else len(names) - 1))
    if len(shown) > MOST_CLASSES:
        order = findings.histogram["train"][:-1].argsort().tolist()
        shown = [*order[:3], *order[-3:]]
    for number in shown:
        cells = [counts[number] for counts in findings.histogram.values()]
        totals = [max(1, counts.sum()) for counts in findings.histogram.values()]
        words = [
            f"{100 * cell / total:.2f} %" if of_pixels else str(cell)
            for cell, total in zip(cells, totals, strict=True)
        ]
        table.add_row(names[number], *words)
    Console().print(table)
