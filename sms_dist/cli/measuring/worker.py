"""What measuring runs on every rank of a host; the first one leaves the rates in a file."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this code, wherever it starts

import click
import torch

from sms_dist.base.files import json_text, write_text
from sms_dist.base.lookup import search_beside
from sms_dist.base.plain import printable
from sms_dist.base.process import BAD_INPUT, DONE
from sms_dist.cli.forecast.memory import training_bytes
from sms_dist.cli.forecast.rates import HostRates, Rates, decisive
from sms_dist.cli.forecast.work import work_of
from sms_dist.cli.measuring.around import around, short_run, with_few_samples
from sms_dist.cli.measuring.speeds import SMALL_SHARE, Speeds
from sms_dist.config import Config
from sms_dist.config.file import load
from sms_dist.mesh.collectives import gather_json
from sms_dist.mesh.topology import world_size
from sms_dist.start.session import Session
from sms_dist.training.context import Context

FOUND = "rates.json"


@click.command()
@click.option("--config", "config_file", type=Path)
@click.option("--set", "settings", multiple=True)
@click.option("--folder", type=Path, required=True, help="To work in.")
@click.option("--begun", type=float, required=True, help="When this was started, since 1970.")
@click.option("--seconds", type=float, required=True, help="Of each part.")
@click.option("--steps", type=int, required=True, help="Of an epoch, at most.")
def main(
    config_file: Path | None,
    settings: tuple[str, ...],
    folder: Path,
    begun: float,
    seconds: float,
    steps: int,
) -> None:
    try:
        if config_file is not None:
            search_beside(config_file)
        config = load(config_file, settings)
        session = Session.open(short_run(config, world_size()), folder / "run")
        config = config.model_copy(update={"engine": session.context.config.engine})
        opened = time.time()
        rates = _rates(session, config, Speeds(session.context, config, folder, seconds), steps)
        begun += time.time() - opened  # a run does not measure on its way to the first step
        session = with_few_samples(session)
        session.run()
    except ValueError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
        os._exit(BAD_INPUT)
    if session.context.mesh.world.is_first:
        ended = time.time()
        known = around(session, rates, begun, ended)
        write_text(folder / FOUND, json_text({"ended": ended, "rates": known.model_dump()}))
    sys.stdout.flush()
    os._exit(DONE)


def _rates(session: Session, config: Config, speeds: Speeds, steps: int) -> Rates:
    """All but what is around the steps. Every rank must call."""
    context, device = session.context, session.context.mesh.device
    part, whole = speeds.trained(SMALL_SHARE, steps), speeds.trained(1, steps)
    apart = whole.samples - part.samples
    sample = (whole.seconds - part.seconds) / apart if apart else 0.0
    # No step is faster than nothing: where the fit says so, samples are all there is to it.
    sample = min(max(sample, 0.0), whole.seconds / whole.samples)
    memory = max(0.0, (whole.peak_bytes - part.peak_bytes) / apart) if apart else 0.0
    found: dict[str, float] = {
        "step_seconds": whole.seconds - sample * whole.samples,
        "sample_seconds": sample,
        "evaluation_seconds": speeds.evaluated(),
        "batch_norm_seconds": speeds.batch_norm(),
        "sample_bytes": memory,
        "process_bytes": whole.peak_bytes - _model_bytes(session, config, memory),
    }
    host = HostRates(
        processes=context.mesh.world.size,
        start_seconds=0.0,
        dense_seconds=0.0,
        candidate_seconds=0.0,
        phase_seconds=0.0,
        **_slowest(context, found),
        **_link(speeds),
    )
    return Rates(
        configuration=decisive(config),
        batch_norm_values=speeds.batch_norm_values,
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        hosts=(host,),
    )


def _model_bytes(session: Session, config: Config, sample_bytes: float) -> float:
    """What the forecast says of a training of one candidate, besides the process."""
    work = work_of(config, session.context.info, session.plan)
    return training_bytes(work, sample_bytes, num_ranks=1, num_held=0)


def _slowest(context: Context, found: dict[str, float]) -> dict[str, Any]:
    """Of all ranks: who is done waits for the others. Every rank must call."""
    everyone = gather_json(found, context.mesh.world, context.mesh.device)
    slowest = {name: max(own[name] for own in everyone) for name in found}
    return slowest | {"process_bytes": max(0, round(slowest["process_bytes"]))}


def _link(speeds: Speeds) -> dict[str, Any]:
    link = speeds.link()
    if link is None:
        return {}
    return {"link_bytes_per_second": link.bytes_per_second, "link_seconds": link.seconds}


if __name__ == "__main__":
    main()
