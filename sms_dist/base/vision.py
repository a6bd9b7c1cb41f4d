"""The one place that imports torchvision, also beside a CPU-only torch."""

from __future__ import annotations

from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None  # the schemas vanish when this is collected


def torchvision() -> ModuleType:
    """Return the torchvision module; ImportError when it is not installed."""
    mend()
    try:
        import torchvision.datasets
        import torchvision.models
    except ModuleNotFoundError as error:
        message = f"this needs torchvision ({error}); pip install torchvision beside this torch"
        raise ImportError(message) from error
    module: ModuleType = torchvision
    return module


def mend() -> None:
    """Make torchvision importable, also for libraries that import it themselves.

    A CUDA build registers fake kernels for operators that its library cannot load beside a
    CPU-only torch; so they are declared.
    """
    global _library
    has_operator = hasattr(torch.ops.torchvision, "nms")
    if torch.version.cuda is not None or _library is not None or has_operator:
        return
    _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        _library.define(schema)  # type: ignore[no-untyped-call]
