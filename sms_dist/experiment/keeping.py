"""Who keeps the recovery points of which training."""

from __future__ import annotations

import hashlib
from typing import Any

from sms_dist.config.compare import fingerprint
from sms_dist.mesh.topology import Axis
from sms_dist.run.paths import RunPaths
from sms_dist.run.recovery import RecoveryPoints
from sms_dist.training.context import Context, State
from sms_dist.training.recovery import Keeper

DENSE = "dense"


def candidate_name(phase: int, index: int) -> str:
    """Of its folder of recovery points."""
    return f"phase_{phase}_candidate_{index}"


def keeper(context: Context, paths: RunPaths, training: str, axis: Axis, **facts: Any) -> Keeper:
    """On this rank, of a training by the ranks of the axis; `facts` have to be those of the point
    that it goes on from."""
    identity = {"configuration": fingerprint(context.config), **facts}
    points = RecoveryPoints(paths.recovery(training), axis.rank, identity)
    mesh = context.mesh
    return Keeper(points, axis, mesh.control, context.config.records, mesh.device)


def state_digest(state: State) -> str:
    """A hash of names and bits: from other weights, a training is another one."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
