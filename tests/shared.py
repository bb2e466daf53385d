"""What tests of several places need: configurations by words, and every experiment in a size for tests."""

from __future__ import annotations

from hydra import compose, initialize_config_dir

from genbench import cli
from genbench.config import Config

__all__ = ["EXPERIMENTS", "configuration", "smaller"]

EXPERIMENTS = sorted(path.stem for path in (cli.CONFIG_DIRECTORY / "experiment").glob("*.yaml"))

# Full-size networks and thousands of images are for acceptance runs.
SMALL = {
    "model": {
        **dict.fromkeys(("dcgan", "sngan-resnet", "realnvp", "realnvp-multiscale"), ("model.width=4",)),
        "realnvp-conv": ("model.width=4", "model.couplings=2"),
        **dict.fromkeys(("pixelcnn", "pixelcnn-gated"), ("model.channels=4", "model.blocks=2")),
        "conv-vae": (
            *(f"model.{network}_{size}=2" for network in ("encoder", "decoder") for size in ("channels", "blocks")),
            "model.pixelcnn_blocks=1",
            "task.importance_samples=10",
        ),
    },
    "task": {"image-gan": ("task.batch_norm_batches=2",)},
}
FEW = ("task.fid_samples=16", "task.fid_reference=16", "task.final_samples=16")


def configuration(*words: str) -> Config:
    """What `genbench` composes from these words."""
    with initialize_config_dir(str(cli.CONFIG_DIRECTORY), version_base="1.3"):
        return cli.validate(compose("train", overrides=list(words)), words)


def smaller(experiment: str) -> list[str]:
    """Words that make an experiment small."""
    config = configuration(f"experiment={experiment}")
    components = {"model": config.model, "task": config.task}
    words = [word for group, sizes in SMALL.items() for word in sizes.get(components[group]["name"], ())]
    return words + (list(FEW) if config.task.get("fid_samples") else [])
