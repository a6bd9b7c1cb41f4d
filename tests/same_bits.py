"""Run the same small experiments in two checkouts and compare every weight and mask file.

A change of structure must keep every bit of a result. Nothing is stored: both checkouts run side by
side on this machine, with the same interpreter and the same data, and the sha256 of their files
must agree. OLD and NEW may be one folder; then the comparison shows that the runs repeat.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLE = """example:
  git worktree add ../before main
  .venv/bin/python tests/same_bits.py ../before .
  .venv/bin/python tests/same_bits.py ../before . --only ddp,streaming --keep /tmp/same_bits

The exit status is 1 if a file differs or is missing, if a run fails, or if a case has no files."""
FILES = ("weights.safetensors", "mask.safetensors")
COMMON = {
    "data": {"name": "digits", "batch_size": 64, "train_samples": 720},
    "model": {"options": {"width": 8}},
    "pretrain": {"epochs": 2},
    "retrain": {"epochs": 1, "schedule": "allr"},
    "pruning": {"phases": 2},
    "candidates": {"count": 3},
    "engine": {"device": "cpu"},
    "records": {"tensorboard": False},
}
TIMEOUT = 300  # seconds of a run


@dataclass(frozen=True)
class Case:
    """One experiment: what it sets beside COMMON.

    `{data}` is the folder of generated data, `{run}` the run folder.
    """

    ranks: int
    settings: tuple[str, ...] = ()


SQUARE = ("engine.ranks_per_candidate=2", "pretrain.weight_decay=1e-3")
CASES = {
    "ddp": Case(2),  # 3 candidates on 2 groups
    "lamp_greedy": Case(2, ("pruning.allocation=lamp", "soup.rule=greedy")),
    "groups_of_2": Case(4, SQUARE),  # 2 groups
    "zero_1": Case(2, (*SQUARE, "engine.name=deepspeed", "engine.zero_stage=1")),
    "dpf": Case(2, ("method.name=dpf_sms", "pretrain.epochs=6")),  # ends with copies and a soup
    "packed": Case(1, ("engine.name=packed", "engine.packing=vmap")),
    "streaming": Case(
        2,
        (
            "data.name=card",
            "data.path={data}/tiles",
            "data.loader=streaming",
            "data.cache={run}.cache",  # or one checkout would read what the other has indexed
            "data.workers=1",
            "data.train_samples=null",
            "data.batch_size=16",
            "model.name=resnet20",
            "model.options.width=4",
        ),
    ),
    "translation": Case(
        2,
        (
            "data.name=parallel",
            "data.path={data}/text",
            "data.batch_size=16",
            "data.max_length=40",
            "data.train_samples=null",
            "model.name=t5",
            "model.options={d_model: 16, d_ff: 32, d_kv: 8, num_heads: 2, num_layers: 1}",
            "pretrain.optimizer=adamw",
            "pretrain.learning_rate=2e-3",
            "pretrain.clip_norm=1.0",
            "pruning.goal_sparsity=0.5",
            "soup.ensemble=false",
        ),
    ),
}


@dataclass
class Result:
    """How a run ended: `problem` is empty, or says why its files do not count."""

    seconds: float = 0.0
    problem: str = ""
    hashes: dict[str, str] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, help="checkout whose results are right")
    parser.add_argument("new", type=Path, help="checkout to compare with it")
    parser.add_argument("--only", metavar="A,B", help=f"these cases of {', '.join(CASES)}")
    parser.add_argument("--python", type=Path, default=sys.executable, help="for both checkouts")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at a time in each checkout"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder for data and runs")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"--only {','.join(unknown)}: valid values: {', '.join(CASES)}")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs} must be at least 1")
    work = options.keep or Path(tempfile.mkdtemp(prefix="same_bits_"))
    if options.keep:
        work.mkdir(parents=True)
    work, python = work.resolve(), options.python.absolute()  # the link of an environment stays
    checkouts = {"old": options.old.resolve(), "new": options.new.resolve()}
    for checkout in checkouts.values():
        check_import(checkout, python, work)
    make_data(work)
    num_bad = compare_all(names, checkouts, python, work, options.jobs)
    if num_bad:
        sys.exit(f"{num_bad} of {len(names)} cases are not equal; their runs are in {work}")
    if not options.keep:
        shutil.rmtree(work)


def compare_all(
    names: list[str], checkouts: dict[str, Path], python: Path, work: Path, jobs: int
) -> int:
    """Run the cases in both checkouts, print a line for each, return how many are not equal."""
    num_bad = 0
    with ThreadPoolExecutor(jobs) as old, ThreadPoolExecutor(jobs) as new:
        pools = {"old": old, "new": new}
        started = [
            [
                pools[side].submit(run, CASES[name], checkout, python, work, work / name / side)
                for side, checkout in checkouts.items()
            ]
            for name in names
        ]
        for name, futures in zip(names, started, strict=True):
            before, after = (future.result() for future in futures)
            problems = differences(before, after)
            num_bad += bool(problems)
            print(
                f"{name}: {len(before.hashes)} files, {'; '.join(problems) or 'equal'}"
                f" (old {before.seconds:.0f} s, new {after.seconds:.0f} s)",
                flush=True,
            )
    return num_bad


def differences(before: Result, after: Result) -> list[str]:
    """Return what is wrong with a case; nothing if both runs ended with the same files."""
    results = {"old": before, "new": after}
    if failed := [f"{side} {each.problem}" for side, each in results.items() if each.problem]:
        return failed
    old, new = before.hashes, after.hashes
    both = sorted(old.keys() & new.keys())
    problems = [f"{name} differs" for name in both if old[name] != new[name]]
    problems += [f"{name} only in old" for name in sorted(old.keys() - new.keys())]
    problems += [f"{name} only in new" for name in sorted(new.keys() - old.keys())]
    missing = [kind for kind in FILES if not any(name.endswith(kind) for name in both)]
    return problems + [f"no {kind} to compare" for kind in missing]


def run(case: Case, checkout: Path, python: Path, work: Path, folder: Path) -> Result:
    """Run a case in a checkout and return the hashes of its files."""
    command = [str(python), "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={case.ranks}", "launcher/main.py"]
    command += ["--config", str(work / "common.yaml"), "--run-dir", str(folder)]
    for setting in case.settings:
        command += ["--set", setting.replace("{data}", str(work)).replace("{run}", str(folder))]
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("w") as out:
        try:
            done = subprocess.run(
                command,
                cwd=checkout,
                env=environment(checkout),
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT,
            )
            problem = f"ended with status {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"did not end within {TIMEOUT} s"
    if problem:
        problem += f", its output ends with:\n{tail(log)}\n"
    hashes = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
        if path.name in FILES
    }
    return Result(time.monotonic() - start, problem, hashes)


def tail(log: Path, num_lines: int = 30) -> str:
    """Return the last lines that the ranks wrote, without torchrun's own long report on them."""
    text = log.read_text(errors="replace")
    lines = (text.partition("failed (exitcode")[0] or text).splitlines()[-num_lines:]
    return "\n".join(f"    {line}" for line in lines)


def environment(checkout: Path) -> dict[str, str]:
    """Return an environment whose imports come from the checkout, whatever is installed."""
    return os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}


def check_import(checkout: Path, python: Path, work: Path) -> None:
    """Exit unless the interpreter takes sms_dist from the checkout."""
    done = subprocess.run(
        [str(python), "-c", "import sms_dist; print(sms_dist.__file__)"],
        cwd=work,  # the current folder would come before PYTHONPATH
        env=environment(checkout),
        stdout=subprocess.PIPE,
        text=True,
    )
    imported = done.stdout.strip()
    if imported != str(checkout / "sms_dist" / "__init__.py"):
        sys.exit(f"{checkout}: {python} imports sms_dist from {imported or 'nowhere'} instead")
    print(f"{checkout}: {imported}", flush=True)


def make_data(work: Path) -> None:
    """Write the configuration, shards of images with a card, and parallel text, as on disk."""
    (work / "common.yaml").write_text(json.dumps(COMMON))  # JSON is YAML
    card = {"name": "tiles", "size": [32, 32], "classes": 4, "augment": "crop_flip"}
    card |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    tiles, text, rng = work / "tiles", work / "text", np.random.default_rng(0)
    tiles.mkdir()
    (tiles / "card.yaml").write_text(json.dumps(card))
    splits = {
        "train": [write_shard(tiles / f"tiles-train-{i:06d}.tar", 96, rng) for i in range(2)],
        "test": [write_shard(tiles / "tiles-test-000000.tar", 48, rng)],
    }
    index = {"name": "tiles", "classes": ["0", "1", "2", "3"], "splits": splits}
    (tiles / "index.json").write_text(json.dumps(index))
    text.mkdir()
    for split, count in (("train", 192), ("test", 16)):
        sentences = list(pairs(count, rng))
        for side, language in enumerate(("en", "de")):
            lines = "".join(f"{pair[side]}\n" for pair in sentences)
            (text / f"{split}.{language}").write_text(lines)


def write_shard(path: Path, count: int, rng: np.random.Generator) -> dict[str, object]:
    """Write noisy images of four colours as a tar shard; return its entry of index.json."""
    colours = np.eye(4, 3) * 160 + 48
    with tarfile.open(path, "w") as tar:
        for number, label in enumerate(rng.integers(0, 4, count)):
            pixels = colours[label] + rng.normal(0, 40, (36, 40, 3))
            buffer = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
            for ending, content in (("png", buffer.getvalue()), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "samples": count, "sha256": digest}


def pairs(count: int, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yield sentences of two to five words with their translation word by word."""
    words = [("a", "ein"), ("dog", "hund"), ("sees", "sieht"), ("red", "rot"), ("two", "zwei")]
    for _ in range(count):
        chosen = [words[i] for i in rng.integers(0, len(words), rng.integers(2, 6))]
        yield " ".join(en for en, _ in chosen), " ".join(de for _, de in chosen)


if __name__ == "__main__":
    main()
