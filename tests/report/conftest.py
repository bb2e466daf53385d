"""Run directories as training leaves them, without the training: of a family that only these tests know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from kites import CURVES, KITES, QUANTITIES, Logged, configuration, draw
from torch import nn

from genbench import identity, summary
from genbench.config import Reference, to_dict
from genbench.engine.logbook import Logbook
from genbench.engine.measurement import Family, Measurement, Quantity, values_of
from genbench.engine.rundir import FINISHED, RunDirectory
from genbench.engine.task import Task
from genbench.engine.trainer import Trainer
from genbench.run import run_directory

MakeRun = Callable[..., Path]
SIZE = 10  # steps of an epoch


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def make_run(outputs: Path) -> MakeRun:
    """make_run(experiment, seed, logged) writes a run through the engine and returns its directory."""
    return maker(outputs)


@pytest.fixture(scope="module")
def shared_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "outputs"


@pytest.fixture(scope="module")
def make_shared_run(shared_outputs: Path) -> MakeRun:
    """`make_run` for what a module's tests only read."""
    return maker(shared_outputs)


def maker(outputs: Path) -> MakeRun:

    def make(
        experiment: str = "red-kite",
        seed: int = 1,
        logged: Logged = CURVES,
        *,
        family: Family = KITES,
        quantities: Sequence[Quantity] = QUANTITIES,
        protocol: Mapping[str, str] | None = None,
        curves: Mapping[str, Sequence[str]] | None = None,
        cover: str = "figures/kite-end.png",
        references: Sequence[Reference] = (),
        changed: Mapping[str, Any] | None = None,
        status: str = "done",
        error: str = "",
        note: str = "",
        root: Path | None = None,
        pictures: Sequence[str] = (),
        ended: Mapping[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
    ) -> Path:
        published = configuration(experiment, references, {})
        config = configuration(experiment, references, changed or {})
        config = replace(config, seed=seed, output_root=str(root or outputs))
        task = SimpleNamespace(
            family=family,
            quantities=quantities,
            curves=curves or {"tilt, validation": ["valid/tilt"]},
            cover=cover,
            parts=SimpleNamespace(model=nn.Linear(3, 4), dataset=SimpleNamespace(outline=lambda: None)),
        )
        with RunDirectory(run_directory(config)) as run:
            run.write_config(to_dict(config))
            words = [f"experiment={experiment}", *(f"{k}={v}" for k, v in (changed or {}).items()), f"seed={seed}"]
            begun = summary.before(config, published, cast(Task, task), words, torch.device("cpu"), parent)
            begun |= {"device": "a test", "git_commit": "0123456789abcdef0123", "versions": {"torch": "2.4"}}
            run.write_summary(begun)
            common = {"dataset": "arcs", "split": "30/20/10"} if protocol is None else protocol
            title = str(begun["title"])
            logbook = Logbook(
                run,
                title,
                family=family,
                kind="tilt",
                quantities=quantities,
                protocol=common,
                references=references,
                settings=identity.settings(config),
                charts={},
            )
            logbook.open()
            for step, row in logged.items():
                measured = {k: v if isinstance(v, Measurement) else Measurement(v) for k, v in row.items()}
                logbook.measurements |= measured
                logbook.scalars(values_of(measured), step, step / SIZE, 0.1 * step)
            logbook.close()
            last = max(logged, default=0)
            for name in pictures:
                draw(run.path / name)
            if status in FINISHED:
                trainer = SimpleNamespace(
                    logbook=logbook,
                    progress=SimpleNamespace(step=last, seconds=10.0, wall_seconds=12.0, stretches=[]),
                    task=task,
                    epoch=last / SIZE,
                    steps_per_second=50.0,
                    device=torch.device("cpu"),
                    captured_graphs=0,
                    batches=SimpleNamespace(steps_per_epoch=SIZE),
                    config=config.trainer,
                )
                after = summary.after(begun, config, published, cast(Trainer, trainer), status, note or error)
                run.write_summary(after | {"peak_memory_mib": 900.0, "finished": "2026-01-01"} | dict(ended or {}))
            run.set_status(status, 0 if status == "running" else last, **({"error": error} if error else {}))
        return run.path

    return make
