"""sms-dist export: a finished model as a folder that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sms_dist.base.plain import path, printable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sms_dist.export.folder import Description

LARGEST_DIFFERENCE = 1e-5


@click.command(epilog="Example: sms-dist export runs/digits_sms --to exported/digits --shrink")
@click.argument("run", metavar="RUN", type=path)
@click.option(
    "--phase",
    type=click.IntRange(min=0),
    help="The phase whose soup it is, 0 for the dense model (default: the last).",
)
@click.option("--to", "target", type=path, required=True, help="New folder for the model.")
@click.option("--shrink", "is_shrunk", is_flag=True, help="Take dead channels out of the layers.")
def export(run: Path, phase: int | None, target: Path, is_shrunk: bool) -> None:
    """Write the model of a run folder RUN.

    weights.safetensors and model.json; sms_dist.export.folder.load builds the model from them. With
    --shrink, filters that pruning has emptied are gone, and with them the next layer's inputs.
    """
    from sms_dist.export.folder import built, check_empty, unfilled, write

    check_empty(target)
    description, state = _read(run, phase)
    built(description, state)  # it does fit
    original = unfilled(description)
    original.load_state_dict(state, strict=False)
    if is_shrunk:
        description, state, original = _shrunk(description, state, original)
    try:
        missed = write(target, description, state, original)
    except OSError as error:
        raise ValueError(f"--to {target}: {error.strerror}") from None
    if missed:
        missed = printable(missed, 200)
        click.echo(f"outputs     not compared: the model takes no made-up batch ({missed})")
    click.echo(f"wrote       {target}: {_summary(description)}")


def _read(run: Path, phase: int | None) -> tuple[Description, dict[str, Tensor]]:
    """Return the model of a phase of a run folder, of the last one if `phase` is None."""
    from sms_dist import data
    from sms_dist.config.file import load
    from sms_dist.export.folder import Description
    from sms_dist.run import store
    from sms_dist.run.paths import METRICS, WEIGHTS, RunPaths, check_run, chosen
    from sms_dist.run.schema import DenseMetrics, PhaseMetrics
    from sms_dist.tasks import make_task

    paths = RunPaths(run)
    check_run(paths)
    config = load(paths.config)
    folder = chosen(paths, phase)
    info = data.info(config.data)
    score = make_task(info, config.data).score
    if folder == paths.dense:
        dense = store.load_record(folder, METRICS, DenseMetrics)
        sparsity, test_score = dense.sparsity or 0.0, dense.test(score)
    else:
        record = store.load_record(folder, METRICS, PhaseMetrics)
        sparsity, test_score = record.sparsity, record.soup.test(score)
    description = Description(
        model=config.model.model_copy(update={"weights": None, "weights_except": ()}),
        data=info.name,
        input_shape=info.input_shape,
        classes=list(info.classes),
        task=info.task,
        has_numbers=info.has_numbers,
        sparsity=sparsity,
        score=score,
        test_score=test_score,
        is_shrunk=False,
        seed=config.seed,
    )
    return description, store.load_tensors(folder, WEIGHTS)


def _shrunk(
    description: Description, state: dict[str, Tensor], original: nn.Module
) -> tuple[Description, dict[str, Tensor], nn.Module]:
    """Return the model without dead channels, or as it was, and say what stays and why."""
    from sms_dist.export.folder import NOT_OURS, built
    from sms_dist.export.shrink import largest_difference, shrunk_state

    shape, smaller, reason = description.input_shape, state, ""
    try:
        smaller = shrunk_state(original, shape)
        other = built(description, smaller)
        difference = largest_difference(original, other, shape)
        if not difference <= LARGEST_DIFFERENCE:
            reason = f"the smaller model would differ by {difference:.1g}"
    except NOT_OURS as error:
        what = f"{type(error).__name__}: {error}"
        reason = printable(f"the calls of the model cannot be followed ({what})", 200)
    if reason or all(smaller[name].shape == tensor.shape for name, tensor in state.items()):
        smaller = state
    matrices = {n: t.flatten(1) for n, t in smaller.items() if t.ndim > 1 and n.endswith("weight")}
    empty = [name for name, rows in matrices.items() if (rows == 0).all(1).any()]
    if smaller is state:
        reason = reason or (
            "what is zero goes where channels are not followed, or does not stay zero"
            if empty
            else "no channel is zero throughout; to empty whole filters, prune with "
            "pruning.pattern=filters"
        )
        click.echo(f"unchanged   {reason}")
    if empty:
        click.echo(f"dense       rows of zeros stay in {printable(', '.join(empty), 200)}")
    if smaller is state:
        return description, state, original
    for line in _comparison(original, other, shape):
        click.echo(line)
    click.echo(f"outputs     differ by {difference:.1e} at most, in double precision")
    return description.model_copy(update={"is_shrunk": True}), smaller, other


def _comparison(model: nn.Module, other: nn.Module, input_shape: tuple[int, ...]) -> list[str]:
    from sms_dist.models.speedup import macs, on_meta

    parameters = [sum(p.numel() for p in one.parameters()) for one in (model, other)]
    operations = [sum(macs(one, on_meta(input_shape)).values()) for one in (model, other)]
    return [
        f"parameters  {parameters[0]:,} -> {parameters[1]:,}",
        f"MACs        {operations[0]:,} -> {operations[1]:,}",
    ]


def _summary(description: Description) -> str:
    from sms_dist.reports import scores

    name, test_score = description.score, description.test_score
    label = scores.score(name).label
    measured = "" if test_score is None else f", test {label} {scores.text(test_score, name)}"
    shrunk = ", shrunk" if description.is_shrunk else ""
    return f"{description.model.name}, sparsity {description.sparsity:.4g}{measured}{shrunk}"
