"""Dense model, soups and candidates on corrupted test images; what was measured before is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from sms_dist.base import plain
from sms_dist.base.files import json_text, write_text
from sms_dist.data.corruptions import GENERATED, CorruptedSet, corrupted_sets
from sms_dist.mesh.collectives import from_first, together
from sms_dist.run import store
from sms_dist.run.journal import OodEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import WEIGHTS
from sms_dist.run.schema import CorruptionFile, OodMetrics, parsed
from sms_dist.training.context import Context
from sms_dist.training.robustness import corrupted_scores

IMAGES_SEED = 0  # the test images are the same whatever the seed of the run
Accuracies = dict[str, list[float]]  # of each model, by its place in the run folder: by severity


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
            record = CorruptionFile(corruptions=source, samples=samples, accuracies=accuracies)
            write_text(path, json_text(record.as_json()))
    label = _label(source, samples)
    records = {place: _record(label, names, known, place) for place in places}
    for place, found in records.items():  # again too: a start may have died before it did
        log.event(OodEvent(where=place, metrics=found))
    return records


def _sets(context: Context, source: str) -> list[CorruptedSet]:
    clean = context.loaders.stored_test
    assert clean is not None, "checked before anything starts"
    return corrupted_sets(source, context.info, clean, IMAGES_SEED)


def _places(context: Context, log: Logbook) -> list[str]:
    """The folders of the models to measure, those that hold weights."""
    paths, found = log.paths, [log.paths.dense]
    for phase in context.recipe.phases:
        found.append(paths.soup(phase.index))
        if context.config.data.corrupt_candidates:
            found += [paths.candidate(phase.index, c.index) for c in phase.candidates]
    return [str(f.relative_to(paths.root)) for f in found if (f / WEIGHTS).is_file()]


def _known(log: Logbook, source: str, samples: int | None) -> dict[str, Accuracies]:
    """Corruption -> what an earlier start measured on the same images."""
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
    """Of each model: its accuracies by severity. Every rank must call."""
    found = [corrupted_scores(context, models, each) for each in sets]
    return [list(accuracies) for accuracies in zip(*found, strict=True)]


def _record(
    label: str, names: Sequence[str], known: dict[str, Accuracies], place: str
) -> OodMetrics:
    by_name = {name: known[name][place] for name in names}
    values = [value for found in by_name.values() for value in found]
    return OodMetrics(
        ood_accuracy=sum(values) / len(values),
        corruptions=label,
        accuracies={name: tuple(found) for name, found in by_name.items()},
    )


def _label(source: str, samples: int | None) -> str:
    """What numbers have to share to be compared."""
    label = source if source == GENERATED else Path(source).name
    return label if samples is None else f"{label} ({samples} samples)"
