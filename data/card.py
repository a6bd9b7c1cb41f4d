"""A card says what the samples in a folder of shards are: fields, sizes, classes, normalisation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, Strict, ValidationError, model_validator

from data.dataset import DatasetInfo
from sms_dist import plain
from sms_dist.config_file import one_line
from sms_dist.config_section import Above0, Names, Section, Size

FILE = "card.yaml"
MAX_BYTES = 1 << 18
MAX_CLASSES = 100_000
MAX_SAMPLES = 1 << 40
MAX_PIXELS = 1 << 26  # of an image
SplitName: TypeAlias = Literal["train", "test"]
AugmentName: TypeAlias = Literal[
    "none", "flip", "crop_flip", "crop_flip_rotate", "random_resized_crop", "scale_crop_flip"
]
# What moves masks along with images.
OF_MASKS: tuple[AugmentName, ...] = ("none", "flip", "scale_crop_flip")
Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
Extension = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$")]
JsonKey = Annotated[str, Field(pattern=r"^[a-z0-9_.]+:.+$")]
Pattern = Annotated[str, Field(pattern=r"^[\w.+*?\[\]-]+$")]  # of files in the folder itself
Patterns = Annotated[tuple[Pattern, ...], Strict(False)]
PerChannel = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Strict(False)]


class ShardPatterns(Section):
    """Where there is no index.json; the files of a split are those of its patterns in turn."""

    train: Patterns = ("*train*",)
    test: Patterns = ("*test*",)


class SampleCounts(Section):
    train: Annotated[int, Field(ge=1, le=MAX_SAMPLES)]
    test: Annotated[int, Field(ge=1, le=MAX_SAMPLES)]


class Card(Section):
    """What one folder of shards holds. Fields of samples are named by their file extensions."""

    name: Name
    """of the data set"""
    task: Literal["classification", "segmentation"] = "classification"
    """a class for each image, or for each pixel"""
    images: Annotated[tuple[Extension, ...], Strict(False)] = ("png", "jpg", "jpeg")
    """the first of these fields that a sample has is its image, PNG or JPEG"""
    target: Extension | JsonKey = "cls"
    """field with the class as a number; `json:KEY`: a number or true/false in a JSON object;
    of segmentation: a PNG mask whose pixels are classes, such as seg.png"""
    subgroup: JsonKey | None = None
    """`json:KEY`: an attribute; its combinations with the classes are measured apart"""
    subgroup_names: Names = ()
    """of the attribute's values 0, 1, ..."""
    size: Size
    """height and width that the model sees"""
    fit: Literal["exact", "scale", "crop"] = "scale"
    """how images come to that size: exact (they have it), scale, or crop (the shorter side is
    scaled to 8/7 of it and the centre cut out)"""
    channels: Literal[1, 3] = 3
    """1: grey, 3: RGB"""
    classes: Annotated[int, Field(ge=1, le=MAX_CLASSES)] | Names
    """their names in the order of their numbers, or how many there are"""
    void: Annotated[int, Field(ge=0, le=255)] | None = None
    """value of pixels that belong to no class"""
    mean: PerChannel
    """of the training pixels in [0, 1], per channel"""
    std: Annotated[tuple[Above0, ...], Strict(False)]
    """of the training pixels in [0, 1], per channel"""
    augment: AugmentName = "none"
    """while training"""
    shards: ShardPatterns = ShardPatterns()
    """file names of the shards where there is no index.json, as patterns"""
    samples: SampleCounts | None = None
    """how many there are, where there is no index.json"""

    @property
    def class_names(self) -> tuple[str, ...]:
        if isinstance(self.classes, int):
            return tuple(str(number) for number in range(self.classes))
        return self.classes

    @property
    def num_classes(self) -> int:
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    @property
    def subgroups(self) -> tuple[str, ...]:
        """Attribute and class: sub-group a * num_classes + c has the attribute a, the class c."""
        return tuple(f"{a}-{c}" for a in self.subgroup_names for c in self.class_names)

    @property
    def info(self) -> DatasetInfo:
        """Facts for a plan; without `samples`, their numbers are 0."""
        counts = (self.samples.train, self.samples.test) if self.samples else (0, 0)
        return DatasetInfo(
            self.name,
            *counts,
            (self.channels, *self.size),
            self.class_names,
            task=self.task,
            void=self.void,
            subgroups=self.subgroups,
        )

    @model_validator(mode="after")
    def _check(self) -> Card:
        if self.size[0] * self.size[1] > MAX_PIXELS:
            raise ValueError(f"size={list(self.size)} is more than {MAX_PIXELS} pixels")
        for key in ("mean", "std"):
            if len(getattr(self, key)) != self.channels:
                raise ValueError(f"{key} needs {self.channels} values, one for each channel")
        if self.num_classes < 2 or len(set(self.class_names)) < self.num_classes:
            raise ValueError("classes needs at least two different names")
        if bool(self.subgroup) != bool(self.subgroup_names):
            raise ValueError("subgroup and subgroup_names belong together; give both or none")
        self._check_masks()
        return self

    def _check_masks(self) -> None:
        if self.task != "segmentation":
            if self.void is not None or self.augment == "scale_crop_flip":
                raise ValueError("void and augment=scale_crop_flip need task=segmentation")
            return
        if not self.target.endswith("png"):
            raise ValueError(f"target={self.target}: masks are PNG, such as seg.png")
        if self.augment not in OF_MASKS:
            raise ValueError(
                f"augment={self.augment} does not move masks; legal: {', '.join(OF_MASKS)}"
            )
        if self.augment == "scale_crop_flip" and self.void is None:
            raise ValueError("augment=scale_crop_flip needs void, for pixels outside the image")
        if self.num_classes > 255 or (self.void is not None and self.void < self.num_classes):
            raise ValueError(
                f"void={self.void} must be {self.num_classes} or more, above the classes, of which"
                " there are at most 255"
            )


def read(folder: Path) -> Card:
    """The card of a folder; ValueError in one line when there is none, or a mistake in it."""
    path = folder / FILE
    if not plain.is_file(path):
        raise ValueError(
            f"{path}: there is no such file; describe the shards in it,"
            " or write both with `sms-dist data prepare card`"
        )
    values = plain.parse_yaml(plain.read(path, MAX_BYTES, "a card"), str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a mapping of keys to values")
    try:
        return Card.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {one_line(error, Card)}") from None
