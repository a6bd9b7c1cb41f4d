"""Prunes models that nobody here wrote: timm's, torchvision's, transformers', and odd ones.

    python tests/strangers.py                    all of them, a few minutes
    python tests/strangers.py swin odd_tied      some of them
    python tests/strangers.py --keep DIR swin    their folders stay: configuration, run, export

Each is pretrained, pruned to 80 % in one phase of sms with two candidates, exported, and loaded in
processes of their own: one that imports the project, and one that does not, which builds the model
by itself and reads `weights.safetensors`. Weights are random, samples made up.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = ROOT / "tests" / "trials" / "strangers_nets.py", ROOT / "tests" / "trials" / "odd_nets.py"
GOAL = 0.8
SETTINGS = {
    "pretrain": {"epochs": 1, "learning_rate": 0.01},
    "retrain": {"epochs": 1, "schedule": "llr"},
    "candidates": {"count": 2},
    "records": {"tensorboard": False},
}


@dataclass(frozen=True)
class Stranger:
    """A model, and the made-up data that it takes."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    data: str = "images32"
    settings: dict[str, Any] = field(default_factory=dict)  # what the refusals advise
    refused: str = ""  # a part of the line that refuses the model without these settings

    @property
    def model(self) -> dict[str, Any]:
        return {"name": self.name, "options": self.options}


SMALL_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}
STRANGERS = {
    "swin": Stranger(
        "timm:swin_tiny_patch4_window7_224",
        {"embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4},
    ),
    "beit": Stranger("timm:beit_base_patch16_224", {**SMALL_VIT, "patch_size": 8}),
    "eva02": Stranger("timm:eva02_tiny_patch14_224", {**SMALL_VIT, "patch_size": 8}),
    "levit": Stranger(
        "timm:levit_128s",
        {"embed_dim": [32, 48, 64], "key_dim": 8, "num_heads": [2, 3, 4], "depth": [1, 1, 1]},
        data="images64",
    ),
    "convnext": Stranger("timm:convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}),
    "dm_nfnet": Stranger(
        "timm:dm_nfnet_f0",
        {
            "depths": [1, 1, 1, 1],
            "channels": [32, 64, 64, 64],
            "num_features": 64,
            "group_size": 16,
            "stem_chs": 16,
        },
        refused="(ScaledStdConv2dSame) is used through a function of it",
    ),
    "regnet": Stranger("timm:regnetx_002"),
    "mobilenetv3": Stranger("timm:mobilenetv3_small_050"),
    "tv_mobilenet": Stranger("strangers_nets:torchvision", {"architecture": "mobilenet_v3_small"}),
    "tv_googlenet": Stranger(
        "strangers_nets:torchvision", {"architecture": "googlenet"}, data="images64"
    ),
    "tv_swin_v2": Stranger("strangers_nets:torchvision_swin_v2"),
    "bert": Stranger("strangers_nets:bert", data="tokens"),
    "gpt2": Stranger("strangers_nets:gpt2", data="tokens"),
}
ODD = tuple(re.findall(r"^def ([a-z]\w*)\(shape", PARTS[1].read_text(), re.MULTILINE))


def configuration(stranger: Stranger) -> dict[str, Any]:
    """Return the configuration of a trial."""
    return {
        "name": "trial",
        "data": {"name": f"strangers_nets:{stranger.data}", "batch_size": 8},
        "model": stranger.model,
        "pruning": {"goal_sparsity": GOAL, "phases": 1},
        **SETTINGS,
    }


class StepError(Exception):
    """A step that did not end as it should; the text is for people."""


@dataclass
class Trial:
    """The steps of one model, in a folder of its own."""

    folder: Path
    stranger: Stranger
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        for part in PARTS:
            (self.folder / part.name).write_bytes(part.read_bytes())
        # JSON is YAML
        (self.folder / "config.yaml").write_text(json.dumps(configuration(self.stranger)))

    def python(self, *words: str, status: int = 0, has_project: bool = True) -> str:
        """Run a program; return what it printed."""
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT) if has_project else "", "COLUMNS": "400"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        self.seconds += time.monotonic() - start
        if done.returncode != status:
            raise StepError(
                f"{' '.join(words[:3])}: status {done.returncode}\n{done.stdout[-4000:]}"
            )
        return done.stdout

    def all_steps(self) -> dict[str, Any]:
        """Return the facts of the table's row."""
        texts = [f"{key}={json.dumps(value)}" for key, value in self.stranger.settings.items()]
        settings = [word for each in texts for word in ("--set", each)]
        command = (str(ROOT / "launcher" / "main.py"), "--config", "config.yaml")
        if self.stranger.refused:
            line = self.python(*command, status=2)
            if self.stranger.refused not in line:
                raise StepError(f"refused in other words: {line}")
            advice = re.search(r"pruning\.keep_dense=\[.*\]", line)
            if advice is None and not settings:
                return {"refused": line.strip()}
            settings += ["--set", advice[0]] if advice else []
        facts: dict[str, Any] = {"run": self.python(*command, *settings, "--run-dir", "run")}
        names = json.dumps({"model": self.stranger.model, "data": self.stranger.data})
        for way in ("ours", "alone"):
            words = ("strangers_nets.py", way, names)
            facts |= json.loads(self.python(*words, has_project=way == "ours").splitlines()[-1])
        return facts


def row(name: str, trial: Trial) -> list[str]:
    facts = trial.all_steps()
    if "refused" in facts:
        return [name, facts["refused"]]
    (over_all,) = re.findall(r"sparsity over all parameters: (.*)", facts["run"])
    return [
        name,
        f"{facts['prunable']:.1%}",
        f"{facts['zeros']:.2%}",
        f"{facts['zeros_of_all']:.2%}",
        f"{facts['difference']:.0e}/{facts['shrunk']:.0e}",
        f"{trial.seconds:.0f}",
        over_all.strip(),
    ]


def chosen(names: Sequence[str]) -> Iterator[tuple[str, Stranger]]:
    every = {
        **STRANGERS,
        **{f"odd_{name}": Stranger(f"odd_nets:{name}", data="images8") for name in ODD},
    }
    yield from ((name, every[name]) for name in names or every)


def main() -> int:
    """Exit status 0 where every model went through."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep", type=Path, help="a folder for the trials, which stays")
    given = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = (given.keep or Path(temporary)).absolute()
        print(
            "model | prunable | zeros of these | of all matrices | export/shrunk | s | zeros of all"
        )
        for name, stranger in chosen(given.names):
            try:
                print(" | ".join(row(name, Trial(root / name, stranger))), flush=True)
            except StepError as error:
                failures += 1
                print(f"{name} FAILED {error}", flush=True)
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
