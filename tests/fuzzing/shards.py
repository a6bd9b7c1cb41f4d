"""Bad shards, indexes and cards: checked, read into memory, streamed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from fuzzing.mutation import mutated_bytes, mutated_value
from PIL import Image

from sms_dist import data
from sms_dist.base.randomness import stream
from sms_dist.config import DataConfig
from sms_dist.data.card import FILE as CARD
from sms_dist.data.index import FILE as INDEX
from sms_dist.data.prepare import check
from sms_dist.data.sheet import sheet

SIDE = 8
CARDS: tuple[dict[str, Any], ...] = (
    {"target": "cls", "classes": 3},
    {"target": "json:label", "subgroup": "json:old", "subgroup_names": ["a", "b"], "classes": 3},
    {"task": "segmentation", "target": "seg.png", "classes": 3, "void": 255, "augment": "flip"},
)
COUNTS = {"train-0": 4, "train-1": 4, "test-0": 4}
Read = Callable[[], None]


def prepare(scratch: Path) -> Callable[[Random], Read]:
    """A function from chance to something that reads one input."""
    root = scratch / "shards"
    folders = [_written(root / str(number), card) for number, card in enumerate(CARDS)]
    good = {file: file.read_bytes() for folder in folders for file in folder.iterdir()}
    changed: list[Path] = []

    def make(chance: Random) -> Read:
        folder = chance.choice(folders)
        for file in changed:
            file.unlink()
        changed.clear()
        for name in folder.iterdir():
            if name.is_dir():
                shutil.rmtree(name)
        for file, content in good.items():
            if file.parent == folder or not file.exists():
                file.write_bytes(content)
        file = chance.choice([path for path in good if path.parent == folder])
        changed.extend(_replaced(chance, file, good))
        if chance.random() < 0.5 and file.name != INDEX:
            _counted(folder)  # whoever changes a file can change its sum
        if chance.random() < 0.2 and file.name != INDEX:
            (folder / INDEX).unlink()
        reads = (_checked, _resident, _streamed, _streamed)
        return lambda: chance.choice(reads)(folder)

    return make


def _replaced(chance: Random, file: Path, good: dict[Path, bytes]) -> list[Path]:
    """Write another content; the files that were not there before."""
    content = good[file]
    others = tuple(good[other] for other in good if other.suffix == file.suffix)
    if file.suffix in (".yaml", ".json") and chance.random() < 0.6:
        tree = yaml.safe_load(content)
        try:
            file.write_text(json.dumps(mutated_value(chance, tree)), "utf-8")
        except RecursionError:
            file.write_text("[" * 10_000)
        return []
    if file.suffix != ".tar":
        file.write_bytes(mutated_bytes(chance, content, others))
        return []
    kind = chance.randrange(4)
    found = mutated_bytes(chance, content, others) if kind == 0 else content
    if kind == 1:
        found = _mutated_members(chance, content, others)
    elif kind >= 2:
        found = _mutated_blocks(chance, content)
    if chance.random() < 0.2:
        packed = gzip.compress(found, 1)
        new = file.with_suffix(".tar.gz")
        new.write_bytes(packed if chance.random() < 0.5 else mutated_bytes(chance, packed))
        file.unlink()
        return [new]
    file.write_bytes(found)
    return []


def _mutated_members(chance: Random, content: bytes, others: tuple[bytes, ...]) -> bytes:
    """A tar file in order, around damaged contents."""
    buffer = io.BytesIO()
    form = chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        tarfile.open(fileobj=buffer, mode="w", format=form) as new,
    ):
        for member in old:
            data_ = old.extractfile(member).read()
            if chance.random() < 0.2:
                data_ = mutated_bytes(chance, data_, others)
            if chance.random() < 0.05:
                member.name = chance.choice(("../x.png", "a" * 90 + ".png", ".x", "x", "a.png/b"))
            member.size = len(data_)
            new.addfile(member, io.BytesIO(data_))
    return buffer.getvalue()


FIELDS = ((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
HOSTILE = (
    *(b"77777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"00000000000", b"-0000000001"),
    *(b"\0" * 12,),
    *(b"1", b"2", b"3", b"5", b"6", b"7", b"L", b"K", b"x", b"g", b"S", b"D", b"V", b"\0"),
    *(b"../../owned.cls", b"/etc/owned.cls", b"a.cls\0", b"ustar  \0", b"\x1b[2J.png"),
)  # fmt: skip


def _mutated_blocks(chance: Random, content: bytes) -> bytes:
    """Fields of headers, whose checksums are right."""
    blocks = [bytearray(content[at : at + 512]) for at in range(0, len(content), 512)]
    headers = [block for block in blocks if block[257:262] == b"ustar"]
    for header in chance.sample(headers, min(len(headers), chance.choice((1, 1, 2, 5)))):
        start, length = chance.choice(FIELDS)
        header[start : start + length] = chance.choice(HOSTILE)[:length].ljust(length, b"\0")
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    if chance.random() < 0.2:
        chance.shuffle(blocks)
    if chance.random() < 0.2:
        at = chance.randrange(len(headers))
        blocks[at:at] = [headers[at]] * chance.choice((1, 2, 2000))
    return b"".join(blocks)


def _checked(folder: Path) -> None:
    found = check(folder, num_pictures=2)
    if found.pictures and not found.problems:
        sheet(found.pictures, found.card, found.info)


def _resident(folder: Path) -> None:
    _read(DataConfig(name="card", path=str(folder), batch_size=4))


def _streamed(folder: Path) -> None:
    _read(DataConfig(name="card", path=str(folder), batch_size=4, loader="streaming"))


def _read(config: DataConfig) -> None:
    loaders = data.load(config).loaders(config.batch_size, torch.device("cpu"))
    for number, _batch in enumerate(loaders.train.epoch(stream(0, "order"), stream(0, "augment"))):
        if number == 3:
            break
    for _batch in loaders.test.part(0, 1):
        pass


def _written(folder: Path, facts: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    card = {"name": "card", "size": [SIDE, SIDE], "mean": [0.5] * 3, "std": [0.5] * 3, **facts}
    card |= {"samples": {"train": 8, "test": 4}}
    (folder / CARD).write_text(yaml.safe_dump(card))
    for name, count in COUNTS.items():
        form = tarfile.GNU_FORMAT if name == "train-1" else tarfile.PAX_FORMAT
        with tarfile.open(folder / f"{name}.tar", "w", format=form) as tar:
            for number in range(count):
                _add(tar, f"{name}-{number}" + "k" * (120 * (number == 1)), number, facts)
    _counted(folder)
    return folder


def _add(tar: tarfile.TarFile, key: str, number: int, facts: dict[str, Any]) -> None:
    pixels = np.random.default_rng(number).integers(0, 3, (SIDE, SIDE, 3), np.uint8)
    fields = {"png" if number % 2 else "jpg": _image(pixels, "PNG" if number % 2 else "JPEG")}
    if facts.get("task"):
        fields["seg.png"] = _image(pixels[:, :, 0], "PNG")
    else:
        label = {"label": number % 3, "old": bool(number % 2)}
        fields |= {"cls": str(number % 3).encode(), "json": json.dumps(label).encode()}
    for extension, content in fields.items():
        member = tarfile.TarInfo(f"{key}.{extension}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _image(pixels: Any, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def _counted(folder: Path) -> None:
    def facts(split: str) -> list[dict[str, Any]]:
        return [
            {
                "file": path.name,
                "samples": COUNTS.get(path.name.partition(".")[0], 4),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(folder.glob(f"{split}-*.tar*"))
        ]

    splits = {"train": facts("train"), "test": facts("test")}
    (folder / INDEX).write_text(json.dumps({"name": "card", "classes": [], "splits": splits}))
