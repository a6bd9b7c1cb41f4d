"""Data sets and augmentations of people's own: `package.module:name` instead of a card.

A data set is a function (or a class) that is called with "train" and with "test", and returns a
map-style `torch.utils.data.Dataset`: a length, and samples (input, target). All samples are read
once, when a run starts, and lie in memory from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sms_dist.base.lookup import guarded, is_own_name, own
from sms_dist.config import DataConfig
from sms_dist.data.dataset import DatasetInfo, Split

if TYPE_CHECKING:
    from torch import Tensor

    from sms_dist.data.resident import Images

TASKS = ("classification", "segmentation")
VOID = 255  # of masks, unless the data set says otherwise


@dataclass(frozen=True)
class OwnDataset:
    """Facts come from the data set's attributes, where it has them, or from its samples:

    `classes` (names), `task` ("classification", "segmentation" with masks as targets, or
    `package.module:Class` of a `Task` of one's own with any targets), `void`
    (the value of pixels without a class), `mean` and `std` of each channel (for uint8 images; in
    [0, 1]). Inputs are images (PIL, uint8 arrays [height, width, channels], or uint8 tensors
    [channels, height, width]), float tensors of any shape, which the model gets as they are, or
    whole numbers of any shape, such as tokens, which it gets as int64.
    PIL images have the channels of their mode, palettes those of their colours, and 8 bits.
    """

    name: str

    def described(self, config: DataConfig) -> DatasetInfo:
        """Return the facts; the data set is made, and one of its samples is read."""
        train, test = _made(self.name)
        task = getattr(train, "task", "classification")
        if task not in TASKS and not is_own_name(task):
            raise ValueError(
                f"data.name={self.name} says its task is {task}; valid values: {', '.join(TASKS)} "
                "or package.module:Class"
            )
        void = getattr(train, "void", VOID) if task == "segmentation" else None
        first = _input(_sample(train, 0, self.name)[0], self.name)
        return DatasetInfo(
            self.name,
            len(train),
            len(test),
            tuple(first.shape),
            _classes(self.name),
            task=task,
            void=void,
            has_numbers=str(first.dtype) == "torch.int64",
        )

    def facts(self, config: DataConfig) -> DatasetInfo:
        """Return the facts of all samples."""
        return self.described(config)

    def open(self, config: DataConfig, info: DatasetInfo) -> Images:
        """Return the data set in memory."""
        import torch

        from sms_dist.data.resident import in_memory

        made = _made(self.name)
        train = _gathered(made[0], info.num_train, info, f"data.name={self.name}: train")
        test = _gathered(made[1], info.num_test, info, f"data.name={self.name}: test")
        channels = info.input_shape[0] if info.input_shape else 1
        mean, std = (0.0,) * channels, (1.0,) * channels
        values = train.targets.unique() if info.task == "segmentation" else torch.empty(0)  # type: ignore[no-untyped-call]
        if values.tolist() == [0, info.void]:
            raise ValueError(
                f"data.name={self.name}: all masks consist of 0 and {info.void}, which is void;"
                " give 0 and 1, or give the data set another `void`"
            )
        if train.images.dtype == torch.uint8:
            mean = tuple(getattr(made[0], "mean", mean))
            std = tuple(getattr(made[0], "std", std))
        elif config.corruptions is not None:
            raise ValueError(
                f"data.corruptions={config.corruptions} changes pixels of 8 bits, and data.name="
                f"{self.name} has {train.images.dtype}; leave it out"
            )
        return in_memory(train, test, info, config, mean, std)


@cache
def _made(name: str) -> tuple[Any, Any]:
    """Return the splits for training and testing; once, since they may be slow to make."""
    make = guarded(own(name, "data.name"), name, "data.name")
    splits = make("train"), make("test")
    for split, dataset in zip(("train", "test"), splits, strict=True):
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(
                f"data.name={name} returned a {type(dataset).__name__} for {split!r}, not a "
                "map-style torch Dataset; give it __len__ and __getitem__"
            )
        if len(dataset) == 0:
            raise ValueError(f"data.name={name} has no samples for {split!r}")
    return splits


@cache
def _classes(name: str) -> tuple[str, ...]:
    """Return the names of the classes; without a list of them as many as there are targets."""
    train, _ = _made(name)
    named: Sequence[Any] | None = getattr(train, "classes", None)
    task = getattr(train, "task", "classification")
    if named is None and task not in TASKS:
        raise ValueError(
            f"data.name={name} is for {task}; give it the list `classes`: the model gets its length"
        )
    if named is not None:
        return tuple(str(each) for each in named)
    if task == "segmentation":
        raise ValueError(f"data.name={name} has masks and no names; give it the list `classes`")
    targets = getattr(train, "targets", None)
    if targets is None:
        targets = [_sample(train, i, name)[1] for i in range(len(train))]
    try:
        largest = max(int(target) for target in targets)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"data.name={name} has targets that are no class numbers: {error}; give numbers from 0 "
            "on, or name its `task`"
        ) from None
    return tuple(map(str, range(1 + largest)))


def _sample(dataset: Any, number: int, name: str) -> tuple[Any, Any]:
    """Return input and target of a sample; ValueError if it is no pair, or cannot be read."""
    pair = guarded(dataset.__getitem__, name, "data.name")(number)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(
            f"data.name={name}: sample {number} is a {type(pair).__name__}, not a pair; return "
            "(input, target)"
        )
    return pair[0], pair[1]


def _input(given: Any, name: str) -> Tensor:
    """Return one input as a tensor: uint8 pixels, int64, or fp32."""
    import numpy as np
    import torch

    if not isinstance(given, torch.Tensor):
        pixels = np.array(_picture(given, f"data.name={name}"))
        if pixels.dtype.kind == "f":
            return torch.from_numpy(pixels).to(torch.float32)
        if pixels.dtype.kind == "i":
            return torch.from_numpy(pixels.astype(np.int64))
        if pixels.ndim == 3 and pixels.shape[0] < 5 <= pixels.shape[2]:
            raise ValueError(
                f"data.name={name} has an array of {pixels.shape} as input; give height x width x"
                " channels, or a tensor of channels x height x width"
            )
        if pixels.ndim not in (2, 3) or pixels.dtype != np.uint8:
            raise ValueError(
                f"data.name={name} has a {type(given).__name__} of {pixels.dtype} as input; give "
                "images of 8 bits, or arrays or tensors of floats or of whole numbers"
            )
        given = torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    tensor: Tensor = given
    if tensor.dtype == torch.uint8:
        return tensor
    is_whole = tensor.dtype in (torch.int8, torch.int16, torch.int32, torch.int64)
    return tensor.to(torch.int64 if is_whole else torch.float32)


def _picture(given: Any, place: str, is_mask: bool = False) -> Any:
    """Return a PIL image upright and, but for masks, with 8 bits a channel; all else as it is."""
    from PIL import Image, ImageFile

    from sms_dist.data.decode import ORIENTATION, TURNS, eight_bits, upright

    if not isinstance(given, Image.Image):
        return given
    if given.getexif().get(ORIENTATION) in TURNS and not isinstance(given, ImageFile.ImageFile):
        # whether its pixels were turned by now only the data set knows
        raise ValueError(
            f"{place} has an image that says how it is to be turned (EXIF); apply"
            " PIL.ImageOps.exif_transpose when it is opened"
        )
    image = upright(given)
    if is_mask:
        return image
    try:
        image = eight_bits(image)
    except ValueError as error:
        raise ValueError(f"{place} has an image of {error}, or give a float tensor") from None
    return image.convert({"1": "L", "P": "RGB", "PA": "RGBA"}.get(image.mode, image.mode))


def _target(given: Any, place: str) -> Tensor:
    import numpy as np
    import torch

    given = _picture(given, place, is_mask=True)
    try:
        if isinstance(given, torch.Tensor):
            return given
        values = np.array(given)
        if values.dtype.kind == "u" and values.dtype.itemsize > 1:  # torch hardly knows such
            values = values.astype(np.int64)
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{place} has a {type(given).__name__} as target; give a number, a tensor, or an image"
        ) from None


def _gathered(dataset: Any, count: int, info: DatasetInfo, place: str) -> Split:
    import torch

    inputs, targets = None, []
    for i in range(count):
        given, target = _sample(dataset, i, info.name)
        row = _input(given, info.name)
        if inputs is None:
            inputs = torch.empty((count, *row.shape), dtype=row.dtype)
        if row.shape != inputs.shape[1:] or row.dtype != inputs.dtype:
            raise ValueError(
                f"{place}: sample {i} is {row.dtype} {tuple(row.shape)}, the first one "
                f"{inputs.dtype} {tuple(inputs.shape[1:])}; all must be alike"
            )
        inputs[i] = row
        targets.append(_target(target, f"{place}: sample {i}"))
    assert inputs is not None
    wanted = torch.stack(targets)
    if info.task not in TASKS:
        return Split(inputs, wanted)
    is_masks = info.task == "segmentation"
    kind, shape = (torch.uint8, (count, *info.input_shape[1:])) if is_masks else (torch.int64, ())
    if wanted.shape != (shape or (count,)):
        raise ValueError(
            f"{place}: a target is {tuple(wanted.shape[1:])} large; for {info.task} it has to be "
            f"{'a mask of the size of its image' if is_masks else 'one number'}"
        )
    if wanted.is_floating_point() and bool((odd := wanted != wanted.to(torch.int64)).any()):
        raise ValueError(
            f"{place}: a target is {float(wanted[odd][0]):g}, which is no class number"
        )
    allowed = (wanted >= 0) & (wanted < len(info.classes))
    if is_masks:
        allowed |= wanted == info.void
    if not bool(allowed.all()):
        raise ValueError(
            f"{place}: a target is {int(wanted[~allowed][0])}, and there are "
            f"{len(info.classes)} classes, from 0 on"
        )
    return Split(inputs, wanted.to(kind))
