"""Predictions of the models of a run on single test samples, as pictures and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from sms_dist.config import file as config_file
from sms_dist.data.loader import Batch
from sms_dist.data.sheet import Tile, colored, drawn, scaled
from sms_dist.mesh import topology
from sms_dist.mesh.division import NUM_PARTS
from sms_dist.models.weights import check_fits
from sms_dist.reports import scores
from sms_dist.run import store
from sms_dist.run.paths import DENSE, METRICS, WEIGHTS, RunPaths, check_run, finished
from sms_dist.run.schema import DenseMetrics, PhaseMetrics
from sms_dist.soups.states import bare_state
from sms_dist.tasks import segmentation
from sms_dist.tasks.base import main_output
from sms_dist.tasks.translation import Translation
from sms_dist.training.context import Context, set_up

# The run may have had other devices and more ranks, and trained in another precision.
HERE = (
    *("engine.device=auto", "engine.precision=fp32", "engine.ranks_per_candidate=1"),
    *("pretrain.ranks=null", "data.workers=0"),
)
RIGHT, WRONG = "black", "#c00000"
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class OpenedRun:
    context: Context
    models: dict[str, nn.Module]  # by name: dense, phase 1
    facts: list[str]  # a line about the run, and one about each model


@dataclass(frozen=True)
class Sample:
    """A test sample with what is wanted and what each of the models answers.

    Classification: image (C x H x W), class, (class, probability). Segmentation: image, mask
    (H x W), (mask, mIoU of the one image; None where no pixel counts). Translation: source,
    reference, (translation, None).
    """

    place: int  # in the test set, from 0
    given: Any
    wanted: Any
    answers: tuple[tuple[Any, float | None], ...]

    @property
    def is_disputed(self) -> bool:
        """True where the models differ."""
        first, *others = (answer for answer, _ in self.answers)
        return not all(np.array_equal(first, other) for other in others)


def open_run(run: Path, phase: int | None, settings: Sequence[str]) -> OpenedRun:
    """Load the dense model and the soups of all phases, or of one; ValueError without any.

    `settings` go on top of the run's configuration, for example another data.path.
    """
    paths = RunPaths(run)
    check_run(paths)
    folders = finished(paths)
    if DENSE in folders and not store.load_record(folders[DENSE], METRICS, DenseMetrics).is_trained:
        del folders[DENSE]
    if not folders:
        raise ValueError(f"no model is finished in {run} yet; let it run on")
    if phase is not None and phase not in folders:
        valid = ", ".join(map(str, folders))
        raise ValueError(f"--phase {phase} is not finished in {run}; finished: {valid}")
    config = config_file.load(paths.config, [*HERE, *settings])
    context = set_up(config, topology.by_itself(config.engine.device, config.engine.threads))
    score = context.task.score
    models: dict[str, nn.Module] = {}
    title = f"{config.name}: {config.method.name} on {config.data.name}"
    facts = [f"{title}; measured on all test samples"]
    for number, folder in folders.items():
        if number not in (DENSE, phase) and phase is not None:
            continue
        if number == DENSE:
            name, sparsity = "dense", ""
            measured = store.load_record(folder, METRICS, DenseMetrics).test(score)
        else:
            soup = store.load_record(folder, METRICS, PhaseMetrics)
            name, sparsity = f"phase {number}", f", sparsity {soup.sparsity:.4g}"
            measured = soup.soup.test(score)
        label = scores.score(score).label
        facts.append(f"{name}{sparsity}: {label} {scores.text(measured, score)}")
        models[name] = context.load({}).eval()
        state = context.on_device(store.load_tensors(folder, WEIGHTS))
        check_fits(str(folder / WEIGHTS), state, bare_state(models[name]), config.model.name)
        models[name].load_state_dict(state, strict=False)
    return OpenedRun(context, models, facts)


@torch.no_grad()
def predictions(opened: OpenedRun) -> Iterator[Sample]:
    """Yield the samples of the test set in stored order, predicted in the batches of the run."""
    context, place = opened.context, 0
    for part in context.loaders.test.parts(range(NUM_PARTS)).values():
        for batch in part:
            if isinstance(context.task, Translation):
                given: Any = context.task.sentences(batch.inputs[0])
                wanted: Any = batch.references
            else:
                assert context.loaders.pixels is not None
                given = context.loaders.pixels.restored(batch.inputs[0]).cpu().numpy()
                wanted = batch.targets.cpu().numpy()
            answers = [_answers(context, model, batch) for model in opened.models.values()]
            for sample in zip(given, wanted, zip(*answers, strict=True), strict=True):
                yield Sample(place, *sample)
                place += 1


def _answers(context: Context, model: nn.Module, batch: Batch) -> list[tuple[Any, float | None]]:
    if isinstance(context.task, Translation):
        return [(text, None) for text in context.task.translations(model, batch.inputs[0])]
    outputs, info = main_output(model(*batch.inputs)).float(), context.info
    if info.task == "classification":
        best = outputs.softmax(1).max(1)
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    answers: list[tuple[Any, float | None]] = []
    for number, mask in enumerate(outputs.argmax(1).cpu().numpy()):
        own, target = outputs[number : number + 1], batch.targets[number : number + 1]
        counts = info.void is None or bool((target != info.void).any())
        totals = segmentation.totals(own, target, info.num_classes, info.void)
        miou = segmentation.metrics(totals, info.num_classes)["miou"] if counts else None
        answers.append((mask, miou))
    return answers


def picture(samples: Sequence[Sample], opened: OpenedRun) -> Image.Image:
    """Return images with the class that each model answers, red where it is wrong; or with masks.

    Of segmentation a row is an image, the mask that is wanted and that of each of the models.
    """
    info, tiles = opened.context.info, []
    for sample in samples:
        answers = list(zip(opened.models, sample.answers, strict=True))
        image, place = scaled(sample.given), f"#{sample.place}"
        if info.task == "classification":
            lines = [(f"{place}: {info.classes[sample.wanted]}", RIGHT)]
            for name, (number, probability) in answers:
                line = f"{name}: {info.classes[number]} ({probability:.0%})"
                lines.append((line, RIGHT if number == sample.wanted else WRONG))
            tiles.append(Tile(image, lines))
            continue
        tiles.append(Tile(image, [(place, RIGHT)]))
        masks = [
            (f"{name}: mIoU {scores.text(miou, 'miou')}", mask) for name, (mask, miou) in answers
        ]
        for line, mask in [("wanted", sample.wanted), *masks]:
            tiles.append(Tile(colored(mask, info.num_classes), [(line, RIGHT)]))
    if info.task == "classification":
        return drawn(opened.facts, tiles)
    columns = 2 + len(opened.models)
    return drawn(opened.facts, tiles, columns, info.classes, has_void=info.void is not None)


def text(samples: Sequence[Sample], opened: OpenedRun) -> str:
    """Return each sentence, its reference and the translation of each of the models."""
    names = ("source", "reference", *opened.models)
    width = max(map(len, names))
    blocks = ["\n".join(opened.facts)]
    for sample in samples:
        said = [sample.given, sample.wanted, *(answer for answer, _ in sample.answers)]
        lines = [f"  {name:{width}}  {each}" for name, each in zip(names, said, strict=True)]
        # A model may say anything, which a terminal might take for commands.
        safe = ("".join(c if c.isprintable() else UNPRINTABLE for c in line) for line in lines)
        blocks.append("\n".join([f"#{sample.place}", *safe]))
    return "\n\n".join(blocks) + "\n"
