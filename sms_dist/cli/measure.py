"""A short run of a configuration on this host, whose records are rates for forecasts.

Run as a script, this file is a rank of it: it also writes down the memory that it has needed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this code, wherever it starts

import click

from sms_dist import data
from sms_dist.base.lookup import search_beside
from sms_dist.base.plain import path, printable
from sms_dist.base.process import BAD_INPUT, DONE
from sms_dist.cli.commands.run import command
from sms_dist.cli.forecast import Estimate, Rates
from sms_dist.cli.plan import planned
from sms_dist.cli.rates import decisive, rates_of_run
from sms_dist.config import Config
from sms_dist.config.file import load
from sms_dist.mesh.division import groups_of
from sms_dist.run import journal

EPOCHS = (1, 3)  # of the candidates: the difference is training and nothing else
# On top of what is measured, a plain run that converges to nothing.
SHORT = (
    "method={name: sms}",
    "pretrain.from=null",
    "pretrain.epochs=1",
    "pretrain.schedule=constant",
    "pretrain.warmup_epochs=0",
    "pretrain.milestones=[]",
    "pretrain.keep_epoch=null",
    "pretrain.ranks=null",
    "pretrain.learning_rate=1e-4",
    "retrain.schedule=clr",
    "retrain.learning_rate=1e-4",
    "retrain.swa_from=null",
    "soup={ensemble: false}",
    "data.corruptions=null",
    "engine.packing=loop",
)


def short_settings(config: Config, num_ranks: int, steps: int) -> list[str]:
    """Return the settings of a run in which all groups train, for as many steps as an epoch has.

    Two thirds of the candidates train for one epoch, so that the first ones, which wait for
    libraries and compilers, do not count.
    """
    groups = groups_of(num_ranks, config.engine.ranks_per_candidate)
    epochs = [EPOCHS[0]] * 2 * groups + [EPOCHS[1]] * groups
    info = data.info(config.data)
    num_train, _ = data.split_sizes(info, config.data)
    wanted = steps * config.data.batch_size * info.num_train / num_train  # validation comes off
    return [
        *SHORT,
        f"candidates={{count: {len(epochs)}, vary: {{epochs: {epochs}}}, far: null}}",
        f"pruning.phases={min(2, config.pruning.phases)}",
        f"pruning.goal_sparsity={config.pruning.goal_sparsity or 0.5}",
        f"data.train_samples={min(info.num_train, round(wanted))}",
    ]


def measure(arguments: Sequence[str], config: Config, num_ranks: int, steps: int) -> Rates:
    """Return the rates of a configuration with so many ranks on this host.

    `arguments` name the configuration. The run lies below `records.root` while it lasts.
    """
    root = Path(config.records.root)
    root.mkdir(parents=True, exist_ok=True)
    short = short_settings(config, num_ranks, steps)
    words = [*arguments, *(word for setting in short for word in ("--set", setting))]
    with TemporaryDirectory(prefix=".measure_", dir=root) as name:
        folder = Path(name) / "run"
        begin = time.time()
        done = subprocess.run(
            command(num_ranks, [*words, "--run-dir", str(folder)], Path(__file__).resolve()),
            env={"OMP_NUM_THREADS": "1", **os.environ},
            stdout=subprocess.DEVNULL,
        )
        end = time.time()
        if done.returncode != 0:
            raise ValueError(f"measuring with {num_ranks} processes failed: see above")
        rates, _ = rates_of_run(folder, None)
        events = journal.read(folder / "journal.jsonl")
        peaks = [int(path.read_text()) for path in Path(name).glob("bytes_*")]
        measured = load(folder / "config.yaml")
        weights = Estimate(planned(measured, num_ranks), None).memory()
    first, last = events[0].seconds or begin, events[-1].seconds or end
    return rates.model_copy(
        update={
            "start_seconds": max(0.0, first - begin + end - last),
            "process_bytes": max(0, round(max(peaks) - weights)),
            "processes": num_ranks,
            "configuration": decisive(config),
        }
    )


@click.command()
@click.option("--config", "config_file", type=path)
@click.option("--set", "settings", multiple=True)
@click.option("--run-dir", type=path, required=True)
def main(config_file: Path | None, settings: tuple[str, ...], run_dir: Path) -> None:
    """Run as a rank of a run does, and write the most memory it had beside the run folder."""
    from sms_dist.start.session import Session

    if config_file is not None:
        search_beside(config_file)
    try:
        session = Session.open(load(config_file, settings), run_dir)
        mesh = session.context.mesh
        session.run()
    except ValueError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
        os._exit(BAD_INPUT)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if mesh.device.type == "cuda":
        from torch import cuda

        free, total = cuda.mem_get_info(mesh.device)
        context = max(0, total - free - cuda.memory_reserved(mesh.device))
        peak = cuda.max_memory_reserved(mesh.device) + context
    (run_dir.parent / f"bytes_{mesh.world.rank}").write_text(str(peak))
    os._exit(DONE)


if __name__ == "__main__":
    main()
