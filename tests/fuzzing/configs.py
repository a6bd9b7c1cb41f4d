"""Bad configurations: what `sms-dist plan` and `submit` make of them, without starting anything."""

from __future__ import annotations

import inspect
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import yaml
from fuzzing.mutation import TOKENS, VALUES, mutated_bytes, mutated_value
from rich.console import Console

from sms_dist.cli.plan import planned, show
from sms_dist.cli.slurm.cluster import ClusterConfig, load_cluster
from sms_dist.cli.slurm.script import Place, run_script
from sms_dist.config import ModelConfig
from sms_dist.config import file as config_file
from sms_dist.models import MODELS, build

NUMBERS = (
    *(1, 2, 3, 4, 5, 7, 8, 16, 33, 64, 1000, 10**5, 10**7, 10**9, 2**31, 10**15, 2**62, 0, -1),
    *(1e-300, 1e-9, 0.1, 0.5, 0.999999999999, 1e9, 1e300, -0.5),
    *([], [1], [1, 1], [0, 0], [8, 8], [10**4, 10**4], [10**9, 1], [-1, -1], [1] * 50, [10**9] * 4),
    *([2, 2, 5, 2], ["a", "b"], [[1]], [None, None], [0.5], {"a": 1}, {"a": [1, 2, 3]}, None, True),
)  # fmt: skip
REPOSITORY = Path(__file__).resolve().parents[2]


def prepare(scratch: Path) -> Callable[[Random], Callable[[], None]]:
    """A function from chance to something that reads one input."""
    folder = scratch / "configs"
    folder.mkdir()
    texts = _texts("configs/**/*.yaml")
    clusters = _texts("slurm/clusters/*.yaml")
    trees = tuple(yaml.safe_load(text) for text in texts)
    for path in sorted((REPOSITORY / "configs").glob("*.yaml")):
        planned(config_file.load(path))  # libraries are imported now: that takes seconds
    build(ModelConfig(name="t5"), (8,), 259, seed=0, data_name="x", task="translation")
    full = yaml.safe_load(config_file.dump(config_file.load()))

    def make(chance: Random) -> Callable[[], None]:
        path, settings = folder / "config.yaml", []
        kind = chance.randrange(10)
        if kind == 0:
            path.write_bytes(mutated_bytes(chance, chance.choice(clusters), clusters))
            return lambda: _cluster(path)
        if kind <= 4:
            path.write_bytes(mutated_bytes(chance, chance.choice(texts), texts))
        else:
            tree = chance.choice((full, *trees))
            path.write_text(_dumped(mutated_value(chance, tree, trees)), "utf-8", "surrogatepass")
        if kind >= 8:
            path.write_bytes(chance.choice(texts))
            settings = [_number(chance, full)]
        elif chance.random() < 0.3:
            settings = [_setting(chance, full) for _ in range(chance.choice((1, 2, 5)))]
        return lambda: _plan(path, settings, chance.choice((None, 1, 2, 4, 1000)))

    return make


def _plan(path: Path, settings: list[str], ranks: int | None) -> None:
    config = config_file.load(path, settings)
    again = path.with_name("again.yaml")
    again.write_text(config_file.dump(config))
    assert config_file.load(again) == config, "what is written is not what is read"
    found = planned(config, ranks)
    json.dumps(found.as_json())
    show(found, Console(file=io.StringIO(), width=100))
    run = (REPOSITORY / config.records.root / config.name).absolute()
    run_script(ClusterConfig(), _place(run), job_name=config.name, run_dir=run)


def _cluster(path: Path) -> None:
    run = Path("/runs/x")
    run_script(load_cluster(path), _place(run), job_name="x", run_dir=run)


def _place(run: Path) -> Place:
    return Place(code=run / "code", start_in=REPOSITORY, python=sys.executable)


def _setting(chance: Random, full: dict) -> str:
    section = chance.choice(list(full))
    keys = list(full[section]) if isinstance(full[section], dict) else []
    key = f"{section}.{chance.choice(keys)}" if keys else section
    value = chance.choice((*VALUES, *(token.decode(errors="replace") for token in TOKENS)))
    text = f"{key}={value if isinstance(value, str) else json.dumps(value)}"
    return (
        text
        if chance.random() < 0.8
        else mutated_bytes(chance, text.encode("utf-8", "surrogatepass")).decode("latin-1")
    )


def _number(chance: Random, full: dict) -> str:
    """A legal key, above all an option of a model, with a number that may be far from legal."""
    value = json.dumps(chance.choice(NUMBERS))
    if chance.random() < 0.5:
        name, family = chance.choice(list(MODELS.items()))
        parameters = inspect.signature(family.build).parameters.values()
        names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        other = f", {chance.choice(names)}: {value}" if chance.random() < 0.3 else ""
        return f"model={{name: {name}, options: {{{chance.choice(names)}: {value}{other}}}}}"
    section, keys = chance.choice([(k, v) for k, v in full.items() if isinstance(v, dict)])
    return f"{section}.{chance.choice(list(keys))}={value}"


def _dumped(tree: object) -> str:
    try:
        return yaml.dump(tree, Dumper=config_file.Dumper, allow_unicode=True)
    except RecursionError:
        return "[" * 3000


def _texts(pattern: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(REPOSITORY.glob(pattern)))
