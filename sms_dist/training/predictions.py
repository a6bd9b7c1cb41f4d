"""What models say of single test samples, in the batches in which they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sms_dist.data.loader import Batch
from sms_dist.models.weights import bare_state, check_fits
from sms_dist.tasks import segmentation
from sms_dist.tasks.base import main_output
from sms_dist.tasks.samples import Guess, LabelledImage, Prediction, Sample, Scene, Sentence
from sms_dist.tasks.translation import Translation
from sms_dist.training.context import Context, State

Look = Callable[[Context, Sequence[nn.Module], Batch, int], Sequence[Sample]]


def fitted(context: Context, state: State, place: str) -> nn.Module:
    """The model of a stored state; ValueError, naming its place, where it is another model's."""
    model = context.load({})
    check_fits(place, state, bare_state(model), context.config.model.name)
    model.load_state_dict(state, strict=False)
    return model.eval()


@torch.no_grad()
def predicted(
    context: Context, models: Sequence[nn.Module], num: int, is_wanted: Callable[[Sample], bool]
) -> list[Sample]:
    """The first samples of the test set, in stored order, that are wanted: at most `num`.

    The models must be in evaluation mode; nothing is recomputed.
    """
    look = LOOKS[context.info.task]
    found: list[Sample] = []
    for batch, start in _batches(context):
        found += filter(is_wanted, look(context, models, batch, start))
        if len(found) >= num:
            break
    return found[:num]


def _batches(context: Context) -> Iterator[tuple[Batch, int]]:
    """The test set, each batch with the place of its first sample."""
    start = 0
    for batch in context.loaders.test.part(0, 1):
        yield batch, start
        start += len(batch.targets)


def _labelled(
    context: Context, models: Sequence[nn.Module], batch: Batch, start: int
) -> list[LabelledImage]:
    guesses = [_guesses(model, batch) for model in models]
    images = _images(context, batch)
    return [
        LabelledImage(start + i, images[i].numpy(), int(wanted), tuple(own[i] for own in guesses))
        for i, wanted in enumerate(batch.targets.tolist())
    ]


def _guesses(model: nn.Module, batch: Batch) -> list[Guess]:
    best = main_output(model(*batch.inputs)).float().softmax(1).max(1)
    return list(map(Guess, best.indices.tolist(), best.values.tolist()))


def _scenes(context: Context, models: Sequence[nn.Module], batch: Batch, start: int) -> list[Scene]:
    predictions = [_predictions(context, model, batch) for model in models]
    images, wanted = _images(context, batch), _bytes(batch.targets)
    return [
        Scene(start + i, images[i].numpy(), mask.numpy(), tuple(own[i] for own in predictions))
        for i, mask in enumerate(wanted)
    ]


def _predictions(context: Context, model: nn.Module, batch: Batch) -> list[Prediction]:
    outputs = main_output(model(*batch.inputs)).float()
    return [
        Prediction(mask.numpy(), _miou(context, outputs[i : i + 1], batch.targets[i : i + 1]))
        for i, mask in enumerate(_bytes(outputs.argmax(1)))
    ]


def _miou(context: Context, outputs: Tensor, targets: Tensor) -> float | None:
    """Over the classes that this image or its prediction contains."""
    info = context.info
    if info.void is not None and bool((targets == info.void).all()):
        return None
    totals = segmentation.totals(outputs, targets, info.num_classes, info.void)
    return segmentation.metrics(totals, info.num_classes)["miou"]


def _sentences(
    context: Context, models: Sequence[nn.Module], batch: Batch, start: int
) -> list[Sentence]:
    task = context.task
    assert isinstance(task, Translation)
    sources = task.sentences(batch.inputs[0])
    translations = [task.translations(model, batch.inputs[0]) for model in models]
    return [
        Sentence(start + i, source, reference, tuple(own[i] for own in translations))
        for i, (source, reference) in enumerate(zip(sources, batch.references, strict=True))
    ]


def _images(context: Context, batch: Batch) -> Tensor:
    """uint8 on the CPU, as they were before they were normalised."""
    assert context.loaders.pixels is not None
    return context.loaders.pixels.restored(batch.inputs[0]).cpu()


def _bytes(masks: Tensor) -> Tensor:
    return masks.to("cpu", torch.uint8)


LOOKS: Mapping[str, Look] = {
    "classification": _labelled,
    "segmentation": _scenes,
    "translation": _sentences,
}
