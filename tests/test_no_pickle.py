"""No file unpickles, evaluates text or starts a shell: weights and shards come from strangers.

Not seen here, and harmless: worker processes of data loaders hand their batches over pickled, which
this program has made itself. A model of the user's own (`model.name: package.module:function`) is
imported because that is what the name asks for.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for root in ("sms_dist", "launcher", "benchmarks", "docs")
    for path in (REPOSITORY / root).rglob("*.py")
)
MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"),
    *("xmlrpc", "jsonpickle", "hickle"),
    *("xml", "lxml"),  # entities that refer to files, or blow up
}
NAMES = {
    *("eval", "exec", "builtins.eval", "builtins.exec"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("torch.load", "torch.save", "torch.serialization.load", "torch.serialization.save"),
    *("subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "pty.spawn"),
    *(f"os.{name}" for name in ("execl", "execle", "execlp", "execlpe", "execvp", "execvpe")),
    *(f"os.{name}" for name in ("spawnl", "spawnle", "spawnlp", "spawnlpe", "spawnvp", "spawnvpe")),
    *("__import__", "builtins.__import__", "compile", "builtins.compile", "importlib.reload"),
    *("numpy.lib.format.read_array", "numpy.fromstring", "numpy.fromregex", "numpy.f2py"),
    *("torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "torch.package"),
    *("torch.export.load", "torch.compiler.load_cache_artifacts", "torch.ops.load_library"),
    *("torch.utils.model_zoo.load_url", "torch.distributed.checkpoint.load"),
    *("tempfile.mktemp", "os.tempnam", "os.tmpnam"),
    *("shutil.unpack_archive", "zipfile.ZipFile.extractall", "zipfile.ZipFile.extract"),
    *(f"yaml.{name}" for name in ("unsafe_load", "unsafe_load_all", "full_load", "full_load_all")),
    *(f"yaml.{name}" for name in ("Loader", "UnsafeLoader", "FullLoader", "CLoader")),
    *(f"yaml.{name}" for name in ("BaseLoader", "CUnsafeLoader", "CFullLoader")),
}
IMPORTING = {"importlib.import_module", "runpy.run_path", "runpy.run_module"}
# The one place where a stranger's file of torch's is read. With weights_only=True, torch.load makes
# tensors and plain containers, and refuses a file that names anything else to call; the error is
# what it raises then.
ALLOWED = {
    "sms_dist/base/weights_file.py": {"torch.load", "pickle.UnpicklingError"},
    "sms_dist/base/lookup.py": {"importlib.import_module"},  # the user's own code, by name
    "sms_dist/models/hugging_face.py": {"importlib.import_module"},  # names that stand in the code
    "sms_dist/cli/commands/doctor.py": {"importlib.import_module"},
}
# These collectives pickle what they send.
COLLECTIVES = ("_object_list", "all_gather_object", "gather_object")
SHELLS = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


def aliases(tree: ast.AST) -> dict[str, str]:
    """Full name behind each imported name: `import numpy as np` gives {"np": "numpy"}."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def full_name(node: ast.AST, known: dict[str, str]) -> str:
    """`t.load` after `import torch as t` -> "torch.load"; "" for what is no dotted name."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        base = full_name(node.value, known)
        return f"{base}.{node.attr}" if base else f"?.{node.attr}"
    return ""


def is_bad_name(name: str) -> bool:
    is_module = name.split(".")[0] in MODULES
    return name in NAMES | IMPORTING or is_module or name.endswith(COLLECTIVES)


def bad_call(node: ast.Call, known: dict[str, str]) -> str | None:
    """The argument that makes a call dangerous."""
    name = full_name(node.func, known)
    keywords = {word.arg: word.value for word in node.keywords}
    for option in ("shell", "allow_pickle"):
        value = keywords.get(option)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
            return f"{option}=True"
    if name in ("yaml.load", "yaml.load_all"):
        loader = keywords.get("Loader") or (node.args[1] if len(node.args) > 1 else None)
        if loader is None or full_name(loader, known) not in SAFE_LOADERS:
            return "yaml.load without SafeLoader"
    if name == "torch.load" and not is_true(keywords.get("weights_only")):
        return "torch.load without weights_only=True"
    if name == "numpy.load" and len(node.args) > 2:
        return "allow_pickle=True"  # the third positional one
    if name.endswith((".extractall", ".extract")) and keywords.get("filter") is None:
        return "a tar file is unpacked without filter='data'"
    if name == "PIL.Image.open" and "formats" not in keywords:
        return "Image.open of any format (PostScript is a program)"
    if name in SHELLS and is_shell(node):
        return "a shell is started"
    return None


def is_shell(node: ast.Call) -> bool:
    """Does the command begin with a shell and -c, or is it one text for a shell to part?"""
    command = node.args[0] if node.args else None
    if isinstance(command, ast.Constant | ast.JoinedStr):
        return True
    words = command.elts if isinstance(command, ast.List | ast.Tuple) else []
    texts = [word.value for word in words if isinstance(word, ast.Constant)]
    return "-c" in texts and any(str(text).rpartition("/")[2] in ("sh", "bash") for text in texts)


def is_true(value: ast.AST | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def imported(node: ast.AST) -> list[str]:
    """Names that an import statement brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def dangers(source: str, allowed: Collection[str] = ()) -> Iterator[str]:
    """Line and name of everything a file must not use.

    What is allowed may be called only: never handed on, where its arguments are out of sight.
    """
    tree = ast.parse(source)
    known = aliases(tree)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        names = imported(node)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            continue  # a key of a section that happens to be called `compile`
        if isinstance(node, ast.Name | ast.Attribute):
            names = [full_name(node, known)]
            if names == ["torch.load"] and names[0] in allowed and id(node) not in called:
                yield f"line {node.lineno}: torch.load is handed on"
        elif isinstance(node, ast.Call):
            names = []
            if problem := bad_call(node, known):
                yield f"line {node.lineno}: {problem}"
        line = getattr(node, "lineno", 0)
        yield from (
            f"line {line}: {name}" for name in names if name not in allowed and is_bad_name(name)
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_file_is_free_of_pickle_eval_and_shell(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(REPOSITORY).as_posix(), ())
    assert list(dangers(path.read_text(encoding="utf-8"), allowed)) == []


def test_there_are_files_to_look_at() -> None:
    assert REPOSITORY / "sms_dist" / "config" / "experiment.py" in FILES


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, marshal as m",
        "from pickle import loads as read",
        "def f():\n    from shelve import open",
        "import dill",
        "import torch\ntorch.load(path, weights_only=True)",
        "import torch as t\nt.save(x, path)",
        "from torch import load",
        "import torch\nread = torch.load",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
        "import numpy\nnumpy.load(path, None, True)",
        "import torch.distributed as dist\ndist.broadcast_object_list(x)",
        "from torch.distributed import scatter_object_list",
        "dist.all_gather_object(x, y)",
        "make().gather_object(x)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.FullLoader)",
        "import yaml\nyaml.load(text, yaml.UnsafeLoader)",
        "from yaml import unsafe_load",
        "eval(text)",
        "exec(text)",
        "import os\nos.system(text)",
        "from os import system as run\nrun(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "import subprocess\nsubprocess.run('ls | sort')",
        "import subprocess\nsubprocess.run(f'ls {name}')",
        "import subprocess\nsubprocess.Popen(['/bin/bash', '-c', text])",
        "import os\nos.execlp('sh', 'sh', '-c', text)",
        "import tempfile\ntempfile.mktemp()",
        "import tarfile\ntarfile.open(x).extractall(y)",
        "tar.extract(member, y)",
        "from shutil import unpack_archive",
        "import xml.etree.ElementTree as tree",
        "from torch import hub\nhub.load(x, y)",
        "import torch\ntorch.jit.load(path)",
        "import importlib\nimportlib.import_module(name)",
        "__import__(name)",
        "import yaml\nyaml.load(text, yaml.BaseLoader)",
        "from PIL import Image\nImage.open(path)",
    ],
)
def test_a_dangerous_source_is_found(source: str) -> None:
    assert list(dangers(source))


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "from safetensors.torch import load_file, save_file",
        "import numpy as np\nnp.load(path, allow_pickle=False)\nnp.load(path)",
        "import yaml\nyaml.safe_load(text)\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "store.load(path)",
        "tar.extractall(path, filter='data')",
        "tar.extractfile(member)",
        "import re\nre.compile(text)",
        "import subprocess\nsubprocess.run([sys.executable, '-c', 'print()'])",
        "from PIL import Image\nImage.open(path, formats=('PNG',))",
        '"""Never torch.load or pickle."""',
    ],
)
def test_a_harmless_source_passes(source: str) -> None:
    assert not list(dangers(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=flag)",
        "import torch\nread = torch.load\nread(path)",
        "import pickle\npickle.loads(text)",
    ],
)
def test_where_torch_load_is_allowed_it_must_say_weights_only(source: str) -> None:
    assert list(dangers(source, {"torch.load"}))
    assert not list(dangers("import torch\ntorch.load(path, weights_only=True)", {"torch.load"}))
