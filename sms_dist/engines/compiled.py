"""torch.compile for the forward and backward pass of a model, such that runs can be repeated.

The code that is made for a step depends on the model, the shape of the step and the configuration,
never on what else the process has seen: a run that goes on in a new process makes the same code
again, and comes to the same bits. Models of one class share their code, so that only the first
candidate of a process waits for it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sms_dist.base.plain import printable
from sms_dist.config import EngineConfig

GRAPHS = ("reduce-overhead", "max-autotune")  # modes that replay CUDA graphs
MOST_SHAPES = 64  # of one model; a step, the next smaller one, and the parts they are cut into
LONGEST = 300  # characters of a complaint of the compiler


def compiled(model: nn.Module, engine: EngineConfig, device: torch.device) -> nn.Module:
    """The model, with the same tensors, as code that is made when it is first needed."""
    import torch._dynamo.config as dynamo  # seconds, for those who compile
    from torch._inductor import list_mode_options

    # Beyond a number of shapes dynamo silently does without, depending on which came first.
    dynamo.recompile_limit = MOST_SHAPES
    dynamo.fail_on_recompile_limit_hit = True
    options = dict(list_mode_options(engine.compile))
    # Else kernels are chosen by the clock, and with them the order in which they add.
    options["deterministic"] = engine.deterministic or device.type == "cpu"
    # Else the second shape would be compiled for all that follow, the first one included.
    # (Not model.compile(): that passes over models whose forward is one of torch's own.)
    found = torch.compile(model, dynamic=False, options=options)
    assert isinstance(found, nn.Module)
    return found


def replays_graphs(engine: EngineConfig) -> bool:
    """Do gradients of a step lie in the memory of a CUDA graph, where the next one overwrites them?

    True on a CPU as well, where the modes do the same without graphs.
    """
    return engine.compile in GRAPHS


def hold_gradients_(parameters: Iterable[Tensor]) -> None:
    """Gradients get memory of their own, in which micro-batches can be added up."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)


@contextmanager
def explained(mode: str) -> Iterator[None]:
    """A ValueError, one line, for what cannot be compiled."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    try:
        yield
    except (FailOnRecompileLimitHit, TorchDynamoException) as error:
        words = printable(" ".join(str(error).split()), LONGEST)
        raise ValueError(
            f"engine.compile={mode}: this model cannot be compiled ({words}); use eager"
        ) from error


def compiler_obstacle(device: torch.device) -> str | None:
    """What this host lacks to compile for the device, if anything."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "it needs triton, which is not installed here"
    names = ("CC", "gcc", "clang") if device.type == "cuda" else ("CXX", "g++")
    variable, *known = names
    wanted = [os.environ[variable]] if variable in os.environ else known
    if any(shutil.which(name) for name in wanted):
        return None
    return f"it needs a compiler ({' or '.join(wanted)}), which is not found here"


def check_compiler(mode: str, device: torch.device) -> None:
    """ValueError where this host cannot compile for the device, and has to."""
    reason = None if mode in ("eager", "auto") else compiler_obstacle(device)
    if reason:
        raise ValueError(
            f"engine.compile={mode}: {reason}; install it, or use engine.compile=eager"
        )
