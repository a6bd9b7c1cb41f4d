"""torch.compile for the forward and backward pass of a model, such that runs can be repeated.

The code that is made for a step depends on the model, the shape of the step and the configuration,
never on what else the process has computed: a run that is resumed in a new process makes the same
code again, and comes to the same bits. Models of one class share their code, so that only the first
candidate of a process waits for it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from sms_dist.base.plain import printable
from sms_dist.engines import compile_mode

GRAPHS = ("reduce-overhead", "max-autotune")  # modes that replay CUDA graphs
MAX_SHAPES = 64  # of one model: a step, the next smaller one, and the parts they are cut into
MAX_COMPLAINT = 300  # characters of an error of the compiler


def compiled(model: nn.Module, mode: str, is_repeatable: bool) -> nn.Module:
    """Return the model, with the same tensors, as code that is made when it is first needed.

    `is_repeatable` forbids that kernels, and with them the order in which they add, are chosen by
    the clock.
    """
    import torch._dynamo.config as dynamo  # takes seconds, so only where a model is compiled
    from torch._inductor import list_mode_options

    # Beyond a number of shapes dynamo silently does without, depending on which came first.
    dynamo.recompile_limit = MAX_SHAPES
    dynamo.fail_on_recompile_limit_hit = True
    options = dict(list_mode_options(mode)) | {"deterministic": is_repeatable}
    # dynamic: else the second shape would be compiled for all that follow, the first one included.
    # (Not model.compile(): that passes over models whose forward is one of torch's own.)
    result = torch.compile(model, dynamic=False, options=options)
    assert isinstance(result, nn.Module)
    return result


@contextmanager
def explained(mode: str) -> Iterator[None]:
    """Turn an error of the compiler into a ValueError of one line."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    try:
        yield
    except (FailOnRecompileLimitHit, TorchDynamoException) as error:
        words = printable(" ".join(str(error).split()), MAX_COMPLAINT)
        raise ValueError(
            f"engine.compile={mode}: this model cannot be compiled ({words}); use eager"
        ) from error


def check_compiler(wanted: str, device: torch.device) -> None:
    """Raise ValueError if this host lacks what `engine.compile` needs to compile for the device."""
    if compile_mode(wanted, device.type) == "eager":
        return
    variable, *names = ("CC", "gcc", "clang") if device.type == "cuda" else ("CXX", "g++")
    programs = [os.environ[variable]] if variable in os.environ else names
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        lack = "triton, which is not installed here"
    elif not any(shutil.which(name) for name in programs):
        lack = f"a compiler ({' or '.join(programs)}), which is not found here"
    else:
        return
    raise ValueError(
        f"engine.compile={wanted}: it needs {lack}; install it, or use engine.compile=eager"
    )
