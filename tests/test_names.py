"""The names of the library: typed, documented, and without a cost until they are used."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import sms_dist

FILE = Path(sms_dist.__file__)
NAMES = [name for name in sms_dist.__all__ if name != "__version__"]


def test_every_name_is_there_under_the_module_that_types_are_taken_from():
    (types,) = (n for n in ast.parse(FILE.read_text("utf-8")).body if isinstance(n, ast.If))
    modules = {alias.name: node.module for node in types.body for alias in node.names}
    assert sorted(modules) == sorted(NAMES)
    for name, module in modules.items():
        assert getattr(sms_dist, name) is getattr(sys.modules[module], name)
    assert set(sms_dist.__all__) <= set(dir(sms_dist))


def test_an_unknown_name_is_an_attribute_error_with_the_nearest():
    with pytest.raises(AttributeError, match="no attribute 'spasities', did you mean sparsities"):
        sms_dist.spasities  # noqa: B018
    assert not hasattr(sms_dist, "tensor")
    with pytest.raises(ImportError, match="cannot import name 'soop'"):
        from sms_dist import soop  # noqa: F401


@pytest.mark.parametrize("name", [name for name in NAMES if name != "State"])
def test_every_name_says_what_it_is_and_is_typed(name):
    value = getattr(sms_dist, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, parameter


def test_importing_the_package_imports_no_torch():
    code = "import sys, sms_dist; dir(sms_dist); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
