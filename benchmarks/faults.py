"""A soak: random small runs that are killed, stopped, cut, flipped and starved, beside undisturbed ones.

    python -m benchmarks.faults [--minutes 10] [--seed 1]

Every trial draws an experiment, settings and up to four faults. A process trains until a fault ends it: a signal at
a random moment, or a disk that is full from a random file on. Then a random file of the run may lose a bit or its
end. After the last fault the same command runs undisturbed, and everything that two equal runs have in common is
compared with a run that nothing happened to: weights, optimizers, generators, rows of `metrics.jsonl`, TensorBoard's
curves, the summary. One difference is a failure, exit code 1; the seed of a trial repeats it (`--seed N --trials 1`).
"""

from __future__ import annotations

import argparse
import errno
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from genbench.engine.rundir import RunDirectory
from genbench.train import main as genbench

# Each trains forty steps within seconds; together they have every kind of state that a checkpoint holds.
EXPERIMENTS = {
    "dirac-jsd-8": (),
    "dirac-w1-5": ("task.critic_steps=2",),
    "divergence-w1": (),
    "divergence-hellinger": ("optimizer=adam",),
    "flow-arcs-density-k2": (),
    "flow-sine-samples-k2": (),
    "vae-mnist5k": (
        "trainer.epochs=null",
        "model.width=16",
        "model.depth=1",
        "model.latent_dim=2",
        "task.importance_samples=2",
    ),
}
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGXCPU")
STEPS = 40
PATIENCE = 120  # seconds that an undisturbed run may take


def outcome(run: Path) -> dict[str, Any]:
    """All that two equal runs have in common."""
    state = torch.load(max((run / "checkpoints").glob("step-*.pt")), weights_only=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {
        "task": _without_empty(state["task"]),
        "rng": state["rng"],
        "batches": state["batches"],
        "rows": [(row["step"], row["metric"], row["value"]) for row in rows],
        "curves": _curves(run),
        "metrics": summary["metrics"],
        "status": summary["status"],
    }


def _without_empty(state: Any) -> Any:
    """An optimizer that remembers nothing may say so for each parameter, or not at all."""
    if not isinstance(state, dict):
        return state
    found = {key: _without_empty(value) for key, value in state.items()}
    return {key: value for key, value in found.items() if value != {}}


def _curves(directory: Path) -> list[tuple[int, str, float]]:
    """(step, tag, value) in the order in which TensorBoard reads them."""
    return [
        (event.step, value.tag, value.tensor.float_val[0])
        for path in sorted(directory.glob("events.*"))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "scalars"
    ]


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Places at which two outcomes are not equal, bit for bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a, b))
        yield from () if same else (where,)
    elif isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differences(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{where}/{index}")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        yield f"{where}: {len(a)} and {len(b)} entries"
    elif a != b and not (a != a and b != b):  # NaN is NaN
        yield f"{where}: {a} and {b}"


def flip(path: Path, draw: random.Random | None = None) -> None:
    """Change one bit of a file, at a random place or in its middle."""
    content = bytearray(path.read_bytes())
    if content:
        place = draw.randrange(len(content)) if draw else len(content) // 2
        content[place] ^= 1 << (draw.randrange(8) if draw else 5)
        path.write_bytes(bytes(content))


def _cut(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size + 1))


DAMAGE: dict[str, Callable[[Path, random.Random], None]] = {
    "bit flipped": flip,
    "cut": _cut,
    "deleted": lambda path, _: path.unlink(),
}


def _fill_disk(after: int) -> None:
    """From the file of this number on, nothing can be written."""
    replace, count = Path.replace, 0

    def full(path: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return replace(path, target)

    Path.replace = full  # type: ignore[method-assign, assignment]


def _child(words: Sequence[str], full_after: int | None, log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    if full_after is not None:
        _fill_disk(full_after)
    genbench(list(words))


class Trial:
    """A disturbed run beside an undisturbed one; the seed decides everything but the moments of the signals."""

    def __init__(self, seed: int, root: Path) -> None:
        self.draw, self.root = random.Random(seed), root
        self.experiment = self.draw.choice(sorted(EXPERIMENTS))
        every = {key: self.draw.randint(2, 15) for key in ("log_every", "evaluate_every", "checkpoint_every")}
        intervals = [f"trainer.{key}={value}" for key, value in every.items()]
        own = EXPERIMENTS[self.experiment]
        self.words = [f"experiment={self.experiment}", f"seed={seed}", f"trainer.max_steps={STEPS}", *intervals, *own]
        self.faults: list[str] = []
        self.log = root / "log.txt"

    def run(self) -> list[str]:
        """What differs in the end."""
        begin = time.monotonic()
        if (code := self._start("whole").wait()) != 0:
            return [f"the undisturbed run ended with exit code {code}"]
        duration = time.monotonic() - begin
        for _ in range(self.draw.randint(1, 4)):
            self._disturb(duration)
        if (code := self._start("disturbed").wait()) != 0:
            return [f"the last start ended with exit code {code}"]
        if "Traceback" in self.log.read_text(encoding="utf-8"):
            return ["a traceback"]
        left = [str(path) for path in self.root.rglob("*.part")]
        (whole,), (disturbed,) = ((self.root / name).glob("*/*/") for name in ("whole", "disturbed"))
        return left + list(differences(outcome(disturbed), outcome(whole)))

    def _is_done(self) -> bool:
        """Whether the disturbed run is over: a signal may come after its last word."""
        return any(RunDirectory(path).status == "done" for path in self.root.glob("disturbed/*/*/"))

    def _start(self, name: str, full_after: int | None = None) -> _Process:
        return _Process([*self.words, f"output_root={self.root / name}"], full_after, str(self.log))

    def _disturb(self, duration: float) -> None:
        kind = self.draw.choice((*SIGNALS, "full disk"))
        process = self._start("disturbed", self.draw.randint(0, 25) if kind == "full disk" else None)
        if kind != "full disk":
            process.wait(self.draw.uniform(0, 1.2 * duration))
            process.signal(kind)
        process.wait()
        self.faults.append(kind)
        files = sorted(
            path for path in self.root.glob("disturbed/*/*/**/*") if path.is_file() and path.name != ".lock"
        )
        if files and self.draw.random() < 0.5:
            path, damage = self.draw.choice(files), self.draw.choice(sorted(DAMAGE))
            kind = "event file" if "tfevents" in path.name else path.suffix
            # Pictures are looked at, not read; of a run that is done, what it says of itself is read alone.
            read = (".json",) if self._is_done() else (".json", ".jsonl", ".pt", ".yaml", "event file")
            if kind in read:
                DAMAGE[damage](path, self.draw)
                self.faults.append(f"{path.name if kind == '.json' else kind} {damage}")


class _Process:
    """A command in a fork of this process, which has imported everything."""

    def __init__(self, words: Sequence[str], full_after: int | None, log: str) -> None:
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_child, args=(words, full_after, log))
        self._process.start()

    def wait(self, seconds: float = PATIENCE) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode

    def signal(self, name: str) -> None:
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, getattr(signal, name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all trials (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=sys.maxsize, help="at most so many (default: no limit)")
    parser.add_argument("--seed", type=int, default=1, help="of the first trial (default: %(default)s)")
    options = parser.parse_args()
    console, faults, failed, count = Console(highlight=False, soft_wrap=True), Counter[str](), 0, 0
    end = time.monotonic() + 60 * options.minutes
    for seed in range(options.seed, options.seed + min(options.trials, 10**9)):
        if time.monotonic() > end:
            break
        with tempfile.TemporaryDirectory() as directory:
            trial = Trial(seed, Path(directory))
            found = trial.run()
            count, failed = count + 1, failed + bool(found)
            faults.update(trial.faults)
            told = f"{len(found)} differences: {found[0][:200]}" if found else "equal"
            console.print(f"seed {seed:>4}  {trial.experiment:<22} {', '.join(trial.faults)}  →  {told}")
            if found:
                console.print("  genbench " + " ".join(trial.words), trial.log.read_text(encoding="utf-8"), sep="\n")
    table = Table("fault", "times")
    for fault, times in sorted(faults.items()):
        table.add_row(fault, str(times))
    console.print(table)
    console.print(f"{count} trials, {sum(faults.values())} faults, {failed} trials with differences")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
