"""Two candidates side by side on two groups, against the same two one after the other on one rank.

python benchmarks/groups.py

Retraining: the same processes do both, in turn, warm; one group trains both candidates while the
other sleeps in a barrier and its core is idle. The whole run: `launcher/main.py` from the start of
its processes to the last file, from given dense weights. A rank has one thread. Takes about a
minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import click
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.checkpoints import started
from benchmarks.rows import ROOT, Row, Target, report
from benchmarks.turns import ENVIRONMENT, in_turn, on_ranks
from sms_dist import models
from sms_dist.config import ModelConfig, RecordsConfig
from sms_dist.config.file import load
from sms_dist.mesh import topology
from sms_dist.mesh.collectives import gather_json, sum_
from sms_dist.run.checkpoint_files import RankCheckpoints
from sms_dist.run.logbook import GroupWatcher
from sms_dist.soups.states import bare_state
from sms_dist.training.checkpoints import Checkpointer, state_digest
from sms_dist.training.context import Context, State
from sms_dist.training.retrain import Start, retrain

NUM = 2  # candidates, groups, ranks
START = ROOT / "sms_dist" / "start"
PHASE = (  # on digits_distorted
    "data.batch_size=64",
    "pretrain.history=config",
    "retrain.schedule=clr",
    "pruning.phases=1",
    f"candidates.count={NUM}",
)
RECORDS = RecordsConfig(every_seconds=None)


def trained(context: Context, start: Start, index: int) -> State:
    """A candidate of the phase, on this group alone."""
    mesh, candidate = context.mesh, start.phase.candidates[index]
    with tempfile.TemporaryDirectory() as folder:
        points = RankCheckpoints(Path(folder), mesh.data.rank, {})
        checkpointer = Checkpointer(points, mesh.data, mesh.control, RECORDS, mesh.device)
        steps = context.loaders.train.num_steps
        watcher = GroupWatcher(None, None, candidate.retrain.epochs, steps)
        return retrain(context, start, candidate, watcher, checkpointer).state


def measured(epochs: int, turns: int) -> dict[str, object]:
    """Seconds of both ways, and whether the candidates are the same. Every rank must call."""
    context, start = started(load(None, [*PHASE, f"retrain.epochs={epochs}"]))
    mesh, word = context.mesh, torch.zeros(1, device=context.mesh.device)
    found: dict[str, list[str]] = {}
    meet = partial(sum_, word, mesh.world)

    def train_all(way: str, indices: list[int]) -> None:
        found[way] = [state_digest(trained(context, start, index)) for index in indices]
        meet()  # until the last of them is done

    both = list(range(NUM)) if mesh.world.is_first else []
    ways = {"groups": [mesh.group], "alone": both}
    calls = {way: partial(train_all, way, indices) for way, indices in ways.items()}
    seconds = in_turn(calls, turns, before=meet).seconds
    everyone = gather_json(found["groups"], mesh.world, mesh.device)
    topology.stop(mesh)
    is_same = found["alone"] == [digest for (digest,) in everyone]
    return {"seconds": seconds, "is_same": is_same} if mesh.world.is_first else {}


def whole_run(dense: Path, epochs: int, num_ranks: int) -> float:
    """Seconds of a run as a person starts it."""
    settings = [*PHASE, f"retrain.epochs={epochs}", f"pretrain.from={dense}"]
    words = [str(START / "__main__.py"), *(w for setting in settings for w in ("--set", setting))]
    torchrun = [str(START / "local_ranks.py"), "--standalone", f"--nproc-per-node={num_ranks}"]
    environment = os.environ | ENVIRONMENT
    with tempfile.TemporaryDirectory() as folder:
        words += ["--run-dir", str(Path(folder) / "run")]
        command = [sys.executable, *(torchrun if num_ranks > 1 else []), *words]
        start = time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start


def whole_runs(epochs: int, turns: int) -> list[dict[int, float]]:
    """Seconds by number of ranks, of each turn; all from the same dense weights."""
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense.safetensors"
        model = models.build(ModelConfig(), (1, 12, 12), 10, seed=0, data_name="digits_distorted")
        save_file(bare_state(model), dense)
        return [{n: whole_run(dense, epochs, n) for n in (NUM, 1)} for _ in range(turns)]


def rows(retraining: dict[str, object], epochs: int, whole: list[dict[int, float]]) -> list[Row]:
    seconds = retraining["seconds"]
    assert isinstance(seconds, dict)
    assert retraining["is_same"], "a candidate depends on who trains it"
    faster = [one / all_ for one, all_ in zip(seconds["alone"], seconds["groups"], strict=True)]
    note = "the candidates are the same bits"
    baseline = "one after the other on one rank"
    target = Target(at_least=1.8)
    found = [
        Row("groups", f"{NUM} candidates retrained", baseline, "x faster", faster, target, note)
    ]
    if whole:
        faster = [turn[1] / turn[NUM] for turn in whole]
        what = f"the whole run with {epochs} epochs a candidate, its start included"
        note = f"{whole[0][1]:.0f} s on one rank, {whole[0][NUM]:.0f} s on {NUM}"
        found += [Row("groups", what, baseline, "x faster", faster, note=note)]
    return found


@click.command()
@click.option("--epochs", default=6, show_default=True, help="Of a candidate, retraining alone.")
@click.option("--turns", default=3, show_default=True, help="Of retraining alone.")
@click.option("--run-epochs", default=12, show_default=True, help="Of a candidate, whole runs.")
@click.option("--run-turns", default=1, show_default=True, help="Of whole runs.")
@click.option("--worker", is_flag=True, hidden=True)
@click.option("--json", "file", type=Path, help="File to write.")
def main(
    epochs: int, turns: int, run_epochs: int, run_turns: int, worker: bool, file: Path | None
) -> None:
    if worker:
        found = measured(epochs, turns)
        if found:
            print(json.dumps(found))
        return
    options = ["--epochs", epochs, "--turns", turns]
    retraining = on_ranks(NUM, "groups.py", "--worker", *options)
    report(rows(retraining, run_epochs, whole_runs(run_epochs, run_turns)), file)


if __name__ == "__main__":
    main()
