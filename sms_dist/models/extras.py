"""Libraries that only some models need."""

from __future__ import annotations

import importlib
from types import ModuleType

from sms_dist.base import vision


def library(module: str, extra: str, model: str) -> ModuleType:
    """An optional library; ValueError that says how to install it."""
    vision.mend()  # they import torchvision by themselves where they find it
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(
            f"model.name={model} needs {module}, which is not installed; pip install"
            f" 'sms_dist[{extra}]'"
        ) from None
