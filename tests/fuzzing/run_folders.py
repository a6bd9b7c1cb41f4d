"""Bad documents in run folders, and bad weights: what reports, exports and a resume make of them.

Their checksums are right: whoever writes a bad file can write its sum as well.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import safetensors.torch
import torch
from fuzzing.mutation import mutated_bytes, mutated_value

from sms_dist.config import file as config_file
from sms_dist.mesh import topology
from sms_dist.models import weights
from sms_dist.reports.runs import read_runs
from sms_dist.reports.table import text
from sms_dist.reports.tables import make as make_table
from sms_dist.run import journal, progress, store
from sms_dist.run.paths import HISTORY, MANIFEST, METRICS, WEIGHTS, RunPaths, chosen, finished
from sms_dist.run.run_folder import environment, open_run
from sms_dist.stacks.choice import read_decision
from sms_dist.training.context import set_up
from sms_dist.training.dense import load_dense

MAIN = Path(__file__).resolve().parents[2] / "launcher" / "main.py"
SMALL = (
    *("data.name=digits", "data.batch_size=256", "model.options.width=2", "pretrain.epochs=2"),
    *("retrain.epochs=1", "pruning.phases=1", "candidates.count=2", "records.tensorboard=false"),
    *("pretrain.keep_epoch=1", "engine.device=cpu"),
)
Read = Callable[[], None]
START = environment()


def real_run(folder: Path) -> Path:
    """A small run, all of it."""
    words = [word for setting in SMALL for word in ("--set", setting)]
    command = [sys.executable, str(MAIN), "--run-dir", str(folder), *words]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


def prepare_documents(scratch: Path, run: Path) -> Callable[[Random], Read]:
    """Of the JSON and YAML files of a run folder."""
    paths = RunPaths(scratch / "documents")
    shutil.copytree(run, paths.root)
    paths.packing.write_text('{"num_groups": 1, "packing": "vmap"}')
    names = ("*.json", "*.jsonl", "*.yaml")
    files = sorted(path for name in names for path in paths.root.rglob(name))
    good = {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()}
    context = _context()

    def make(chance: Random) -> Read:
        for path in good:
            if path.suffix != ".safetensors":  # those are never changed
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(good[path])
        file = chance.choice(files)
        file.write_bytes(mutated_file(chance, file, good, files))
        _summed(file)
        kind = chance.randrange(3)
        if kind == 0:
            return lambda: _resumed(paths, context)
        return (lambda: _reported(paths)) if kind == 1 else (lambda: _loaded(paths, context, file))

    return make


def prepare_weights(scratch: Path, run: Path) -> Callable[[Random], Read]:
    """Of safetensors files, their headers above all, and of state dicts that torch saved."""
    folder = scratch / "weights"
    shutil.copytree(run / "phase_1" / "soup", folder)
    context = _context()
    files = sorted(run.rglob("*.safetensors"))
    good = tuple(file.read_bytes() for file in files)
    state = safetensors.torch.load(good[0])
    pickled = []
    for is_zip in (True, False):
        torch.save(state, folder / "w.pt", _use_new_zipfile_serialization=is_zip)
        pickled.append((folder / "w.pt").read_bytes())

    def make(chance: Random) -> Read:
        if chance.random() < 0.2:
            path = folder / "w.pt"
            path.write_bytes(mutated_bytes(chance, chance.choice(pickled), tuple(pickled)))
            return lambda: _fitted(path, context)
        path = folder / WEIGHTS
        path.write_bytes(_mutated_header(chance, chance.choice(good), good))
        _summed(path)
        return chance.choice(
            (lambda: _fitted(path, context), lambda: _stored(folder, path, context))
        )

    return make


def _context() -> Any:
    config = config_file.load(None, SMALL)
    return set_up(config, topology.by_itself(config.engine.device, config.engine.threads))


def mutated_file(chance: Random, file: Path, good: dict[Path, bytes], files: list[Path]) -> bytes:
    """What may lie in the place of a good file."""
    others = tuple(good[other] for other in files)
    content = good[file]
    if file.suffix != ".json" or chance.random() < 0.4:
        if file.suffix == ".jsonl" and chance.random() < 0.7:
            lines = content.splitlines()
            at = chance.randrange(len(lines))
            lines[at] = _json(mutated_value(chance, json.loads(lines[at])))
            return b"\n".join(lines)
        return mutated_bytes(chance, content, others)
    trees = tuple(json.loads(good[other]) for other in files if other.suffix == ".json")
    return _json(mutated_value(chance, json.loads(content), trees))


def _mutated_header(chance: Random, content: bytes, others: tuple[bytes, ...]) -> bytes:
    kind = chance.randrange(4)
    length = int.from_bytes(content[:8], "little")
    if kind == 0:
        return mutated_bytes(chance, content, others)
    header, rest = content[8 : 8 + length], content[8 + length :]
    if kind == 1:
        header = mutated_bytes(chance, header, tuple(other[8:2000] for other in others))
    else:
        header = _json(mutated_value(chance, json.loads(header)))
    sizes = (len(header), len(header), len(header), length, 2**63, len(header) + 1, 0, 10**8)
    return chance.choice(sizes).to_bytes(8, "little") + header + rest


def _json(tree: Any) -> bytes:
    try:
        return json.dumps(tree).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"[" * 100_000


def _summed(file: Path) -> None:
    """The manifest beside a file gets its checksum."""
    path = file.parent / MANIFEST
    if file == path or not path.is_file():
        return
    manifest = json.loads(path.read_bytes())
    content = file.read_bytes()
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(json.dumps(manifest | {file.name: facts}))


def _reported(paths: RunPaths) -> None:
    runs, _notes = read_runs([paths.root])
    for table in make_table("methods", runs)[0]:
        text(table, 100)


def _resumed(paths: RunPaths, context: Any) -> None:
    open_run(paths, context.config, START)
    for group in progress.read_all(paths.progress).values():
        assert group.fraction is None or group.fraction <= 1


def _loaded(paths: RunPaths, context: Any, file: Path) -> None:
    journal.read(paths.journal)
    read_decision(paths.packing)
    for group in progress.read_all(paths.progress).values():
        assert group.fraction is None or group.fraction <= 1
    with suppress(ValueError):
        chosen(paths, 10**6)
    for folder in finished(paths).values():
        store.load_document(folder, METRICS)
    if file.name == MANIFEST:
        names: list[str] = []
        with suppress(ValueError, RecursionError, TypeError):
            names = [name for name in json.loads(file.read_bytes()) if isinstance(name, str)]
        for name in names:
            store.load_document(file.parent, name)
    if file.name == HISTORY or file.parent == paths.dense:
        source = context.config.pretrain.model_copy(update={"from_": str(paths.root)})
        config = context.config.model_copy(update={"pretrain": source})
        load_dense(replace(context, config=config))


def _fitted(path: Path, context: Any) -> None:
    weights.read(str(path), context.new_model(), name="digits_cnn")


def _stored(folder: Path, path: Path, context: Any) -> None:
    store.load_tensors(folder, path.name)
    source = context.config.pretrain.model_copy(update={"from_": str(path)})
    load_dense(replace(context, config=context.config.model_copy(update={"pretrain": source})))
