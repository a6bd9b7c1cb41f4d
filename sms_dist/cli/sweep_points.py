"""What a grid of settings means: its points, the names of their folders, shared dense models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from sms_dist import methods
from sms_dist.base.plain import parse_yaml
from sms_dist.config import Config

Pair = tuple[str, str]  # key, value as written

# What decides the dense model, and where it is put; a dense run takes these settings of a point.
DENSE_SECTIONS = ("data", "model", "pretrain", "seed", "engine", "name", "records")
ONLY_DENSE = ("method={name: dense}", "pruning={}", "retrain={}", "candidates={}", "soup={}")

SINGLE = "single"  # the folder of a grid with one point
SPEAKING = ("name", "rule", "schedule", "allocation")  # keys whose values speak for themselves
UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")
LONGEST_WORD, LONGEST_NAME = 32, 120
QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\"""")


@dataclass(frozen=True)
class Point:
    """One experiment of a grid: all its settings, and those that vary in the grid."""

    settings: tuple[str, ...]
    varied: tuple[Pair, ...]
    is_dense: bool = False  # trains the dense model that others start from

    @property
    def label(self) -> str:
        words = ["dense model"] if self.is_dense else []
        return ", ".join([*words, *(f"{key}={value}" for key, value in self.varied)]) or SINGLE

    @property
    def folder(self) -> str:
        """sms_seed0 for method.name=sms, seed=0: the same whatever other values the grid has."""
        keys = [key for key, _ in self.varied]
        words = ["dense-model"] if self.is_dense else []
        name = "_".join([*words, *(_word(key, value, keys) for key, value in self.varied)])
        if len(name) > LONGEST_NAME:
            return f"{name[:LONGEST_NAME]}_{_digest(name)}"
        return name or SINGLE


def points(settings: Iterable[str]) -> list[Point]:
    """The product of all settings, the first one slowest; ValueError for one without a value."""
    grid = [_values(setting) for setting in settings]
    keys = [key for key, _ in grid]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"--set {key} is there {keys.count(key)} times; write {key}=v1,v2")
    return [_point(grid, chosen) for chosen in product(*(values for _, values in grid))]


def _point(grid: Sequence[tuple[str, list[str]]], chosen: Sequence[str]) -> Point:
    pairs = [(key, value) for (key, _), value in zip(grid, chosen, strict=True)]
    varied = [pair for pair, (_, values) in zip(pairs, grid, strict=True) if len(values) > 1]
    return Point(tuple(f"{key}={value}" for key, value in pairs), tuple(varied))


def _values(setting: str) -> tuple[str, list[str]]:
    key, equals, text = setting.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError(f"--set {setting}: write key.path=v1,v2,..., for example seed=0,1,2")
    values = split(text)
    if not all(values):
        raise ValueError(f"--set {setting} has an empty value; write null if none is meant")
    return key, values


def split(text: str) -> list[str]:
    """Parted at the commas outside of [], {} and quotes, as YAML sees them."""
    pieces, depth, is_start, at = [""], 0, True, 0
    while at < len(text):
        quoted = QUOTED.match(text, at) if is_start else None
        token = quoted[0] if quoted else text[at]
        at += len(token)
        if token == "," and depth == 0:
            pieces.append("")
            is_start = True
            continue
        pieces[-1] += token
        depth += token in ("[", "{") and (is_start or depth > 0)
        depth -= token in ("]", "}") and depth > 0
        if not token.isspace():  # a bracket or a quote inside of a word is a character like others
            is_start = depth > 0 and token in ("[", "{", ",", ":")
    return [piece.strip() for piece in pieces]


def starts_from_dense(config: Config) -> bool:
    """Does the method begin with the fully trained dense model, and need nothing else of it?

    A method that rewinds needs the weights of an epoch; pretrain.keep_epoch may keep them for all.
    """
    found = methods.recipe(config)
    is_enough = found.kept_epoch == config.pretrain.keep_epoch
    return methods.starts_from_dense(found, config) and is_enough


def dense_point(point: Point) -> Point:
    """The run that trains the dense model of a point and nothing else."""
    settings = [setting for setting in point.settings if _concerns_dense(setting)]
    varied = [pair for pair in point.varied if _concerns_dense(pair[0])]
    return Point((*ONLY_DENSE, *settings), tuple(varied), is_dense=True)


def _concerns_dense(setting: str) -> bool:
    return setting.partition("=")[0].partition(".")[0] in DENSE_SECTIONS


def _word(key: str, text: str, keys: Sequence[str]) -> str:
    """A value in a folder's name; with its key, unless it speaks for itself."""
    value = parse_yaml(text, f"--set {key}={text}")
    plain = value if isinstance(value, str) else json.dumps(value, default=str)
    safe = UNSAFE.sub("-", plain).strip("-.")[:LONGEST_WORD]
    word = safe if safe == plain else f"{safe}-{_digest(plain)}"
    last = key.rpartition(".")[2]
    is_only = sum(other.rpartition(".")[2] == last for other in keys) == 1
    if isinstance(value, str) and last in SPEAKING and is_only:
        return word
    return f"{last if is_only else key}{word}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
