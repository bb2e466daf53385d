"""Run directories as training leaves them, without the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from genbench.compose import validate
from genbench.config import identity, to_dict
from genbench.engine.logbook import Logbook
from genbench.engine.rundir import RunDirectory
from genbench.report.catalog import Catalog
from genbench.run import run_directory

MakeRun = Callable[..., Path]
Values = Mapping[str, Sequence[tuple[int, float]]]

VAE = {"dataset": "binmnist", "binarization": "fixed (Larochelle)", "split": "50000/10000/10000", "kl": "analytic"}
FID = {"n_generated": 5000, "n_reference": 50000, "reference_split": "cifar10 train", "inception_weights": "f0de"}


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def make_run(outputs: Path, catalog: Catalog) -> MakeRun:
    """make_run(experiment, seed, values) writes a run through the engine's own logbook and returns its directory."""

    def make(
        experiment: str,
        seed: int = 1,
        values: Values | None = None,
        *,
        changed: Sequence[str] = (),
        protocol: Mapping[str, Any] = VAE,
        status: str = "done",
        details: Mapping[str, Any] | None = None,
        members: Sequence[Mapping[str, Any]] = (),
        root: Path | None = None,
    ) -> Path:
        found = catalog.get(experiment)
        assert found
        composed = OmegaConf.merge(OmegaConf.create(found.composed), OmegaConf.from_dotlist(list(changed)))
        composed.seed, composed.output_root, composed.data_root = seed, str(root or outputs), "data"
        assert OmegaConf.is_dict(composed)
        config = validate(composed)
        values = {"valid/elbo": [(10, -120.0), (20, -101.0)]} if values is None else values
        run = RunDirectory(run_directory(config))
        run.path.mkdir(parents=True)
        run.write_config(to_dict(config))
        logbook = Logbook(run, experiment, {}, {}, identity(config))
        logbook.open()
        steps = sorted({step for points in values.values() for step, _ in points})
        for step in steps:
            row = {metric: value for metric, points in values.items() for at, value in points if at == step}
            logbook.scalars(row, step, step / 10, 0.1 * step)
        logbook.close()
        run.set_status(status, steps[-1] if steps else 0, **(details or {}))
        if status in ("done", "diverged"):
            better = {"lower": min, "higher": max}
            directions = {reference.metric: reference.better for reference in found.references}
            metrics: dict[str, Any] = {}
            for metric, points in values.items():
                metrics[metric] = {"final": {"value": points[-1][1], "step": points[-1][0]}}
                if metric in directions:
                    metrics[metric]["best"] = {"value": better[directions[metric]](value for _, value in points)}
            run.write_summary(
                {
                    "name": experiment,
                    "seed": seed,
                    "status": status,
                    "note": "",
                    "step": steps[-1] if steps else 0,
                    "metrics": metrics,
                    "protocol": dict(protocol),
                    **({"members": [dict(member) for member in members]} if members else {}),
                    "parameters": 12345,
                    "steps_per_second": 50.0,
                    "samples_per_second": 7.25,
                    "training_seconds": 10.0,
                    "wall_seconds": 12.0,
                    "peak_memory_mib": 900.0,
                    "device": "cpu (test)",
                    "arithmetic": "fp32",
                    "versions": {"python": "3.11", "torch": "2.4"},
                    "git_commit": "0123456789abcdef",
                    "command": f"genbench experiment={experiment} seed={seed}",
                    "finished": "2026-01-01T00:00:00+0000",
                }
            )
        return run.path

    return make
