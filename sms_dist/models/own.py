"""A model of the user's own: `model.name: package.module:function`, from PYTHONPATH or here."""

from __future__ import annotations

import importlib
import os
import re
import sys
from types import ModuleType

from sms_dist.lookup import nearest
from sms_dist.models.family import ModelFamily


def own_family(name: str) -> ModelFamily:
    """The function's family: it takes any inputs, and its attribute `task` may name one task.

    ValueError where there is no such module or function.
    """
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        raise ValueError(f"model.name={name} is no package.module:function")
    module_name, _, function_name = name.partition(":")
    module = _imported(name, module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(
            f"model.name={name}: {module.__file__} has no function {function_name}"
            f"{nearest(function_name, vars(module))}"
        )
    return ModelFamily(function, input_shape=None, task=getattr(function, "task", None))


def _imported(name: str, module_name: str) -> ModuleType:
    # at the end, so that nothing there can take the place of an installed module
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"model.name={name}: there is no module {error.name} on PYTHONPATH or in the "
                f"current folder, {os.getcwd()}"
            ) from None
        raise ValueError(f"model.name={name}: the module cannot be imported: {error}") from error
    except (ImportError, SyntaxError) as error:
        raise ValueError(f"model.name={name}: the module cannot be imported: {error}") from error
