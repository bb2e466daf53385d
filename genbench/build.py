"""From a configuration to a task with all its components."""

from __future__ import annotations

from pathlib import Path

import torch

from genbench import registry
from genbench.config import Config
from genbench.data.dataset import Dataset
from genbench.data.loading import load
from genbench.engine import device as devices
from genbench.engine.batches import Batches
from genbench.engine.task import Task
from genbench.errors import ConfigError
from genbench.tasks.base import Parts

__all__ = ["assemble", "build_task", "make_batches", "ready_task"]


def build_task(config: Config, device: torch.device, dataset: Dataset | None = None) -> Task:
    """The task with all its components on `device`, as `genbench.engine.device.resolve` returned it, seeded.

    `dataset` is the configuration's, where it was built before. Raises ConfigError and DataError.
    """
    devices.seed_everything(config.seed, config.deterministic)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    devices.check_precision(device, config.trainer.precision)
    if dataset is None:
        dataset = load(config.dataset, Path(config.data_root)).to(device)
    return assemble(config, dataset, device)


def assemble(config: Config, dataset: Dataset, device: torch.device) -> Task:
    """The task with all its components on the device of the data set. Raises ConfigError for what does not fit."""
    model = registry.build("model", config.model, dataset.shape, dataset.classes)
    model = model.to(device, memory_format=devices.training_layout(device))
    if not hasattr(model, "critic"):
        _refuse_what_is_for_critics(config)
    critic_optimizer = config.critic_optimizer or config.optimizer
    parts = Parts(
        model=model,
        loss=registry.build("loss", config.loss),
        regularizer=registry.build("regularizer", config.regularizer),
        dataset=dataset,
        make_optimizer=lambda parameters: registry.build("optimizer", config.optimizer, parameters),
        make_critic_optimizer=lambda parameters: registry.build("optimizer", critic_optimizer, parameters),
        device=device,
        seed=config.seed,
        batch_size=min(config.trainer.batch_size, len(dataset.train)),  # a larger batch is all of them
        precision=config.trainer.precision,
        data_root=Path(config.data_root),
        drop_last=config.trainer.drop_last,
    )
    task: Task = registry.build("task", config.task, parts)
    if parts.classes and len(task.training_data) == 1:
        raise ConfigError(
            f"task={config.task['name']} trains on images alone, and a class-conditional model needs their labels",
            "set model.conditional=false",
        )
    return task


def _refuse_what_is_for_critics(config: Config) -> None:
    """Raise ConfigError if something was chosen that would do nothing, and be part of the run's name."""
    model = config.model["name"]
    if config.regularizer["name"] != "none":
        raise ConfigError(
            f"model={model} has no critic that regularizer={config.regularizer['name']} could regularize",
            "set regularizer=none",
        )
    if config.critic_optimizer is not None:
        raise ConfigError(
            f"model={model} has no critic that a critic_optimizer could train",
            "set critic_optimizer=null, and choose the model's by optimizer",
        )


def ready_task(config: Config, device: torch.device, dataset: Dataset | None = None) -> Task:
    """`build_task`, and everything loaded that training and evaluation need."""
    task = build_task(config, device, dataset)
    with devices.isolated_rng(config.seed, device):  # what is found in a cache and what is not train alike
        task.before_training()
    return task


def make_batches(config: Config, task: Task) -> Batches:
    """The stream of batches that the task's training steps are fed from."""
    trainer = config.trainer
    return Batches(task.training_data, trainer.batch_size, config.seed, trainer.drop_last, task.batches_per_step)
