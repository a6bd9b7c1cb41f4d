"""Imports point down only: no file imports from its own layer's neighbours or from above."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# The lowest first. Neighbours in a layer do not import each other, except in the lowest.
LAYERS = [
    {
        "sms_dist",
        "config",
        "config_section",
        "config_data",
        "config_engine",
        "exit_status",
        "file_pieces",
        "folders",
        "config_file",
        "config_compare",
        "lookup",
        "paths",
        "plain",
        "safetensors_file",
        "safetensors_header",
        "randomness",
        "shipped",
        "vision",
        "phases",
    },
    {"pruning", "schedules", "soups"},
    {"sparse_rules"},
    {"methods", "plan", "packs"},
    {"models", "data"},
    {"tasks", "sizes", "forecast"},
    {"distributed"},
    {"run"},
    {"records"},
    {"training", "reports", "export"},
    {"steps", "checks", "sweep"},
    {"experiment"},
    {"launcher"},
]
# The mesh takes plain values: of the lowest layer it may import these.
MESH_IMPORTS = {"exit_status", "printable", "process_identity"}
ROW = {unit: row for row, units in enumerate(LAYERS) for unit in units}
ROOTS = ("sms_dist", "launcher", "data")
FILES = sorted(path for root in ROOTS for path in (REPOSITORY / root).rglob("*.py"))


def module_name(path: Path) -> str:
    """sms_dist/soups/rules.py -> sms_dist.soups.rules; a package is named with its __init__."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)


def unit(module: str) -> str | None:
    """The entry of LAYERS that a module belongs to, None if it is not ours."""
    root, _, rest = module.partition(".")
    if root not in ROOTS:
        return None
    name = rest.partition(".")[0]
    return name if root == "sms_dist" and name not in ("", "__init__") else root


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from sms_dist import soups` imports a module, `from sms_dist import __version__` not.
            is_module = base == "sms_dist"
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if is_module and unit(name) in ROW else base


def violations(source: str, module: str) -> list[str]:
    """What is wrong with the imports of a module, one line each."""
    own = unit(module)
    assert own is not None, module
    if own not in ROW:
        return [f"{module}: {own} has no place in LAYERS; give it one"]
    found = []
    for line, target in imported(ast.parse(source), module):
        other = unit(target)
        if other is None or other == own:
            continue
        if other not in ROW:
            found.append(f"{module}:{line} imports {target}, which has no place in LAYERS")
        elif ROW[other] > ROW[own]:
            found.append(f"{module}:{line} imports {target}, which lies above {own}")
        elif ROW[other] == ROW[own] > 0:
            found.append(f"{module}:{line} imports {target}, a neighbour of {own}")
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), module_name(path)) == []


def test_there_are_files_to_look_at() -> None:
    assert REPOSITORY / "sms_dist" / "config.py" in FILES


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sms_dist.pruning.mask", "import sms_dist.distributed.topology"),
        ("sms_dist.pruning.mask", "import os, sms_dist.training as t"),
        ("sms_dist.pruning.mask", "from sms_dist.models.resnet import build"),
        ("sms_dist.pruning.mask", "from sms_dist import experiment"),
        ("sms_dist.pruning.mask", "from sms_dist.soups import mixing"),
        ("sms_dist.pruning.mask", "from sms_dist import methods, config"),
        ("sms_dist.pruning.mask", "from .. import distributed"),
        ("sms_dist.pruning.mask", "from ..training.loop import train"),
        ("sms_dist.pruning.__init__", "from ..plan import Plan"),
        ("sms_dist.pruning.mask", "def f():\n    import data.loaders"),
        ("sms_dist.pruning.mask", "if TYPE_CHECKING:\n    from data import cifar"),
        ("sms_dist.plan", "from sms_dist.methods.sms import plan"),
        ("sms_dist.config", "from sms_dist.pruning.allocation import ALLOCATIONS"),
        ("sms_dist.__init__", "from sms_dist.experiment import run"),
        ("sms_dist.experiment", "import launcher.main"),
        ("sms_dist.experiment", "from launcher import cli"),
        ("sms_dist.experiment", "from sms_dist.surprise import x"),
        ("sms_dist.surprise", "import os"),
        ("data.cifar", "from sms_dist.tasks.accuracy import accuracy"),
        ("data.cifar", "from sms_dist.distributed import topology"),
    ],
)
def test_a_bad_import_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sms_dist.pruning.mask", "import torch, numpy as np"),
        ("sms_dist.pruning.mask", "from sms_dist.config import Config"),
        ("sms_dist.pruning.mask", "from . import scores\nfrom .scores import magnitude"),
        ("sms_dist.pruning.__init__", "from .mask import apply\nfrom . import mask"),
        ("sms_dist.config_file", "from sms_dist.config import Config"),
        ("sms_dist.records.store", "from sms_dist import __version__"),
        ("sms_dist.experiment", "from sms_dist.training import loop\nimport data.loaders"),
        ("launcher.main", "from sms_dist import experiment"),
        ("data.cifar", "from sms_dist.randomness import stream\nfrom data import shards"),
    ],
)
def test_a_good_import_passes(module: str, source: str) -> None:
    assert violations(source, module) == []
