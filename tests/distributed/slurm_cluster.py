"""A real Slurm of virtual nodes on this machine: its own munge, its own ports, its own folder."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from launching import free_ports, wait_for

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "munged")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
# Requeued jobs wait for as long as credentials last: with the default each takes two minutes more.
CONF = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool/%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
OverTimeLimit=0
KillWait=5
MinJobAge=600
FirstJobId={first_job}
JobRequeue=1
TmpFS={folder}
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF
"""


class Unavailable(Exception):  # noqa: N818  (a reason, not an error)
    """There can be no Slurm here, and why."""


@dataclass(frozen=True)
class Job:
    """What Slurm says of a job."""

    state: str
    restarts: int
    exit_code: str
    reason: str
    nodes: str


class Slurm:
    """A cluster that is up."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names
        self._daemons: list[subprocess.Popen] = []

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *words: str | Path) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def job(self, number: str) -> Job:
        shown = self.call("scontrol", "show", "--oneliner", "job", number)
        found = dict(word.partition("=")[::2] for word in shown.split())
        return Job(
            found["JobState"],
            int(found["Restarts"]),
            found["ExitCode"],
            found["Reason"],
            found.get("NodeList", ""),
        )

    def wait(self, number: str, *states: str, seconds: float = 120) -> Job:
        """Until the job is in one of the states."""
        wait_for(lambda: self.job(number).state in states, seconds)
        return self.job(number)

    def is_idle(self) -> bool:
        """Are all nodes there, and wait for jobs?"""
        try:
            idle = self.call("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D")
        except AssertionError:
            return False  # the controller does not answer yet
        return idle.strip() == str(len(self.names))

    def nodes_of(self, number: str) -> list[str]:
        """The names of a job's nodes."""
        return self.call("scontrol", "show", "hostnames", self.job(number).nodes).split()

    def start(self, *words: str) -> subprocess.Popen:
        """One of its daemons, in the foreground."""
        with (self.folder / "daemons.log").open("ab") as log:
            daemon = subprocess.Popen(words, env=self.environment, stdout=log, stderr=log)
        self._daemons.append(daemon)
        return daemon

    def start_node(self, name: str) -> None:
        (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        self.start("slurmd", "-D", "-N", name)

    def end(self) -> None:
        """Also what its jobs have left."""
        mark = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        wait_for(lambda: not _killed(mark), 30)
        for daemon in self._daemons:
            daemon.wait(30)

    def kill_node(self, name: str) -> None:
        """Its daemon and all that runs there, without a word to anybody; then it counts as down."""
        spool = str(self.folder / "spool" / name).encode()
        node = f"SLURMD_NODENAME={name}".encode()
        conf = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        for pid in _pids():
            words = _read(pid, "cmdline").split(b"\0")
            environment = _read(pid, "environ").split(b"\0")
            is_daemon = words[0].endswith(b"slurmd") and name.encode() in words
            is_step = words[0].startswith(b"slurmstepd") and _has_spool(pid, spool)
            if conf in environment and (is_daemon or is_step or node in environment):
                _kill(pid)
        self.call("scontrol", "update", f"nodename={name}", "state=down", "reason=killed")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _has_spool(pid: int, spool: bytes) -> bool:
    return spool in _read(pid, "cmdline") or spool in _read(pid, "environ")


def _read(pid: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:  # it ended, or is another user's
        return b""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def slurm(folder: Path, num_nodes: int = 4):
    """A cluster in `folder`; Unavailable says why there is none."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        raise Unavailable(f"not installed: {', '.join(missing)}")
    if len(str(folder)) > 80:
        raise Unavailable(f"sockets have short names, and {folder} is long")
    names = [f"node{i}" for i in range(1, num_nodes + 1)]
    _configure(folder, names)
    cluster = Slurm(folder, names)
    with ExitStack() as stack:
        stack.callback(cluster.end)
        try:
            _start(cluster)
        except AssertionError as error:
            logs = (path.read_text()[-500:] for path in folder.glob("*.log"))
            raise Unavailable(f"Slurm does not start: {error} {' '.join(logs)}") from None
        yield cluster


def _configure(folder: Path, names: list[str]) -> None:
    (folder / "state").mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    port, *ports = free_ports(1 + len(names))
    nodes = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={own} CPUs=4 RealMemory=2000"
        for name, own in zip(names, ports, strict=True)
    ]
    text = CONF.format(
        host=host,
        port=port,
        user=getpass.getuser(),
        folder=folder,
        nodes="\n".join(nodes),
        # Jobs take their port from their number, and there may be two clusters on this machine.
        first_job=1 + 100 * secrets.randbelow(90),
    )
    (folder / "slurm.conf").write_text(text)


def _start(cluster: Slurm) -> None:
    """All daemons in the foreground, as children of this process."""
    folder = cluster.folder
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(64))
    key.chmod(0o600)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    # --force: also as root, and below a folder that others may write into.
    munged = cluster.start("munged", "-F", "--force", f"--socket={folder}/munge.socket", *files)
    wait_for((folder / "munge.socket").exists, 10)
    assert munged.poll() is None
    cluster.start("slurmctld", "-D", "-c")
    for name in cluster.names:
        cluster.start_node(name)
    wait_for(cluster.is_idle, 30)


def pids_of(folder: Path, program: str) -> list[int]:
    """The processes of a program that work on a run folder."""
    wanted = (str(folder).encode(), program.encode())
    return [pid for pid in _pids() if all(text in _read(pid, "cmdline") for text in wanted)]


def _killed(mark: bytes) -> list[int]:
    """The processes with this in their environment, which are killed."""
    pids = [p for p in _pids() if p != os.getpid() and mark in _read(p, "environ").split(b"\0")]
    for pid in pids:
        _kill(pid)
    return pids
