"""Which files of a folder hold the sentences of a split, in the layouts in which they come."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from sms_dist.lookup import lookup

SplitName = Literal["train", "test"]
Languages: TypeAlias = "tuple[str, str]"  # from, to
SPLITS: tuple[SplitName, SplitName] = ("train", "test")
LANGUAGE = re.compile(r"[A-Za-z]{2,3}([_-]\w+)?")


class Files(NamedTuple):
    """Two files whose lines belong together."""

    source: Path
    target: Path


def find(name: str, folder: Path, split: SplitName, languages: Languages) -> list[Files]:
    """The files of a split in the order in which they are read; ValueError when there are none."""
    layout = lookup(LAYOUTS, name, "data.name")
    check_languages(languages)
    if not folder.is_dir():
        raise ValueError(f"data.path={folder} is no folder; set it to the one that holds {name}")
    return layout(folder, split, languages)


def check_languages(languages: Languages) -> None:
    """ValueError unless they are two different codes: they become parts of file names."""
    if languages[0] == languages[1] or not all(LANGUAGE.fullmatch(code) for code in languages):
        raise ValueError(
            f"data.languages={list(languages)} must be two different codes as the files are named,"
            " for example [en, de]"
        )


def _plain(folder: Path, split: SplitName, languages: Languages) -> list[Files]:
    return [_named(folder, [split], languages)]


def _multi30k(folder: Path, split: SplitName, languages: Languages) -> list[Files]:
    names = ["train"] if split == "train" else ["test", "test_2016_flickr"]
    return [_named(folder, names, languages)]


def _wmt16(folder: Path, split: SplitName, languages: Languages) -> list[Files]:
    """One plain pair; else every parallel corpus there is, or newstest2016, in any sub-folder."""
    if files := _pair(folder, split, languages):
        return [files]
    found = _corpora(folder, languages) if split == "train" else _news(folder, languages)
    if not found:
        pair, code = "-".join(languages[::-1]), languages[0]
        wanted = f"europarl-v7.{pair}.{code}" if split == "train" else f"newstest2016.{code}"
        raise ValueError(
            f"data.path={folder} holds neither {split}.{code} nor {wanted} with its translation;"
            " set data.path to the folder of the unpacked archives, and check data.languages"
        )
    return found


LAYOUTS: dict[str, Callable[[Path, SplitName, Languages], list[Files]]] = {
    "parallel": _plain,
    "multi30k": _multi30k,
    "wmt16": _wmt16,
}


def _named(folder: Path, names: list[str], languages: Languages) -> Files:
    for name in names:
        if files := _pair(folder, name, languages):
            return files
    stem, present = names[0], [code for code in languages if _file(folder, names[0], code)]
    missing = next(code for code in languages if code not in present)
    raise ValueError(
        f"{folder / stem}.{missing}: there is no such file, nor {stem}.{missing}.gz;"
        " check data.path and data.languages"
    )


def _pair(folder: Path, stem: str, languages: Languages) -> Files | None:
    source, target = (_file(folder, stem, code) for code in languages)
    return Files(source, target) if source and target else None


def _file(folder: Path, stem: str, language: str) -> Path | None:
    names = (f"{stem}.{language}", f"{stem}.{language}.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _corpora(folder: Path, languages: Languages) -> list[Files]:
    """europarl-v7.de-en.en beside europarl-v7.de-en.de, and so on."""
    found = set()
    for pair in ("-".join(languages), "-".join(languages[::-1])):
        for path in folder.rglob(f"*.{pair}.{languages[0]}*"):
            stem = path.name.partition(f".{pair}.")[0]
            if files := _pair(path.parent, f"{stem}.{pair}", languages):
                found.add(files)
    return sorted(found)


def _news(folder: Path, languages: Languages) -> list[Files]:
    """newstest2016 as text, or as the sgm files of the direction, or else of the other one."""
    source, target = languages
    for parent in sorted({path.parent for path in folder.rglob("newstest2016*")}):
        if files := _pair(parent, "newstest2016", languages):
            return [files]
        forth = Files(
            parent / f"newstest2016-{source}{target}-src.{source}.sgm",
            parent / f"newstest2016-{source}{target}-ref.{target}.sgm",
        )
        back = Files(
            parent / f"newstest2016-{target}{source}-ref.{source}.sgm",
            parent / f"newstest2016-{target}{source}-src.{target}.sgm",
        )
        if found := [files for files in (forth, back) if all(map(Path.is_file, files))]:
            return found[:1]
    return []
