"""Whole runs in this process, stopped after so many steps if wanted."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import pytest
import torch

from sms_dist.config import Config
from sms_dist.experiment.experiment import run
from sms_dist.mesh.control import Control, Stopped
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import RunPaths
from sms_dist.training.context import set_up

ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")


@dataclass
class StopsAfter(Control):
    """Asks to stop after so many steps, and remembers where the run has been."""

    steps: int
    marks: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__(None, 0, 1)

    def moved(self, step=None):
        self.steps -= step is not None
        if self.steps == 0:
            self.request("test")

    def set_place(self, place):
        self.marks.append(place)


def started(settings, folder, steps=-1):
    """(weights by file, control) of one start; the weights are None where it was stopped."""
    control, config = StopsAfter(steps), Config(**settings)
    context = set_up(config, Topology(ALONE, ALONE, ALONE, None, CPU, control))
    folder.mkdir(exist_ok=True)
    log = Logbook(
        RunPaths(folder),
        is_main=True,
        group=0,
        is_leader=True,
        num_phases=config.pruning.phases,
        tensorboard=False,
        score="accuracy",
    )
    try:
        run(context, log)
    except Stopped:
        return None, control
    return weights(folder), control


def check_named_and_kept(start, file, content, complaint):
    """A decision of an earlier start that is damaged is told in a line, and not written over."""
    file.write_text(content)
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        start()
    assert file.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert file.read_text() == content


def weights(folder):
    """The hash of each file of tensors."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.safetensors")
    }
