"""A family of models that only tests of the report know: what its runs say, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from genbench.config import Config, Reference, TrainerConfig
from genbench.engine.measurement import Family, Measurement, Quantity

__all__ = ["CURVES", "HEIGHT", "KITES", "LINE", "QUANTITIES", "TILT", "Logged", "configuration", "draw"]

Logged = Mapping[int, Mapping[str, float | Measurement]]
"""Step → what was logged there; plain numbers are measurements with nothing beside them."""

KITES = Family("Kites")
HEIGHT = Quantity("test/height", "mean height", "m", "higher", 2, truth_label="of a perfect kite")
TILT = Quantity("valid/tilt", "tilt", "rad", "lower", 3)
LINE = Quantity("test/line", "length of the line", "m", "", 1)
QUANTITIES = (HEIGHT, TILT, LINE)
CURVES: Logged = {10: {"valid/tilt": 0.5}, 20: {"valid/tilt": 0.25, "test/height": Measurement(101.0, 0.5)}}


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
        dataset={"name": "plane", "target": "arcs", "wind": 1.0},
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


def draw(path: Path, family: str = "") -> None:
    """A picture whose content depends on its name; those of sweeps say whose `family` they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(path.name))
    labels = PngInfo()
    labels.add_text("Family", family)
    Image.fromarray(random.integers(0, 255, (64, 300, 3), dtype=np.uint8)).save(path, pnginfo=labels)
