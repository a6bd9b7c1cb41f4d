"""A model as a folder of two files, weights and how to build what holds them: no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError
from torch import Tensor, nn

from sms_dist import models
from sms_dist.base import safetensors_file
from sms_dist.base.files import replacing, sha256_of
from sms_dist.base.plain import read
from sms_dist.config import ModelConfig
from sms_dist.config.section import Section
from sms_dist.export.shrink import resize_
from sms_dist.models.weights import assign_
from sms_dist.run.paths import WEIGHTS
from sms_dist.soups.states import bare_state

DESCRIPTION = "model.json"
MAX_BYTES = 1 << 24


class Description(Section):
    """The content of model.json: how to build the model, and facts about it."""

    model: ModelConfig
    data: str
    input_shape: tuple[int, ...]
    classes: list[str]
    task: str = "classification"
    sparsity: float  # of the prunable weights before channels were taken out
    score: str  # the metric by which such models are compared: accuracy, miou or bleu
    test_score: float | None
    is_shrunk: bool
    sha256: str = ""  # of the weights
    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def write(folder: Path, description: Description, state: Mapping[str, Tensor]) -> None:
    """Make the folder, whole or not at all; ValueError where it is not empty."""
    folder = folder.absolute()
    check_empty(folder)
    if not folder.parent.exists():  # a file there is an error that names it better
        folder.parent.mkdir(parents=True)
    with replacing(folder) as new:
        new.mkdir()
        _write_files(new, description, state)


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
    model = models.build_on_meta(
        description.model,
        description.input_shape,
        description.num_classes,
        data_name=description.data,
        task=description.task,
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    _check_fits(model, shapes, description)
    resize_(model, shapes)
    assign_(model, state)
    return model.requires_grad_(True).eval()


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
