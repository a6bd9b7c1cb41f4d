"""Cards: what the samples of a data set are and how they are read, in a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, Strict, ValidationError, model_validator

from sms_dist.base import plain
from sms_dist.base.lookup import lookup
from sms_dist.base.shipped import shipped
from sms_dist.config.file import one_line
from sms_dist.config.section import Above0, Count, Integers, Names, Section, Size
from sms_dist.data.dataset import DatasetInfo

FILE = "card.yaml"
OWN = "card"  # data.name for the card that lies in data.path
ENDINGS = (".yaml", ".yml")  # data.name that is the path of a card
TEXT = "text"  # the reader whose cards are `TextCard`s
MAX_BYTES = 1 << 18
MAX_CLASSES = 100_000
MAX_SAMPLES = 1 << 40
MAX_PIXELS = 1 << 26  # of an image
SplitName: TypeAlias = Literal["train", "test"]
SPLITS: tuple[SplitName, SplitName] = ("train", "test")
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
    """The patterns of a split's files, in turn, where there is no index.json."""

    train: Patterns = ("*train*",)
    test: Patterns = ("*test*",)


class SampleCounts(Section):
    train: Annotated[int, Field(ge=1, le=MAX_SAMPLES)]
    test: Annotated[int, Field(ge=1, le=MAX_SAMPLES)]


class Download(Section):
    """The form in which the set is downloaded, for `sms-dist data prepare`."""

    layout: str
    """one of those that `sms-dist data prepare` knows: see data/prepare"""
    samples_per_shard: Count = 1000
    """unless the command says otherwise"""
    folder: Name | None = None
    """torchvision: the folder that it unpacks"""
    label_ids: Integers = ()
    """cityscapes: the values in its masks that are the classes, in their order; all else is void"""


class Card(Section):
    """A set of images. Fields of samples are named by their file extensions."""

    name: Name
    """of the data set"""
    reader: str = "shards"
    """how samples are read: an entry of `data.READERS`"""
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
    attributes: Names = ()
    """reader attributes: keys of the JSON object with values 0 and 1, of which data.target and
    data.subgroup choose; target and subgroup are those where they do not"""
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
    copies: SampleCounts | None = None
    """reader digits: so many fixed distortions of each digit, side by side (null: none)"""
    download: Download | None = None
    """layout of the downloaded set"""

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
        """Return the names of sub-groups; number a * num_classes + c is attribute a, class c."""
        return tuple(f"{a}-{c}" for a in self.subgroup_names for c in self.class_names)

    @property
    def info(self) -> DatasetInfo:
        """Return the facts for a plan; without `samples`, their numbers are 0."""
        counts = (self.samples.train, self.samples.test) if self.samples else (0, 0)
        return DatasetInfo(
            self.name,
            *counts,
            (self.channels, *self.size),
            self.class_names,
            group=self.copies.train if self.copies else 1,
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
        for key in ("target", "subgroup") if self.attributes else ():
            if (value := getattr(self, key)) not in [f"json:{name}" for name in self.attributes]:
                raise ValueError(f"{key}={value} is none of its attributes")
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
                f"augment={self.augment} does not move masks; valid values: {', '.join(OF_MASKS)}"
            )
        if self.augment == "scale_crop_flip" and self.void is None:
            raise ValueError("augment=scale_crop_flip needs void, for pixels outside the image")
        if self.num_classes > 255 or (self.void is not None and self.void < self.num_classes):
            raise ValueError(
                f"void={self.void} must be {self.num_classes} or more, above the classes, of which"
                " there are at most 255"
            )


class Stems(Section):
    """Names of files without the language at their end: the first pair that is there is read."""

    train: Annotated[tuple[Name, ...], Strict(False), Field(min_length=1)] = ("train",)
    test: Annotated[tuple[Name, ...], Strict(False), Field(min_length=1)] = ("test",)


class TextCard(Section):
    """A set of parallel text: files of sentences, one a line, such as train.en and train.de."""

    name: Name
    """of the data set"""
    reader: Literal["text"]
    samples: SampleCounts | None = None
    """pairs of sentences, where the files are not here"""
    files: Stems = Stems()
    """which files"""
    news: Name | None = None
    """where those are missing: files for testing in any sub-folder, as text or sgm; for training
    all corpora such as europarl-v7.de-en.en are read"""


def names() -> tuple[str, ...]:
    """Return what data.name may be, except for paths of cards."""
    return tuple(sorted([*(path.stem for path in shipped("data").glob("*.yaml")), OWN]))


def path_of(name: str, folder: str | None, field: str = "data.name") -> Path:
    """Return where the card of a data set lies; `folder` (data.path) has the one of `card`.

    ValueError that names `field` for an unknown name.
    """
    if name == OWN:
        if folder is None:
            raise ValueError(f"{field}={name} needs data.path: the folder of {FILE} and the shards")
        return Path(folder) / FILE
    if name.endswith(ENDINGS):
        return Path(name)
    return shipped("data") / f"{lookup(dict.fromkeys(names(), name), name, field)}.yaml"


def read(path: Path) -> Card | TextCard:
    """Return the card in a file; ValueError in one line when there is none, or a mistake in it."""
    if not plain.is_file(path):
        raise ValueError(
            f"{path}: there is no such file; describe the samples in it,"
            " or write it with its shards by `sms-dist data prepare card`"
        )
    values = plain.parse_yaml(plain.read(path, MAX_BYTES, "a card"), str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a mapping of keys to values")
    kind = TextCard if values.get("reader") == TEXT else Card
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {one_line(error, kind)}") from None
