"""What is worth doing on the day there is a GPU, in order of priority, within a given time: `make gpu MINUTES=25`.

First the GPU tests, then the throughput of GAN training, then the experiments of `docs/results/pending.md` from the
top, several at once. When the time is up, what still runs is stopped and saves itself: the same command, or the run's
own, resumes it. Small result files (`summary.json`, `metrics.jsonl`, pictures, logs) are collected in one folder.

Without a GPU the same plan runs with tiny settings, as a rehearsal.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from rich.console import Console
from rich.table import Table

from benchmarks.common import WIDTH
from genbench.compose import configuration
from genbench.engine import device as devices
from genbench.engine.capture import can_capture
from genbench.run import run_directory

PENDING = Path("docs/results/pending.md")
TESTS = ("-m", "pytest", "-m", "gpu", "tests/test_gpu.py")  # as quiet as pyproject.toml says
THROUGHPUT = ("-m", "benchmarks.gan")
TINY_THROUGHPUT = ("--width", "2", "--batch", "4", "--rounds", "2", "--steps", "1", "--threads", "1")
# These need no download, and twenty steps of each end in a minute.
REHEARSAL = "`genbench -m experiment=mnist5k-gan,vae-mnist5k trainer.max_steps=20`"
COLLECTED = ("summary.json", "metrics.jsonl", "config.yaml", "status.json", "figures/*.png", "samples/*.png")
SAVING = 45  # seconds before the end in which runs may save themselves
PAUSE = 0.2  # seconds between two looks at what runs
OUTCOMES = {
    0: "done",
    1: "failed",
    2: "bad input",
    3: "diverged",
    4: "locked",
    130: "interrupted",
    143: "interrupted",
}


@dataclass
class Job:
    """One run of genbench: the words of its command line, and its directory."""

    words: tuple[str, ...]
    directory: Path
    process: subprocess.Popen[bytes] | None = None
    outcome: str = "not started"

    @property
    def name(self) -> str:
        return " ".join(word.removeprefix("experiment=") for word in self.words)

    @property
    def log_name(self) -> str:
        return re.sub(r"[^\w.=-]+", "_", self.name) + ".log"

    @property
    def state(self) -> str:
        """How it ended, and how far the run is, in this session or an earlier one."""
        try:
            status = json.loads((self.directory / "status.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return self.outcome
        return f"{self.outcome}, at step {status['step']}"


def jobs_of(text: str, output_root: Path) -> list[Job]:
    """The runs of every command `genbench …` in a page, in order; a sweep's commas are multiplied out.

    Raises ConfigError for a command that genbench does not know.
    """
    return [
        Job(words, run_directory(configuration(*words, f"output_root={output_root}")))
        for command in re.findall(r"`genbench ([^`]+)`", text)
        for words in itertools.product(*(_choices(word) for word in shlex.split(command) if word != "-m"))
    ]


def _choices(word: str) -> list[str]:
    key, _, values = word.partition("=")
    return [f"{key}={value}" for value in re.split(r",(?![^\[]*\])", values)]


class Plan:
    """Steps of the day, which share one deadline.

    Attributes:
        failed: what went wrong, in words.
    """

    def __init__(self, minutes: float, out: Path, console: Console) -> None:
        self.deadline = time.monotonic() + 60 * minutes
        self.out, self.console = out, console
        self.failed: list[str] = []

    @property
    def seconds(self) -> float:
        """What is left of the time."""
        return self.deadline - time.monotonic()

    def tool(self, name: str, words: Sequence[str]) -> None:
        """Run a Python program to its end, or to the deadline; its output is shown and kept."""
        self.console.rule(name)
        log = self.out / f"{name}.txt"
        with (
            log.open("w", encoding="utf-8") as file,
            subprocess.Popen(
                [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process,
        ):
            watch = Timer(max(0.0, self.seconds), process.terminate)
            watch.daemon = True
            watch.start()
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    self.console.print(line.rstrip("\n"), markup=False, highlight=False)
                    file.write(line)
            except KeyboardInterrupt:
                process.terminate()
                raise
            finally:
                watch.cancel()
        if process.returncode:
            self.failed.append(f"{name} ended with {process.returncode}: see {log}")

    def runs(self, jobs: Sequence[Job], at_once: int, output_root: Path, command: Sequence[str]) -> None:
        """Run jobs, `at_once` at a time, until all are done or the time is up; those that run then are stopped."""
        self.console.rule("experiments")
        waiting, running = iter(jobs), list[Job]()
        environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))}
        try:
            while self.seconds > SAVING:
                for job in itertools.islice(waiting, at_once - len(running)):
                    self._start(job, command, output_root, environment)
                    running.append(job)
                if not running:
                    return
                time.sleep(PAUSE)
                running = [job for job in running if not self._ended(job)]
        except KeyboardInterrupt:
            self.console.print("stopped")
        finally:
            self._stop(running)

    def _start(self, job: Job, command: Sequence[str], output_root: Path, environment: dict[str, str]) -> None:
        self.console.print(f"start  {job.name}", markup=False, highlight=False)
        words = [*command, *job.words, f"output_root={output_root}"]
        with (self.out / job.log_name).open("wb") as log:
            job.process = subprocess.Popen(
                words, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        job.outcome = "running"

    def _ended(self, job: Job) -> bool:
        assert job.process is not None
        code = job.process.poll()
        if code is None:
            return False
        job.outcome = OUTCOMES.get(code, f"ended with {code}")
        self.console.print(f"{job.outcome:<6} {job.name}", markup=False, highlight=False)
        return True

    def _stop(self, running: Sequence[Job]) -> None:
        """Ask every job to save itself; kill what has not ended when the time is up for good."""
        for job in running:
            assert job.process is not None
            if job.process.poll() is None:
                job.process.send_signal(signal.SIGTERM)
        for job in running:
            assert job.process is not None
            try:
                job.process.wait(max(1.0, self.seconds))
            except subprocess.TimeoutExpired:
                os.killpg(job.process.pid, signal.SIGKILL)
                job.process.wait()
            self._ended(job)


def collect(jobs: Sequence[Job], out: Path) -> None:
    """Copy the small files of all runs that there are."""
    for job in jobs:
        for path in itertools.chain.from_iterable(job.directory.glob(pattern) for pattern in COLLECTED):
            target = out / "runs" / path.relative_to(job.directory.parent.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def report(plan: Plan, jobs: Sequence[Job]) -> None:
    """What is done and what is left."""
    table = Table(title="experiments")
    table.add_column("experiment")
    table.add_column("outcome")
    for job in jobs:
        table.add_row(job.name, job.state)
    plan.console.print(table)
    done = sum(job.outcome == "done" for job in jobs)
    plan.console.print(
        f"{done} of {len(jobs)} experiments are done, {len(jobs) - done} are left; results in {plan.out}"
    )
    for line in plan.failed:
        plan.console.print(line, markup=False, style="bold")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=25.0, help="in all (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=4, help="experiments at once (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu"), help="results (default: %(default)s)")
    parser.add_argument("--output-root", type=Path, default=Path("outputs"), help="runs (default: %(default)s)")
    options = parser.parse_args(words)
    console = Console(width=WIDTH)
    options.out.mkdir(parents=True, exist_ok=True)
    device = devices.resolve("auto")
    real = can_capture(device)
    if real:
        console.print(f"{devices.describe(device)}: {options.minutes:g} minutes")
        page, tiny = PENDING.read_text(encoding="utf-8"), ()
    else:
        console.print("There is no GPU here: the plan runs with tiny settings, as a rehearsal.")
        page, tiny = REHEARSAL, TINY_THROUGHPUT
        options.output_root = options.out / "rehearsal"
    jobs = jobs_of(page, options.output_root)
    plan = Plan(options.minutes, options.out, console)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # as Ctrl-C: runs save themselves, results are collected
    try:
        plan.tool("tests", TESTS)
        plan.tool("throughput", [*THROUGHPUT, *tiny])
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    plan.runs(jobs, options.jobs, options.output_root, [sys.executable, "-m", "genbench.train"])
    collect(jobs, options.out)
    report(plan, jobs)
    return 1 if plan.failed or any(job.outcome == "failed" for job in jobs) else 0


if __name__ == "__main__":
    raise SystemExit(main())
