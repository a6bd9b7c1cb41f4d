"""A whole phase of Sparse Model Soups, m = 3, against three single jobs and a merge script.

python benchmarks/phase.py

Both prune the same dense weights, retrain three candidates with crops and flips, average them,
recompute batch norm and measure everything; ours by `launcher/main.py` on two ranks, theirs by
benchmarks/by_hand.py over files on disk: one job after another, each with both cores, or two jobs
at a time with one core each. All of it counts, from the start of the processes on. Takes about two
minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import ROOT, Row, Target, report
from benchmarks.turns import ENVIRONMENT
from sms_dist import data, models
from sms_dist.config import DataConfig, ModelConfig
from sms_dist.data.prepare.writer import labelled, write
from sms_dist.soups.states import bare_state

NUM = 3  # candidates
CORES = 2
START = ROOT / "sms_dist" / "start"
SETTINGS = (  # what by_hand.py does
    "data.name=cifar10",
    "data.batch_size=64",
    "data.validation=0",
    "model.name=resnet20",
    "pretrain.history=config",
    "pruning.goal_sparsity=0.9",
    "pruning.phases=1",
    "retrain.schedule=llr",
    f"candidates.count={NUM}",
    "soup.ensemble=false",
)


@dataclass(frozen=True)
class Job:
    """A phase to be done: files in a folder, and how much there is to train."""

    folder: Path
    width: int
    epochs: int

    @property
    def images(self) -> Path:
        return self.folder / "images.safetensors"

    @property
    def dense(self) -> Path:
        return self.folder / "dense.safetensors"

    @property
    def shards(self) -> Path:
        return self.folder / "shards"


@dataclass(frozen=True)
class Found:
    seconds: float
    parts: Mapping[str, float]  # what took how many seconds, of all processes together
    accuracy: float  # of the soup


def prepare(job: Job, num_train: int, num_test: int) -> None:
    """The same images for both, classes with a pattern each under noise; dense weights."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(10, 3, 32, 32, generator=generator)
    stored: dict[str, Tensor] = {}
    for split, num in (("train", num_train), ("test", num_test)):
        noise = torch.randn(num, 3, 32, 32, generator=generator)
        targets = torch.arange(num) % 10
        pixels = 128 + 16 * patterns[targets] + 48 * noise
        stored[f"{split}.images"] = pixels.clamp(0, 255).to(torch.uint8)
        stored[f"{split}.targets"] = targets
    save_file(stored, job.images)
    splits = {split: labelled(_samples(stored, split)) for split in ("train", "test")}
    classes = data.described(DataConfig(name="cifar10")).classes
    write(job.shards, "cifar10", classes, splits, 1000, lambda _: None)
    config = ModelConfig(name="resnet20", options={"width": job.width})
    model = models.build(config, (3, 32, 32), 10, seed=0, data_name="cifar10")
    save_file(bare_state(model), job.dense)


def _samples(stored: Mapping[str, Tensor], split: str) -> Iterator[tuple[str, Any, int]]:
    pairs = zip(stored[f"{split}.images"].numpy(), stored[f"{split}.targets"].tolist(), strict=True)
    return ((f"{split}{i:06d}", image, target) for i, (image, target) in enumerate(pairs))


def ours(job: Job, num_ranks: int) -> Found:
    run = job.folder / f"run_{num_ranks}_{time.monotonic_ns()}"
    options = {"data.path": job.shards, "pretrain.from": job.dense, "retrain.epochs": job.epochs}
    settings = [*SETTINGS, *(f"{key}={value}" for key, value in options.items())]
    settings.append(f"model.options={{width: {job.width}}}")
    words = [str(START / "__main__.py"), "--run-dir", str(run)]
    words += [word for setting in settings for word in ("--set", setting)]
    torchrun = [str(START / "local_ranks.py"), "--standalone", f"--nproc-per-node={num_ranks}"]
    began, start = time.time(), time.perf_counter()
    _output([*(torchrun if num_ranks > 1 else []), *words], threads=1)
    taken = time.perf_counter() - start
    summary = json.loads((run / "summary.json").read_text())
    return Found(taken, _parts(run, began, taken), summary["final"]["test_accuracy"])


def _parts(run: Path, began: float, taken: float) -> dict[str, float]:
    """Seconds between what the journal and the candidates' files tell of a run."""
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    at = {e["event"]: datetime.fromisoformat(e["time"]).timestamp() - began for e in events}
    files = [*run.glob("phase_1/candidate_*/manifest.json")]
    candidates = max(file.stat().st_mtime for file in files) - began
    return {
        "start, data": at["start"],
        "dense": at["dense"] - at["start"],
        "prune, train, evaluate": candidates - at["dense"],
        "merge, batch norm, evaluate": at["soup"] - candidates,
        "end": taken - at["soup"],
    }


def theirs(job: Job, num_at_a_time: int) -> Found:
    files = [str(job.folder / f"{i}.safetensors") for i in range(NUM)]
    threads, width = CORES // num_at_a_time, ["--width", str(job.width)]
    script, images = str(ROOT / "benchmarks" / "by_hand.py"), str(job.images)

    def train(seed: int) -> dict[str, Any]:
        options = ["--epochs", str(job.epochs), "--seed", str(seed), "--to", files[seed], *width]
        return _last([script, "train", images, str(job.dense), *options], threads)

    start = time.perf_counter()
    with ThreadPoolExecutor(num_at_a_time) as pool:
        done = list(pool.map(train, range(NUM)))
    soup = str(job.folder / "soup.safetensors")
    merged = _last([script, "merge", images, *files, "--to", soup, *width], CORES)
    taken = time.perf_counter() - start
    parts: dict[str, float] = {}
    for one in (*done, merged):
        for part, seconds in one["seconds"].items():
            parts[part] = parts.get(part, 0.0) + seconds
    return Found(taken, parts, merged["accuracy"])


def _last(words: list[str], threads: int) -> dict[str, Any]:
    """What a job printed, the seconds of its start and end among the others."""
    start = time.perf_counter()
    value: dict[str, Any] = json.loads(_output(words, threads).splitlines()[-1])
    parts = value["seconds"]
    value["seconds"] = {"start": time.perf_counter() - start - sum(parts.values()), **parts}
    return value


def _output(words: list[str], threads: int) -> str:
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, *words]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


WAYS = {
    "2 ranks": lambda job: ours(job, 2),
    "1 rank": lambda job: ours(job, 1),
    "jobs one after another": lambda job: theirs(job, 1),
    "jobs two at a time": lambda job: theirs(job, 2),
}
PAIRS = (
    ("2 ranks", "jobs one after another"),
    ("2 ranks", "jobs two at a time"),
    ("1 rank", "jobs one after another"),
)


def rows(turns: list[dict[str, Found]]) -> list[Row]:
    found = []
    for own, other in PAIRS:
        faster = [turn[other].seconds / turn[own].seconds for turn in turns]
        note = "; ".join(f"{way}: {_told(turns[0][way])}" for way in (own, other))
        found.append(Row("phase", own, other, "x faster", faster, Target(at_least=1.0), note))
    return found


def _told(found: Found) -> str:
    parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in found.parts.items())
    return f"{found.seconds:.1f} s ({parts}), soup {found.accuracy:.1%}"


@click.command()
@click.option("--train", "num_train", default=1024, show_default=True, help="Training images.")
@click.option("--test", "num_test", default=256, show_default=True, help="Test images.")
@click.option("--width", default=8, show_default=True, help="Of the ResNet-20.")
@click.option("--epochs", default=3, show_default=True, help="Of a candidate.")
@click.option("--turns", default=1, show_default=True)
@click.option("--json", "file", type=Path, help="File to write.")
def main(
    num_train: int, num_test: int, width: int, epochs: int, turns: int, file: Path | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), width, epochs)
        prepare(job, num_train, num_test)
        found = [{way: run(job) for way, run in WAYS.items()} for _ in range(turns)]
    report(rows(found), file)


if __name__ == "__main__":
    main()
