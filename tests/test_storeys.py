"""Imports point down: from a storey to lower ones, never to a neighbour room or up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# The lowest first; rooms side by side do not import each other. docs/architecture.md says why.
STOREYS = [
    ["base"],
    ["mesh", "pruning", "schedules"],
    ["soups", "sparse_rules"],
    ["callbacks"],
    ["config"],
    ["methods"],
    ["data", "models"],
    ["tasks"],
    ["run"],
    ["engines"],
    ["training"],
    ["stacks"],
    ["experiment"],
    ["reports", "export"],
    ["start"],
    ["cli"],
]
HEIGHT = {room: height for height, rooms in enumerate(STOREYS) for room in rooms}
TOP = len(STOREYS)  # sms_dist/__main__.py and launcher/main.py start things, nothing imports them
FILES = sorted(p for root in ("sms_dist", "launcher") for p in (REPOSITORY / root).rglob("*.py"))


def module_name(path: Path) -> str:
    """Return sms_dist.soups.rules for sms_dist/soups/rules.py; a package ends with __init__."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)


def room(module: str) -> str | None:
    """Return the room of a module, "" for sms_dist itself; None if it is not ours."""
    root, *rest = module.split(".")
    if root == "sms_dist":
        return rest[0] if rest and rest[0] != "__init__" else ""
    return "launcher" if root == "launcher" else None


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything a module imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                # `from sms_dist import soups` imports a room, __version__ is none
                yield node.lineno, name if base == "sms_dist" and room(name) in HEIGHT else base


def is_for_types(node: ast.If) -> bool:
    """Return whether a block is for those that check types, and never runs."""
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def violations(source: str, module: str) -> list[str]:
    """Return what is wrong with the imports of a module, one line each."""
    own, tree = room(module), ast.parse(source)
    assert own is not None, module
    types = ast.Module([], [])
    if own in ("__main__", "launcher"):
        height = TOP
    elif own == "":
        height = -1  # `import sms_dist` costs nothing; to know the types of the library neither
        blocks = [node for node in tree.body if isinstance(node, ast.If) and is_for_types(node)]
        tree.body = [node for node in tree.body if node not in blocks]
        types.body = [statement for node in blocks for statement in node.body]
    elif own in HEIGHT:
        height = HEIGHT[own]
    else:
        return [f"{module}: {own} is no room of STOREYS; give it a place"]
    wrong = []
    for part, limit in ((tree, height), (types, HEIGHT["config"])):
        for line, target in imported(part, module):
            other = room(target)
            if other in (None, "", own):
                continue
            if other not in HEIGHT:
                wrong.append(f"{module}:{line} imports {target}, which nothing may import")
            elif HEIGHT[other] >= limit:
                where = "above" if HEIGHT[other] > limit else "beside"
                wrong.append(f"{module}:{line} imports {target}, {where} it")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), module_name(path)) == []


def test_every_room_is_there_and_has_files() -> None:
    rooms = {room(module_name(path)) for path in FILES} - {"", "__main__", "launcher"}
    assert rooms == HEIGHT.keys()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sms_dist.pruning.mask", "import sms_dist.mesh.topology"),
        ("sms_dist.pruning.mask", "import os, sms_dist.training as t"),
        ("sms_dist.pruning.mask", "from sms_dist.models.resnets import build"),
        ("sms_dist.pruning.mask", "from sms_dist import experiment"),
        ("sms_dist.pruning.mask", "from sms_dist import methods, base"),
        ("sms_dist.pruning.mask", "from .. import mesh"),
        ("sms_dist.pruning.mask", "from ..training.loop import train"),
        ("sms_dist.pruning.__init__", "from ..soups import rules"),
        ("sms_dist.pruning.mask", "def f():\n    import sms_dist.data.loader"),
        ("sms_dist.pruning.mask", "if TYPE_CHECKING:\n    from sms_dist.config import Config"),
        ("sms_dist.soups.rules", "from sms_dist.config import SoupConfig"),
        ("sms_dist.soups.rules", "from sms_dist.sparse_rules.base import Rule"),
        ("sms_dist.base.files", "from sms_dist.pruning.mask import Mask"),
        ("sms_dist.data.card", "from sms_dist.models import MODELS"),
        ("sms_dist.reports.table", "from sms_dist.export.folder import write"),
        ("sms_dist.start.session", "from sms_dist.cli.main import cli"),
        ("sms_dist.cli.main", "import launcher.main"),
        ("sms_dist.__init__", "from sms_dist.base.lookup import lookup"),
        ("sms_dist.__init__", "if TYPE_CHECKING:\n    from sms_dist.config import Config"),
        ("sms_dist.__init__", "if QUICK:\n    from sms_dist.soups.soup import soup"),
        ("sms_dist.cli.main", "from sms_dist.surprise import x"),
        ("sms_dist.surprise", "import os"),
    ],
)
def test_a_bad_import_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sms_dist.pruning.mask", "import torch, numpy as np"),
        ("sms_dist.pruning.mask", "from sms_dist.base.lookup import lookup"),
        ("sms_dist.pruning.mask", "from . import scores\nfrom .scores import magnitude"),
        ("sms_dist.soups.rules", "from sms_dist.mesh.collectives import sum_"),
        ("sms_dist.run.store", "from sms_dist import __version__"),
        ("sms_dist.experiment.experiment", "from sms_dist.training import loop"),
        ("sms_dist.cli.main", "from sms_dist import reports, start"),
        ("sms_dist.__init__", "if TYPE_CHECKING:\n    from sms_dist.soups.soup import soup"),
        ("sms_dist.__main__", "from sms_dist.cli.main import main"),
        ("launcher.main", "from sms_dist.start import main"),
    ],
)
def test_a_good_import_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_every_folder_is_a_package() -> None:
    """Else a wheel lacks it, and a clone does not show it."""
    folders = {path.parent for path in FILES if path.is_relative_to(REPOSITORY / "sms_dist")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
