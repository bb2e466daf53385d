"""What can be known before the first step is told before the first step."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from shared import ENSEMBLES, EXPERIMENTS, shipped
from torch import nn

from genbench import preflight, registry
from genbench.build import assemble, build_task
from genbench.compose import Request, configuration
from genbench.data.loading import load
from genbench.engine.rundir import writable
from genbench.engine.task import Task
from genbench.errors import ConfigError, GenbenchError

DATA = {
    "dirac": {"name": "dirac"},
    "lines": {"name": "lines"},
    "plane": {"name": "plane"},
    "checkerboard": {"name": "plane", "target": "checkerboard"},
    "mnist5k": {"name": "mnist5k"},
    "grey": {"name": "mnist5k", "binarized": False},
    "cifar10": {"name": "cifar10"},
}
MODELS = {
    **{name: {"name": name} for name in registry.known("model")},
    "gaussian mlp-vae": {"name": "mlp-vae", "likelihood": "gaussian"},
    "gaussian conv-vae": {"name": "conv-vae", "likelihood": "gaussian"},
    "pixelvae": {"name": "conv-vae", "pixelcnn_channels": 4},
    "sampling planar-flow": {"name": "planar-flow", "direction": "base to data"},
}
LOSSES = {
    "density": "nll",
    "autoregressive": "nll",
    "image-flow": "nll",
    "energy": "free-energy",
    "variational": "elbo",
}  # any other task is a game
SMALL = {
    **{key: {"width": 4} for key in ("dcgan", "sngan-resnet", "mlp-vae", "realnvp")},
    **{key: {"width": 4, "blocks": 1} for key in ("realnvp-multiscale", "realnvp-conv")},
    **{key: {"channels": 4, "blocks": 1} for key in ("pixelcnn", "pixelcnn-gated")},
    "conv-vae": {"encoder_blocks": 1, "decoder_blocks": 1, "pixelcnn_blocks": 1},
}

# What can be trained, whatever the loss, of all tasks and models.
TOGETHER = {
    "dirac": {
        "adversarial: dirac-gan",
        "dirac: dirac-gan",
    },
    "lines": {
        "divergence: mlp-critic",
        "divergence: mlp-gan",
    },
    "plane": {
        "adversarial: mlp-gan",
        "density: planar-flow",
        "density: sampling planar-flow",
        "energy: planar-flow",
        "energy: sampling planar-flow",
    },
    "checkerboard": {
        "adversarial: mlp-gan",
        "density: planar-flow",
        "density: sampling planar-flow",
    },
    "mnist5k": {
        "adversarial: mlp-gan",
        "autoregressive: pixelcnn",
        "autoregressive: pixelcnn-gated",
        "image-gan: mlp-gan",
        "variational: conv-vae",
        "variational: mlp-vae",
        "variational: pixelvae",
    },
    "grey": {
        "adversarial: mlp-gan",
        "image-flow: realnvp",
        "image-flow: realnvp-conv",
        "image-flow: realnvp-multiscale",
        "image-gan: mlp-gan",
        "variational: gaussian conv-vae",
        "variational: gaussian mlp-vae",
    },
    "cifar10": {
        "adversarial: dcgan",
        "adversarial: mlp-gan",
        "adversarial: sngan-resnet",
        "image-flow: realnvp",
        "image-flow: realnvp-conv",
        "image-flow: realnvp-multiscale",
        "image-gan: dcgan",
        "image-gan: mlp-gan",
        "image-gan: sngan-resnet",
        "variational: gaussian conv-vae",
        "variational: gaussian mlp-vae",
    },
}


def component(group: str, name: str, **settings: Any) -> dict[str, Any]:
    """A component's settings, at their defaults but for these and for those that make a network small."""
    parameters = registry.parameters(registry.lookup(group, name)).values()
    small = SMALL.get(name, {}) if group == "model" else {}
    return {"name": name, **{parameter.name: parameter.default for parameter in parameters}, **small, **settings}


@pytest.mark.usefixtures("tiny_binmnist", "tiny_images", "tiny_planes")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_rehearsed(experiment: str, data_root: Path) -> None:
    """On the meta device, in full size, with the parameters that it will have."""
    size = 1 if experiment.startswith("dirac") else 2  # the tests' data sets are small
    config = shipped(experiment)
    trainer = replace(config.trainer, batch_size=size)
    config = replace(config, data_root=str(data_root), device="cpu", trainer=trainer)
    if config.task.get("fid_reference"):
        config = replace(config, task=config.task | {"fid_reference": 16})
    task = preflight.rehearse(config)
    assert task is not None
    assert {parameter.device for parameter in task.parts.model.parameters()} == {torch.device("meta")}
    if experiment.startswith(("dirac", "flow", "mnist5k", "vae-mnist5k")):
        true = build_task(config, torch.device("cpu"))
        sizes = [
            [(name, parameter.shape) for name, parameter in built.parts.model.named_parameters()]
            for built in (task, true)
        ]
        assert sizes[0] == sizes[1]


@pytest.mark.usefixtures("tiny_images", "tiny_planes")
@pytest.mark.parametrize("data", DATA)
def test_every_combination_is_built_or_refused(data: str, data_root: Path) -> None:
    """With words of ours, not with an error of PyTorch; what is built is what belongs together."""
    base = shipped("dirac-w1-1")
    settings = component("dataset", **DATA[data])
    dataset = load(settings, data_root).to(preflight.META)
    built = set()
    for task, model in itertools.product(registry.known("task"), MODELS):
        config = replace(
            base,
            task=component("task", task),
            model=component("model", **MODELS[model]),
            loss=component("loss", LOSSES.get(task, "w1")),
            dataset=settings,
            trainer=replace(base.trainer, batch_size=min(8, len(dataset.train))),
        )
        try:
            with preflight.META:
                assemble(config, dataset, preflight.META)
        except GenbenchError:
            continue
        built.add(f"{task}: {model}")
    assert built == TOGETHER[data]


def test_memory_is_reckoned_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    """Of an MLP's weights and biases, layer by layer, and as many gradients, in float32."""
    config = configuration("experiment=vae-mnist5k", f"data_root={data_root}", "model.width=2000", "model.depth=2")
    latents = config.model["latent_dim"]
    encoder, decoder = (784, 2000, 2000, 2 * latents), (latents, 2000, 2000, 784)
    weights = sum((a + 1) * b for sizes in (encoder, decoder) for a, b in itertools.pairwise(sizes))
    monkeypatch.setattr("genbench.engine.memory.physical_memory", lambda: 8 * weights)
    assert preflight.rehearse(config) is not None
    monkeypatch.setattr("genbench.engine.memory.physical_memory", lambda: 8 * weights - 1)
    with pytest.raises(ConfigError, match=r"need 0\.\d+ GiB of memory"):
        preflight.rehearse(config)


def test_a_component_that_needs_storage_is_left_to_its_run(monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    """A plug-in's, which asks a tensor for its values."""

    class Asking(nn.Module):
        def __init__(self, shape: Sequence[int]) -> None:
            super().__init__()
            torch.zeros(1).item()

    monkeypatch.setitem(registry._components, ("model", "asking"), Asking)
    config = configuration("experiment=vae-mnist5k", f"data_root={data_root}")
    assert preflight.rehearse(replace(config, model={"name": "asking"})) is None


def test_another_launchers_jobs_are_left_to_their_machines() -> None:
    config = configuration("experiment=dirac-w1-1", "device=cuda:99")
    preflight.check([Request(config)], elsewhere=True)
    with pytest.raises(ConfigError, match="cuda:99"):
        preflight.check([Request(config)])


def test_what_evaluation_needs_is_looked_for_once(
    monkeypatch: pytest.MonkeyPatch, data_root: Path, tmp_path: Path
) -> None:
    """For all seeds and learning rates of a sweep, not for each of its jobs."""
    asked: list[str] = []
    monkeypatch.setattr(Task, "before_training", lambda task: asked.append(type(task).__name__))
    words = ("experiment=vae-mnist5k", f"data_root={data_root}", f"output_root={tmp_path}", "device=cpu")
    jobs = [configuration(*words, f"seed={seed}", f"optimizer.lr={lr}") for seed in (1, 2) for lr in (1e-3, 1e-4)]
    preflight.check([Request(job) for job in jobs])
    assert asked == ["Variational"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="is not writable"):
        writable(tmp_path / "below")


def test_an_ensemble_is_checked_as_a_whole() -> None:
    names = "ensemble.experiments=[flow-arcs-samples-k2,flow-sine-density-k2]"
    asked = [f"experiment={ENSEMBLES[0]}", names, "device=cpu"]
    preflight.check_run(configuration(*asked), asked)
    asked = [*asked, "optimizer.max_norm=1"]
    with pytest.raises(ConfigError, match="couple them"):
        preflight.check_run(configuration(*asked), asked)
