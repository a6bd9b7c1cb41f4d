"""A model as a folder of two files, weights and how to build what holds them: no pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from sms_dist import models
from sms_dist.base import safetensors_file
from sms_dist.base.files import replacing, sha256_of
from sms_dist.base.plain import read
from sms_dist.base.randomness import stream
from sms_dist.config import ModelConfig
from sms_dist.config.section import Section
from sms_dist.export.shrink import resize_
from sms_dist.models.weights import assign_
from sms_dist.run.paths import WEIGHTS
from sms_dist.soups.states import bare_state

DESCRIPTION = "model.json"
NUM_SAMPLES, NUM_TOKENS = 4, 8  # of the made-up batch
# What a model of somebody's own may raise when it is traced, or given what it does not expect.
NOT_OURS = (
    *(ValueError, TypeError, RuntimeError, AttributeError, LookupError, AssertionError),
    *(ArithmeticError, NameError),
)
MAX_BYTES = 1 << 24


class Description(Section):
    """The content of model.json: how to build the model, and facts about it."""

    model: ModelConfig
    data: str
    input_shape: tuple[int, ...]
    classes: list[str]
    task: str = "classification"
    has_numbers: bool = False  # inputs are whole numbers
    sparsity: float  # of the prunable weights before channels were taken out
    score: str  # the metric by which such models are compared: accuracy, miou or bleu
    test_score: float | None
    is_shrunk: bool
    seed: int = 0  # of the run: random buffers that are not among the weights follow from it
    sha256: str = ""  # of the weights
    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def write(
    folder: Path, description: Description, state: Mapping[str, Tensor], original: nn.Module
) -> str:
    """Make the folder, once a model that is loaded from it computes what the original does.

    Return why outputs could not be compared, "" where they were. ValueError, and nothing is left,
    where the folder is not empty or the model is another one.
    """
    folder = folder.absolute()
    check_empty(folder)
    missing = [each for each in folder.parents if not each.exists()]
    try:
        if missing:  # a file there is an error that names it better
            folder.parent.mkdir(parents=True)
        with replacing(folder) as new:
            new.mkdir()
            _write_files(new, description, state)
            return _check(new, description, state, original)
    except (ValueError, OSError):
        for each in missing:
            with suppress(OSError):
                each.rmdir()
        raise


def _check(
    folder: Path, description: Description, state: Mapping[str, Tensor], original: nn.Module
) -> str:
    """Raise ValueError unless the folder holds the original: its tensors and what it computes."""
    again, problem = load(folder), "the model that was written is not the one that was trained"
    for name, tensor in chain(again.named_parameters(), again.named_buffers()):
        if tensor.is_meta:
            raise ValueError(f"{problem}: {name} has no values")
    loaded = bare_state(again)
    for name, tensor in state.items():
        if not torch.allclose(loaded[name].to(tensor.dtype), tensor, 0, 0, equal_nan=True):
            raise ValueError(f"{problem}: {name} has other values")
    try:
        wanted = _outputs(original, description)
    except NOT_OURS as error:
        return f"{type(error).__name__}: {error}"
    outputs = _outputs(again, description)
    if len(outputs) != len(wanted) or not all(map(_is_same, outputs, wanted)):
        raise ValueError(f"{problem}: its outputs differ; is there randomness in how it is built?")
    return ""


@torch.no_grad()
def _outputs(model: nn.Module, description: Description) -> list[Tensor]:
    """Return everything that a model in evaluation mode returns for a made-up batch."""
    generator, shape = stream(0, "export").generator(), (NUM_SAMPLES, *description.input_shape)
    inputs = [torch.rand(shape, generator=generator)]
    if description.task == "translation":
        shape = (NUM_SAMPLES, min(NUM_TOKENS, shape[1]))
        inputs = [torch.randint(2, description.num_classes, shape, generator=generator)] * 2
    if description.has_numbers:  # nobody knows how many there are
        inputs = [torch.randint(2, shape, generator=generator)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return list(_tensors(model.eval()(*inputs)))


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a model returned."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping | list | tuple):
        for each in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from _tensors(each)


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, 0, 0, equal_nan=True)


def _write_files(folder: Path, description: Description, state: Mapping[str, Tensor]) -> None:
    safetensors_file.write(folder / WEIGHTS, state)
    facts = {
        "sha256": sha256_of(folder / WEIGHTS),
        "shapes": {name: tuple(tensor.shape) for name, tensor in state.items()},
    }
    text = description.model_copy(update=facts).model_dump_json(indent=2)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def check_empty(folder: Path) -> None:
    """Raise ValueError unless the folder is missing or empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise ValueError(f"--to {folder} is there already; name a new folder")


def load(folder: Path) -> nn.Module:
    """Return the model of a folder, in evaluation mode on the CPU; ValueError if damaged."""
    description = _description(folder / DESCRIPTION)
    state = _weights(folder / WEIGHTS, description)
    return built(description, state)


def built(description: Description, state: Mapping[str, Tensor]) -> nn.Module:
    """Return the described model with a state whose layers may be narrower than usual."""
    model = unfilled(description)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    _check_fits(model, shapes, description)
    resize_(model, shapes)
    types = {name: tensor.dtype for name, tensor in bare_state(model).items()}
    assign_(model, {name: tensor.to(types[name]) for name, tensor in state.items()})
    return model.requires_grad_(True).eval()


def unfilled(description: Description) -> nn.Module:
    """Return the described model as it is before training, in evaluation mode on the CPU.

    Not on the meta device: there would be no values in what no file of weights holds.
    """
    return models.build(
        description.model.model_copy(update={"weights": None}),
        description.input_shape,
        description.num_classes,
        seed=description.seed,
        data_name=description.data,
        task=description.task,
    ).eval()


def _description(path: Path) -> Description:
    if not path.is_file():
        raise ValueError(f"{path.parent} is no exported model: it has no {DESCRIPTION}")
    try:
        return Description.model_validate_json(read(path, MAX_BYTES, "a description"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path}: {place}: {first['msg']}; export it again") from None


def _weights(path: Path, description: Description) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; export it again")
    if sha256_of(path) != description.sha256:
        raise ValueError(f"{path} differs from its checksum in {DESCRIPTION}; export it again")
    return safetensors_file.read(path)[0]


def _check_fits(
    model: nn.Module, shapes: Mapping[str, tuple[int, ...]], description: Description
) -> None:
    """Raise ValueError unless names are the same, and no tensor is larger than in the model."""
    wanted = {name: tuple(tensor.shape) for name, tensor in bare_state(model).items()}
    for name in sorted(wanted.keys() ^ shapes.keys()):
        problem = "is missing" if name in wanted else "does not belong there"
        raise ValueError(
            f"the weights do not fit model.name={description.model.name}: {name} {problem}"
        )
    for name, shape in shapes.items():
        is_smaller = all(a <= b for a, b in zip(shape, wanted[name], strict=False))
        if len(shape) != len(wanted[name]) or not is_smaller:
            raise ValueError(
                f"the weights do not fit model.name={description.model.name}: {name} has the shape "
                f"{shape}, of {wanted[name]} at most"
            )
