"""One sweep, disturbed, under every launcher, on real clusters: `make test-launchers`."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.launchers

COEFFICIENTS = ("0.1", "1e12", "0.2", "0.3", "0.4", "0.5")  # the second diverges
KILLED, PREEMPTED = "coefficient=0.2,", "coefficient=0.3,"
WORDS = (
    "-m",
    "experiment=dirac-w1-3",
    f"regularizer.coefficient={','.join(COEFFICIENTS)}",
    "trainer.max_steps=4000",
    "trainer.threads=1",
)
PATIENCE = 600  # seconds: a job that Slurm puts back into its queue waits there for two minutes


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "genbench.train", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finals(root: Path) -> dict[str, Any]:
    found = {}
    for path in root.glob("*/*/summary.json"):
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        values = {name: entry["final"]["value"] for name, entry in metrics.items() if not name.startswith("perf/")}
        found[path.parent.name] = (json.loads((path.parent / "status.json").read_text())["status"], values)
    return found


def disturb(root: Path, which: str, signum: int, process: subprocess.Popen[str]) -> bool:
    """Send a signal to the process of a run, once it trains."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for path in root.glob(f"*/{which}*/status.json"):
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["status"] == "running" and row["pid"] != process.pid:
                os.kill(row["pid"], signum)
                return True
            if row["status"] != "running":
                return False
        time.sleep(0.01)
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every launcher has to find: that of one process."""
    folder = tmp_path_factory.mktemp("here")
    process = start(folder, *WORDS)
    said = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 3, said
    assert "5 of 6 jobs done" in said
    found = finals(folder / "outputs")
    assert len(found) == len(COEFFICIENTS)
    return found


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A queue of one node, this machine."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch")
    missing = [name for name in programs if shutil.which(name) is None]
    if missing or getpass.getuser() != "root":
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'} (Debian: slurm-wlm, munge)")
    host, cores = os.uname().nodename.partition(".")[0], os.cpu_count()
    state = tmp_path / "slurm"
    state.mkdir()
    settings = {
        "ClusterName": "genbench",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={state}/munge.socket",
        "CredType": "cred/munge",
        "StateSaveLocation": state,
        "SlurmdSpoolDir": state,
        "SlurmctldPidFile": state / "slurmctld.pid",
        "SlurmdPidFile": state / "slurmd.pid",
        "SlurmctldLogFile": state / "slurmctld.log",
        "SlurmdLogFile": state / "slurmd.log",
        "SlurmctldPort": 26817,
        "SlurmdPort": 26818,
        "ProctrackType": "proctrack/pgid",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "ReturnToService": 2,
        "MpiDefault": "none",
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines += [f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cores}", f"PartitionName=main Nodes={host} Default=YES"]
    (state / "slurm.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (state / "munge.key").write_bytes(os.urandom(1024))
    (state / "munge.key").chmod(0o600)
    monkeypatch.setenv("SLURM_CONF", str(state / "slurm.conf"))
    names = (
        "key-file=munge.key",
        "socket=munge.socket",
        "pid-file=munge.pid",
        "log-file=munge.log",
        "seed-file=seed",
    )
    places = [f"--{key}={state / value}" for key, value in (name.split("=") for name in names)]
    subprocess.run(["munged", "--force", *places], check=True)
    subprocess.run(["slurmctld"], check=True)
    subprocess.run(["slurmd", "-N", host], check=True)
    yield
    for name in ("slurmd", "slurmctld", "munge"):
        os.kill(int((state / f"{name}.pid").read_text()), signal.SIGTERM)


@pytest.fixture
def ray_cluster(tmp_path: Path) -> Iterator[None]:
    """One that somebody started in another folder."""
    pytest.importorskip("ray")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = str(Path(sys.executable).with_name("ray"))
    words = ["--head", "--num-cpus=2", "--object-store-memory=100000000", "--include-dashboard=false"]
    subprocess.run([program, "start", *words], cwd=elsewhere, check=True, capture_output=True)
    yield
    subprocess.run([program, "stop", "--force"], check=True, capture_output=True)
    assert list(elsewhere.iterdir()) == []


def check(folder: Path, words: Sequence[str], undisturbed: dict[str, Any]) -> str:
    """The same sweep, one job killed and one preempted; the same command again. Returns what the first said."""
    folder.mkdir()
    process = start(folder, *WORDS, *words)
    preempted = disturb(folder / "outputs", KILLED, signal.SIGKILL, process)
    preempted = disturb(folder / "outputs", PREEMPTED, signal.SIGUSR2, process) and preempted
    said = process.communicate(timeout=PATIENCE)[0]
    assert preempted, said
    assert process.returncode in (137, 128 + signal.SIGUSR2), said
    assert "regularizer.coefficient=0.2              killed" in said, said
    again = start(folder, *WORDS, *words)
    more = again.communicate(timeout=PATIENCE)[0]
    assert again.returncode == 3, more
    assert "5 of 6 jobs done" in more
    assert finals(folder / "outputs") == undisturbed
    return said


def test_processes_of_this_machine(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    check(tmp_path / "typed", ["hydra/launcher=local"], undisturbed)


@pytest.mark.usefixtures("slurm")
def test_slurm(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    words = ["hydra/launcher=slurm", "hydra.launcher.timeout_min=10", "hydra.launcher.cpus_per_task=1"]
    said = check(tmp_path / "typed", words, undisturbed)
    assert "regularizer.coefficient=0.3              done" in said  # Slurm has put it back into its queue


def test_a_ray_cluster_of_its_own(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    pytest.importorskip("ray")
    check(tmp_path / "typed", ["hydra/launcher=ray"], undisturbed)


@pytest.mark.usefixtures("ray_cluster")
def test_a_ray_cluster_that_runs_already(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    check(tmp_path / "typed", ["hydra/launcher=ray", "hydra.launcher.address=auto"], undisturbed)
