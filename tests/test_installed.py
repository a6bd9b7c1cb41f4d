"""The package works wherever it is installed, beside packages of strangers with common names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
QUICK = (
    "pretrain.epochs=1", "retrain.epochs=1", "pruning.phases=1", "candidates.count=2",
    "data.name=digits", "records.tensorboard=false",
)  # fmt: skip
SET = tuple(word for setting in QUICK for word in ("--set", setting))


@dataclass(frozen=True)
class Place:
    """Where the verbs are tried: how they are called, in which folder."""

    python: str
    verb: tuple[str, ...]  # of the `sms-dist` command
    folder: Path
    environment: dict[str, str]
    code: Path  # the package that has to be used

    def call(self, *words: object, status: int = 0) -> str:
        return self.run([*self.verb, *map(str, words)], status)

    def run(self, command: list[str], status: int = 0) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == status, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def environment(**more: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return inherited | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"} | more


def empty_environment(folder: Path) -> Path:
    """A virtual environment without us: of other packages it sees those that are here already."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True, timeout=120)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # not its .pth files: not us
    return folder / "bin"


def pip(bin_: Path, *words: object) -> str:
    command = [str(bin_ / "python"), "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def clone(to: Path) -> Path:
    """The files that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "-co", "--exclude-standard"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, to / name)
    return to


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    if not (REPOSITORY / ".git").exists():
        pytest.skip("what belongs to a clone is known to git only")
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A folder with packages called `data` and `launcher`, which nobody may import."""
    folder = tmp_path_factory.mktemp("strangers")
    for name in ("data", "launcher"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('a stranger')")
    return folder


@pytest.fixture(scope="module")
def wheel(sources, strangers, tmp_path_factory):
    bin_ = empty_environment(tmp_path_factory.mktemp("environment") / "wheel")
    wheels = tmp_path_factory.mktemp("wheels")
    pip(bin_, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, sources)
    (built,) = wheels.glob("*.whl")
    pip(bin_, "install", "--ignore-installed", "--no-deps", "--no-index", built)
    (site,) = (bin_.parent / "lib").glob("python*/site-packages")
    return installed(bin_, strangers, site / "sms_dist")


@pytest.fixture(scope="module")
def editable(sources, strangers, tmp_path_factory):
    bin_ = empty_environment(tmp_path_factory.mktemp("environment") / "editable")
    pip(bin_, "install", "-I", "--no-deps", "--no-build-isolation", "-e", sources)
    return installed(bin_, strangers, sources / "sms_dist")


def installed(bin_: Path, strangers: Path, code: Path) -> Place:
    given = environment(PYTHONPATH=str(strangers), PATH=f"{bin_}:{os.environ['PATH']}")
    return Place(str(bin_ / "python"), (str(bin_ / "sms-dist"),), strangers, given, code)


@pytest.fixture(scope="module")
def bare(sources):
    """A clone in which nothing was installed."""
    python = sys.executable
    # A development environment has an editable install: the clone's own folder comes first.
    return Place(python, (python, "-m", "sms_dist"), sources, environment(), sources / "sms_dist")


@pytest.fixture(params=["wheel", "editable", "bare"])
def place(request):
    return request.getfixturevalue(request.param)


# Verbs, one after the other in one process: its import of torch is most of what each would take.
VERBS = """
import json, sys
from click.testing import CliRunner
import sms_dist
from sms_dist.cli.main import cli
said = []
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, (words, done.output, done.exception)
    said.append(done.output)
print(json.dumps([sms_dist.__file__, said]))
"""


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """What the wheel's own command makes."""
    run = tmp_path_factory.mktemp("run") / "run"
    wheel.call("run", *SET, "--run-dir", run)
    return run


def test_every_verb_works(place, run, tmp_path):
    assert "sms-dist, version" in place.call("--version")
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("RGB", (8, 8), (50 * number, 20, 90 if label == "cat" else 10))
            picture.save(tmp_path / "images" / label / f"{number}.png")
    job = ("--cluster", "example_cpu", "--run-dir", tmp_path / "job", "--dry-run")
    grid = (*SET, "--set", "seed=0,1", "--to", tmp_path / "s", "--dry-run")
    wanted = {
        ("plan",): "phase",
        ("plan", "--config", "cifar10_resnet18"): "ranks",  # a shipped one
        ("sweep", *grid): "seed=1",
        ("submit", *job): "$CODE/sms_dist/start/local_ranks.py",
        ("report", run): "SMS",
        ("export", run, "--to", tmp_path / "exported"): "",
        ("doctor",): "torch",
        ("data", "prepare", "card", "--from", tmp_path / "images", "--to", tmp_path / "d"): "",
        ("data", "check", tmp_path / "d", "--name", "card"): "ok ",
    }
    words = json.dumps([list(map(str, verb)) for verb in wanted])
    found, said = json.loads(place.run([place.python, "-c", VERBS, words]).splitlines()[-1])
    assert Path(found).parent == place.code
    assert [t for w, t in zip(wanted.values(), said, strict=True) if w not in t] == []
    assert (tmp_path / "exported" / "weights.safetensors").is_file()


def test_torchrun_starts_a_wheel_by_its_name(wheel, tmp_path):
    torchrun = [wheel.python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    wheel.run([*torchrun, "-m", "sms_dist.start", *SET, "--run-dir", str(tmp_path / "run")])
    assert (tmp_path / "run" / "phase_1" / "soup" / "weights.safetensors").is_file()


def test_a_wheel_has_one_package_and_one_command(wheel):
    listed = pip(Path(wheel.python).parent, "show", "-f", "sms_dist")
    files = [line.strip() for line in listed.partition("Files:")[2].splitlines() if line.strip()]
    assert {file.split("/")[0] for file in files if not file.startswith("..")} == {
        "sms_dist",
        "sms_dist-0.1.0.dist-info",
    }
    assert [file for file in files if file.startswith("..")] == ["../../../bin/sms-dist"]
    shipped = {file for file in files if file.startswith("sms_dist/share/")}
    cards = {f"sms_dist/share/data/{path.name}" for path in (REPOSITORY / "data").glob("*.yaml")}
    assert cards
    assert cards < shipped
    assert "sms_dist/share/slurm/template.sbatch" in shipped
    assert not [file for file in files if "test" in file or file.endswith(".md")]
