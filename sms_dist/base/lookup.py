"""Look-up of names that people write: entries of our tables, or their own functions and classes."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from sms_dist.base import plain

T = TypeVar("T")
YOUR_OWN = "mend it, or name another; docs/your_own.md says what it takes and returns"
OWN_NAME = re.compile(r"\w+(\.\w+)*:\w+")  # package.module:name


def lookup(table: Mapping[str, T], key: str, field: str) -> T:
    """Return table[key]; ValueError that names the field and the valid keys for any other."""
    if key in table:
        return table[key]
    valid = ", ".join(sorted(table))
    raise ValueError(f"{field}={key} is not known{nearest(key, table)}; valid values: {valid}")


def lookup_open(
    table: Mapping[str, T], name: str, field: str, wrap: Callable[[Any], T] | None = None
) -> T:
    """Return table[name], or the function or class that `package.module:name` names.

    `wrap` makes an entry of the table of what is imported, where these are more than functions.
    Errors as `lookup` and `own` raise them.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"{field}={plain.shown(name)} is no name; valid values: {', '.join(table)}"
        )
    if name in table:
        return table[name]
    if ":" not in name:
        try:
            return lookup(table, name, field)
        except ValueError as error:
            raise ValueError(f"{error}, or package.module:function") from None
    function = own(name, field)
    return cast(T, guarded(function, name, field)) if wrap is None else wrap(function)


def own(name: str, field: str) -> Any:
    """Import the function or class `package.module:name`.

    It is searched for on PYTHONPATH, then in the current folder and beside the configuration file.
    ValueError that names the field where there is no such module or function.
    """
    if not OWN_NAME.fullmatch(name):
        raise ValueError(
            f"{field}={name} is no package.module:function; name a function like this, in a file "
            "beside the configuration or on PYTHONPATH"
        )
    module_name, _, function_name = name.partition(":")
    module = _imported(name, module_name, field)
    function = getattr(module, function_name, None)
    if not callable(function):
        others = [key for key, each in vars(module).items() if callable(each)]
        raise ValueError(
            f"{field}={name}: {module.__file__} has no function {function_name}"
            f"{nearest(function_name, others)}"
        )
    return function


def guarded(
    function: Callable[..., T], name: str, field: str, way_out: str = YOUR_OWN
) -> Callable[..., T]:
    """Return people's own function with what it raises as a ValueError, one line with the field."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> T:
        try:
            return function(*arguments, **options)
        except Exception as error:  # of code that is not ours: it may raise anything
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f" ({frame.filename}, line {frame.lineno})"
            text = " ".join(str(error).split())
            raise ValueError(
                f"{field}={name} raised {type(error).__name__}: {text}"
                f"{'' if frame.filename == __file__ else place}; {way_out}"
            ) from error

    return call


def check_arguments(function: Callable[..., Any], names: str, name: str, field: str) -> None:
    """Raise ValueError unless people's own function can be called with arguments: "a, b"."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some functions written in C nobody knows
        return
    try:
        signature.bind(*names.split(", "))
    except TypeError as error:
        problem = f"{field}={name} is called with ({names}): {error}"
        raise ValueError(f"{problem}; {YOUR_OWN}") from None


def is_own_name(value: object) -> bool:
    """Return whether a value of the configuration is a `package.module:name`."""
    return isinstance(value, str) and OWN_NAME.fullmatch(value) is not None


def own_files(values: object) -> dict[str, Path]:
    """Return the source files of people's own code that nested values name, by relative path.

    Those of the modules named, of all that has been imported from the same folder so far, and of
    what they may yet import from there. Call it when the names have been looked up. What is
    installed is left out.
    """
    files: dict[str, Path] = {}
    for name in sorted(set(_own_names(values))):
        top = name.partition(":")[0].partition(".")[0]
        module = sys.modules.get(top)
        places = [] if module is None else [*getattr(module, "__path__", ()), module.__file__]
        root = next((Path(place).resolve() for place in places if place), None)
        if root is None or _is_installed(root):
            continue
        loaded = [getattr(each, "__file__", None) for each in [*sys.modules.values()]]
        # torch's own `ops` and `classes` say a relative path, which names nothing
        sources = [Path(file).resolve() for file in loaded if file and os.path.isabs(file)]
        sources += root.rglob("*.py") if root.is_dir() else []
        while sources:
            source = sources.pop()
            if source.is_relative_to(root.parent) and not _is_installed(source):
                key = source.relative_to(root.parent).as_posix()
                if key not in files:
                    sources += _imported_files(source, root.parent)
                files[key] = source
    return dict(sorted(files.items()))


def _imported_files(source: Path, root: Path) -> Iterator[Path]:
    """Yield the files in a folder that a source file may import, wherever in it."""
    try:
        tree = ast.parse(source.read_bytes() if source.suffix == ".py" else "")
    except (SyntaxError, ValueError):  # whoever imports it says so
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        start, names = root, [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            start = source.parents[node.level - 1] if node.level else root
            names = [f"{node.module}.{name}" if node.module else name for name in names]
        for parts in (name.split(".") for name in names):
            for place in (start.joinpath(*parts[: i + 1]) for i in range(len(parts))):
                for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                    if file.is_file():
                        yield file


def _own_names(values: object) -> Iterator[str]:
    if is_own_name(values):
        yield str(values)
    elif isinstance(values, Mapping | list | tuple):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from _own_names(value)


def _is_installed(path: Path) -> bool:
    """Return whether a file is a library's, Python's or ours."""
    is_ours = path.is_relative_to(Path(__file__).resolve().parents[1])
    is_python = path.is_relative_to(Path(os.__file__).resolve().parent)
    return is_ours or is_python or bool({"site-packages", "dist-packages"} & {*path.parts})


def search_beside(config_file: Path) -> None:
    """Let `own` find modules that lie beside a configuration file."""
    _search(str(config_file.resolve().parent))


def _search(folder: str) -> None:
    # at the end, so that nothing there can take the place of an installed module
    if folder not in sys.path:
        sys.path.append(folder)


def _imported(name: str, module_name: str, field: str) -> ModuleType:
    from sms_dist.base.vision import mend  # imports torch

    _search(os.getcwd())
    mend()  # it may import torchvision, which not every torch can by itself
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{field}={name}: there is no module {error.name} on PYTHONPATH, beside the "
                f"configuration file or in the current folder, {os.getcwd()}"
            ) from None
        raise ValueError(f"{field}={name}: the module cannot be imported: {error}") from error
    except Exception as error:  # of code that is not ours: it may raise anything
        text = " ".join(str(error).split())
        raise ValueError(f"{field}={name}: the module cannot be imported: {text}") from error


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return ", did you mean X?" for the valid word closest to a misspelt one, else nothing."""
    match = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f", did you mean {match[0]}?" if match else ""
