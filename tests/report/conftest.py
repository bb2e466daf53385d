"""Run directories as training leaves them, without the training: of a family that only these tests know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from genbench import identity, summary
from genbench.config import Config, Reference, TrainerConfig, to_dict
from genbench.engine.logbook import Logbook
from genbench.engine.measurement import Family, Measurement, Quantity, values_of
from genbench.engine.rundir import FINISHED, RunDirectory
from genbench.engine.task import Task
from genbench.engine.trainer import Trainer
from genbench.run import run_directory

MakeRun = Callable[..., Path]
Measured = Mapping[str, float | Measurement]
Logged = Mapping[int, Measured]
"""Step → what was logged there; plain numbers are measurements with nothing beside them."""

KITES = Family("Kites")
HEIGHT = Quantity("test/height", "mean height", "m", "higher", 2, truth_label="of a perfect kite")
TILT = Quantity("valid/tilt", "tilt", "rad", "lower", 3)
LINE = Quantity("test/line", "length of the line", "m", "", 1)
QUANTITIES = (HEIGHT, TILT, LINE)
CURVES: Logged = {10: {"valid/tilt": 0.5}, 20: {"valid/tilt": 0.25, "test/height": Measurement(101.0, 0.5)}}
SIZE = 10  # steps of an epoch


def configuration(name: str, references: Sequence[Reference], changed: Mapping[str, Any]) -> Config:
    """An experiment, with some of its dotted keys changed."""
    config = Config(
        name=name,
        seed=1,
        device="cpu",
        deterministic=False,
        data_root="data",
        output_root="outputs",
        task={"name": "density", "compile": False},
        model={"name": "planar-flow", "layers": 8, "direction": "data to base"},
        loss={"name": "nll"},
        regularizer={"name": "none"},
        dataset={"name": "plane", "target": "arcs"},
        optimizer={"name": "sgd", "lr": 0.1},
        critic_optimizer=None,
        trainer=TrainerConfig(batch_size=4, max_steps=20),
        reference=list(references),
    )
    for key, value in changed.items():
        group, _, option = key.partition(".")
        whole: Any = getattr(config, group)
        if not option:
            new = value
        elif isinstance(whole, dict):
            new = whole | {option: value}
        else:
            new = replace(whole, **{option: value})
        config = replace(config, **{group: new})
    return config


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def make_run(outputs: Path) -> MakeRun:
    """make_run(experiment, seed, logged) writes a run through the engine and returns its directory."""

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
    ) -> Path:
        published = configuration(experiment, references, {})
        config = configuration(experiment, references, changed or {})
        config = replace(config, seed=seed, output_root=str(root or outputs))
        task = SimpleNamespace(
            family=family,
            quantities=quantities,
            curves=curves or {"tilt, validation": ["valid/tilt"]},
            cover=cover,
            parts=SimpleNamespace(model=nn.Linear(3, 4)),
        )
        with RunDirectory(run_directory(config)) as run:
            run.write_config(to_dict(config))
            words = [f"experiment={experiment}", *(f"{k}={v}" for k, v in (changed or {}).items()), f"seed={seed}"]
            begun = summary.before(config, published, cast(Task, task), words, torch.device("cpu"))
            begun |= {"device": "a test", "git_commit": "0123456789abcdef0123", "versions": {"torch": "2.4"}}
            run.write_summary(begun)
            common = {"dataset": "arcs", "split": "30/20/10"} if protocol is None else protocol
            title = str(begun["title"])
            logbook = Logbook(run, title, quantities, common, references, identity.settings(config))
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
                    progress=SimpleNamespace(step=last, seconds=10.0, wall_seconds=12.0),
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
            run.set_status(status, last, **({"error": error} if error else {}))
        return run.path

    return make


def draw(path: Path) -> None:
    """A picture whose content depends on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(path.name))
    Image.fromarray(random.integers(0, 255, (64, 300, 3), dtype=np.uint8)).save(path)
