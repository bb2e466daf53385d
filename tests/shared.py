"""Every experiment, in a size for tests."""

from __future__ import annotations

import contextlib
import http.server
import math
import threading
from collections.abc import Iterator
from typing import Any

import torch
import yaml

from genbench.compose import CONFIG_DIRECTORY, experiment
from genbench.config import Config

__all__ = ["ENSEMBLES", "EXPERIMENTS", "assert_same", "serving", "shipped", "smaller"]

_WRITTEN = {path.stem: yaml.safe_load(path.read_text()) for path in (CONFIG_DIRECTORY / "experiment").glob("*.yaml")}
ENSEMBLES = sorted(name for name, written in _WRITTEN.items() if "ensemble" in written)
EXPERIMENTS = sorted(_WRITTEN.keys() - set(ENSEMBLES))  # those that are one run

# Full-size networks and thousands of images are for acceptance runs.
SMALL = {
    "model": {
        **dict.fromkeys(("dcgan", "sngan-resnet"), ("model.width=4", "model.latent_dim=12")),
        "realnvp": ("model.width=4",),
        "realnvp-conv": ("model.width=4", "model.couplings=2", "model.blocks=1"),
        "realnvp-multiscale": ("model.width=4", "model.blocks=1"),
        "mlp-vae": ("model.width=30",),
        **dict.fromkeys(("pixelcnn", "pixelcnn-gated"), ("model.channels=4", "model.blocks=2")),
        "conv-vae": (
            *(f"model.{network}_{size}=2" for network in ("encoder", "decoder") for size in ("channels", "blocks")),
            "model.pixelcnn_blocks=1",
            "task.importance_samples=10",
        ),
    },
    "task": {"image-gan": ("task.batch_norm_batches=2", "task.grid=16")},
}
FEW = ("task.fid_samples=16", "task.fid_reference=16", "task.final_samples=16")


def shipped(name: str) -> Config:
    """An experiment as it is shipped, to be read only: many tests have the same one."""
    found = experiment(name)
    assert found is not None, name
    return found


def judged_less(experiment: str) -> list[str]:
    """Words that make the final evaluation of an experiment short, for tests of something else."""
    task = shipped(experiment).task
    words = {"image-gan": "task.classes=false", "variational": "task.importance_images=20"}
    return [words[task["name"]]] if task["name"] in words else []


def smaller(experiment: str) -> list[str]:
    """Words that make an experiment small."""
    config = shipped(experiment)
    components = {"model": config.model, "task": config.task}
    words = [word for group, sizes in SMALL.items() for word in sizes.get(components[group]["name"], ())]
    if config.task.get("critic_steps", 1) > 2:
        words.append("task.critic_steps=2")
    return words + (list(FEW) if config.task.get("fid_samples") else [])


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Bit for bit, wherever tensors are."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a.cpu(), b.cpu()), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{index}")
    elif isinstance(a, float) and math.isnan(a):
        assert math.isnan(b), where
    else:
        assert a == b, f"{where}: {a} and {b}"


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler], name: str) -> Iterator[str]:
    """The address of the file `name` on a server of this machine, which answers as `handler` does, without a log."""

    class Silent(handler):  # type: ignore[valid-type, misc]
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{name}"
        finally:
            server.shutdown()
