"""Measuring dense model, soups and candidates on corrupted test images, a corruption at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sms_dist.base import plain
from sms_dist.base.files import json_text, write_text
from sms_dist.data.corruptions import GENERATED, CorruptedSet, corrupted_sets
from sms_dist.data.loader import Batch, part_indices, steps_per_epoch
from sms_dist.mesh.collectives import from_first, sum_over_parts, together
from sms_dist.mesh.division import NUM_PARTS
from sms_dist.run import store
from sms_dist.run.journal import OodEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import WEIGHTS
from sms_dist.run.schema import CorruptionFile, OodMetrics, parsed
from sms_dist.training.context import Context

IMAGES_SEED = 0  # the test images are the same whatever the seed of the run
Accuracies = dict[str, list[float]]  # from a model's place in the run folder to scores by severity


def measure_corrupted(context: Context, log: Logbook) -> dict[str, OodMetrics] | None:
    """Return what data.corruptions asks for of a finished run, by the folder of each model.

    Every rank must call. The unit of recovery is one corruption in all its severities.
    """
    source, mesh = context.config.data.corruptions, context.mesh
    if source is None:
        return None
    log.set_stage("corruptions", phase=0, candidate=None)
    sets = together(lambda: _sets(context, source), mesh.world, mesh.device)
    places = from_first(lambda: _places(context, log), mesh.world, mesh.device)
    samples = context.config.data.corruption_samples
    known = from_first(lambda: _known(log, source, samples), mesh.world, mesh.device)
    names = list(dict.fromkeys(each.corruption for each in sets))
    todo = [name for name in names if known.get(name, {}).keys() != set(places)]
    models = _models(context, log, places) if todo else []
    for name in todo:
        mesh.control.meet()
        some = [each for each in sets if each.corruption == name]
        known[name] = dict(zip(places, _measured(context, models, some), strict=True))
        if log.is_main:
            path = log.paths.corruption(name)
            path.parent.mkdir(exist_ok=True)
            accuracies = {place: tuple(each) for place, each in known[name].items()}
            file = CorruptionFile(corruptions=source, samples=samples, accuracies=accuracies)
            write_text(path, json_text(file.as_json()))
    label = _label(source, samples)
    records = {place: _record(label, names, known, place) for place in places}
    for place, record in records.items():  # at every start: one may have died before it did
        log.event(OodEvent(where=place, metrics=record))
    return records


def _sets(context: Context, source: str) -> list[CorruptedSet]:
    clean = context.loaders.stored_test
    assert clean is not None, "checked before anything starts"
    return corrupted_sets(source, context.info, clean, IMAGES_SEED)


def _places(context: Context, log: Logbook) -> list[str]:
    """Return the folders of the models to measure: those that hold weights."""
    paths, folders = log.paths, [log.paths.dense]
    for phase in context.recipe.phases:
        folders.append(paths.soup(phase.index))
        if context.config.data.corrupt_candidates:
            folders += [paths.candidate(phase.index, c.index) for c in phase.candidates]
    return [str(f.relative_to(paths.root)) for f in folders if (f / WEIGHTS).is_file()]


def _known(log: Logbook, source: str, samples: int | None) -> dict[str, Accuracies]:
    """Return what an earlier start measured on the same images, by corruption."""
    folder = log.paths.corruption("any").parent
    records = {path.stem: _record_at(path) for path in sorted(folder.glob("*.json"))}
    return {
        name: {place: list(each) for place, each in record.accuracies.items()}
        for name, record in records.items()
        if (record.corruptions, record.samples) == (source, samples)
    }


def _record_at(path: Path) -> CorruptionFile:
    try:
        return parsed(CorruptionFile, plain.read_json(path), str(path))
    except ValueError:
        raise ValueError(f"{path} is damaged; remove it, it will be measured again") from None


def _models(context: Context, log: Logbook, places: Sequence[str]) -> list[nn.Module]:
    folders = [log.paths.root / place for place in places]
    return [context.load(context.on_device(store.load_tensors(f, WEIGHTS))) for f in folders]


def _measured(
    context: Context, models: Sequence[nn.Module], sets: Sequence[CorruptedSet]
) -> list[list[float]]:
    """Return each model's scores by severity. Every rank must call."""
    scores = [corrupted_scores(context, models, each) for each in sets]
    return [list(of_model) for of_model in zip(*scores, strict=True)]


@torch.no_grad()
def corrupted_scores(
    context: Context, models: Sequence[nn.Module], corrupted: CorruptedSet
) -> list[float]:
    """Return each model's score on one corrupted copy of the test images, made once for all models.

    Batch-norm statistics stay those of clean images. Every rank must call.
    """
    task, device, num = context.task, context.mesh.device, context.task.num_totals
    for model in models:
        model.eval()

    def part(index: int) -> Tensor:
        totals = torch.zeros(len(models), num, dtype=torch.float64, device=device)
        for batch in _batches(context, corrupted, index):
            totals += torch.stack([task.totals(model, batch) for model in models])
        return totals.flatten()

    totals = sum_over_parts(part, len(models) * num, context.mesh.world, device)
    return [task.metrics(row)[task.score] for row in totals.view(len(models), num)]


def some_batches(count: int, batch_size: int, wanted: int, index: int) -> Iterator[Tensor]:
    """Yield the places of the batches of a part that are measured.

    All parts together have about as many samples as `wanted`, evenly taken from the whole set.
    """
    num_batches = steps_per_epoch(count, batch_size)
    num_wanted = max(1, min(num_batches, round(wanted / count * num_batches)))
    for places in part_indices(count, batch_size, index, NUM_PARTS):
        number = -(-int(places[0]) * num_batches // count)
        if number * num_wanted // num_batches != (number + 1) * num_wanted // num_batches:
            yield places


def _batches(context: Context, corrupted: CorruptedSet, index: int) -> Iterator[Batch]:
    """Yield the corrupted batches of a part, without sub-groups."""
    pixels, config = context.loaders.pixels, context.config.data
    assert pixels is not None, "checked before anything starts"
    wanted = config.corruption_samples or corrupted.count
    for places in some_batches(corrupted.count, config.batch_size, wanted, index):
        images, targets = corrupted.read(int(places[0]), int(places[-1]) + 1)
        inputs = pixels.normalised(images.to(context.mesh.device))
        size = len(places)
        yield Batch((inputs,), targets.to(context.mesh.device).long(), size, float(size))


def _record(
    label: str, names: Sequence[str], known: dict[str, Accuracies], place: str
) -> OodMetrics:
    by_name = {name: known[name][place] for name in names}
    values = [value for accuracies in by_name.values() for value in accuracies]
    return OodMetrics(
        ood_accuracy=sum(values) / len(values),
        corruptions=label,
        accuracies={name: tuple(each) for name, each in by_name.items()},
    )


def _label(source: str, samples: int | None) -> str:
    """Return the label of measurements that may be compared."""
    label = source if source == GENERATED else Path(source).name
    return label if samples is None else f"{label} ({samples} samples)"
