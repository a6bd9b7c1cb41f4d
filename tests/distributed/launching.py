"""Starts real processes, never waits for them for ever, and reads what they leave behind."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "launcher" / "main.py"
PROGRAMS = Path(__file__).resolve().parent / "programs"
TINY = (
    "data.name=digits",
    "data.batch_size=64",
    "model.options.width=8",
    "pretrain.epochs=2",
    "retrain.epochs=1",
    "retrain.schedule=allr",
    "pruning.phases=2",
    "records.tensorboard=false",
)
MARK = "SMS_DIST_TEST_LAUNCH"  # in the environment of every process of a launch


@dataclass(frozen=True)
class Finished:
    """A launch that has ended."""

    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err[-6000:]}"


class Launch:
    """Processes at work; `end` waits for them."""

    def __init__(self, process: subprocess.Popen, mark: str, logs: tuple[Path, Path]) -> None:
        self.process, self._mark, self._logs = process, mark, logs

    def worker(self, rank: int) -> int:
        """The process of a rank."""
        (pid,) = [p for p in marked(self._mark) if f"RANK={rank}".encode() in _env(p).split(b"\0")]
        return pid

    def end(self, timeout: float) -> Finished:
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        self.kill()
        out, err = (log.read_text(errors="replace") for log in self._logs)
        assert status is not None, f"hangs after {timeout} s\n{Finished(-9, out, err)}"
        return Finished(status, out, err)

    def kill(self) -> None:
        """Also those that lost their parent, and those in a session of their own."""
        for pid in marked(self._mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def environment_of(mark):
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",  # the same numbers on every machine
        "COLUMNS": "100",
        MARK: mark,
    }


@contextmanager
def launched(program, arguments, folder, ranks=None, options=()):
    """A program at work: under torchrun on so many ranks, or (None) as a plain process."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    environment = environment_of(mark)
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", *options]
    command = [sys.executable, *(run if ranks else []), str(program), *map(str, arguments)]
    logs = folder / f"{mark}.out", folder / f"{mark}.err"  # pipes would outlive a killed parent
    with logs[0].open("wb") as out, logs[1].open("wb") as err:
        process = subprocess.Popen(
            command, stdout=out, stderr=err, env=environment, cwd=folder, start_new_session=True
        )
    launch = Launch(process, mark, logs)
    try:
        yield launch
    finally:
        launch.kill()


def launch(program, arguments, folder, ranks=None, options=(), timeout=90):
    """Start a program and wait for its end; a hang fails."""
    with launched(program, arguments, folder, ranks, options) as running:
        return running.end(timeout)


class Warm:
    """A process that has imported everything and forks; it lives until this one ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._mark = uuid.uuid4().hex
        atexit.register(self.kill)

    def run(self, words, folder, ranks=None, timeout=90, root=None, trouble=None, before=""):
        """(how the program ended, where its logs are); the last three are of `forking.Runs`."""
        folder.mkdir(parents=True, exist_ok=True)
        logs = folder / uuid.uuid4().hex
        job = {
            "words": [str(word) for word in words],
            "ranks": ranks,
            "folder": str(folder),
            "logs": str(logs),
            "environment": environment_of(self._mark),
            "root": root,
            "trouble": trouble,
            "before": before,
        }
        process = self._started()
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            answer = process.stdout.readline() if selector.select(timeout) else ""
        self._kill_all_but(process.pid if answer else None)
        out, err = (
            path.read_text(errors="replace") if path.exists() else ""
            for path in (Path(f"{logs}.out"), Path(f"{logs}.err"))
        )
        assert answer, f"ended or hangs, after {timeout} s\n{Finished(-9, out, err)}"
        return Finished(int(answer), out, err), logs

    def kill(self) -> None:
        self._kill_all_but(None)

    def _started(self) -> subprocess.Popen:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAMS / "warm.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment_of(self._mark),
                start_new_session=True,
            )
        return self._process

    def _kill_all_but(self, survivor: int | None) -> None:
        """A program may leave others behind."""
        if self._process is None:
            return
        for pid in marked(self._mark):
            if pid != survivor:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if survivor is None:
            self._process.wait()
            self._process = None


WARM = Warm()


def launch_forked(program, arguments, folder, ranks=None, timeout=90):
    """The same without torchrun, in forks of a process whose imports are paid for once."""
    finished, _ = WARM.run([program, *arguments], folder, ranks, timeout)
    return finished


def marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    return [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if wanted in _env(pid)
    ]


def _env(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it ended, or is another user's
        return b""


def main_arguments(run_dir, *settings):
    """The words after launcher/main.py: tiny settings, and these on top of them."""
    words = [word for setting in (*TINY, *settings) for word in ("--set", setting)]
    return [*words, "--run-dir", run_dir]


def start(run_dir, *settings, ranks=None, timeout=90):
    """A run through launcher/main.py, with the tiny settings and these on top of them."""
    arguments = main_arguments(run_dir, *settings)
    return launch_forked(MAIN, arguments, run_dir.parent / "logs", ranks, timeout)


def torchrun(run_dir, *settings, ranks, options=(), timeout=90):
    """The same under torchrun."""
    arguments = main_arguments(run_dir, *settings)
    return launch(MAIN, arguments, run_dir.parent / "logs", ranks, options, timeout)


def start_several(runs, folder, ranks=None, timeout=150):
    """Run folder -> settings, one after the other in the same processes."""
    listed = [
        {"folder": str(path), "settings": [*TINY, *more], "port": port}
        for (path, more), port in zip(runs.items(), free_ports(len(runs)), strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    task = folder / f"runs_{uuid.uuid4().hex}.json"
    task.write_text(json.dumps(listed))
    finished = launch_forked(PROGRAMS / "several_runs.py", [task], folder, ranks or 1, timeout)
    assert finished.status == 0, finished
    return finished


def free_ports(number):
    """Of those that no outgoing connection gets by chance; each worker of pytest has its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 15000 + 4000 * (worker % 4)
    found = []
    for port in random.sample(range(first, first + 4000), 4000):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == number:
            return found
    raise AssertionError("no free ports")


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def weights(folder):
    return safetensors.torch.load_file(folder / "weights.safetensors")


def mask(folder):
    return safetensors.torch.load_file(folder / "mask.safetensors")


def read_json(path):
    return json.loads(path.read_text())


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def all_weights(run_dir):
    """Name below the run folder -> sha256 of every file of candidates and soups."""
    files = sorted(run_dir.glob("phase_*/*/weights.safetensors"))
    return {str(path.relative_to(run_dir)): sha256(path) for path in files}


def last_soup(run_dir):
    return sha256(run_dir / "phase_2" / "soup" / "weights.safetensors")
