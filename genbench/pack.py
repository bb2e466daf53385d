"""A trained model in a folder of its own: weights, configuration, what was measured, and a model card."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from genbench import config as schema
from genbench import registry
from genbench.errors import ConfigError
from genbench.loaded import WEIGHTS, LoadedRun
from genbench.numerals import number
from genbench.report.cells import Cell, Table, markdown, numeric, text

__all__ = ["pack"]

CARD = "README.md"
PLACES = {"data_root": "data", "output_root": "outputs"}
"""What a packed model says instead of the paths of the machine that trained it."""


def pack(run: LoadedRun, out: Path) -> Path:
    """Write `model.safetensors`, `config.yaml`, `summary.json`, `metrics.jsonl` and a model card into `out`.

    Tensors are called "model/<name>", and "averaged/<name>" for the average of a GAN's generator. `genbench.load`
    takes the folder. Nothing is left of a folder that could not be written as a whole.

    Raises ConfigError if the run is not done, or `out` is not a new or empty directory.
    """
    from safetensors.torch import save

    weights = run.done().task(device="cpu", with_data=False).weights()
    out = out.absolute()  # of ".", too, the name is needed
    # Into an empty folder files are moved one by one: somebody may stand in it.
    part = (out if out.is_dir() else out.parent) / f".{out.name}.part"
    if out.exists() and (not out.is_dir() or any(path != part for path in out.iterdir())):
        raise ConfigError(f"{out} is there already", "choose another --out, or delete it")
    # Cloned, as a file of safetensors refuses tensors that share memory.
    tensors = {
        f"{kind}/{name}": tensor.clone(memory_format=torch.contiguous_format)
        for kind, found in weights.items()
        for name, tensor in found.items()
    }
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        (part / WEIGHTS).write_bytes(save(tensors, {"format": "pt", "experiment": run.config["name"]}))
        (part / "config.yaml").write_text(yaml.safe_dump(_portable(run), sort_keys=False), encoding="utf-8")
        for name in ("summary.json", "metrics.jsonl"):
            shutil.copyfile(run.directory.path / name, part / name)
        (part / CARD).write_text(card(run.summary, out.name), encoding="utf-8")
        if out.exists():
            for path in part.iterdir():
                path.replace(out / path.name)
            part.rmdir()
        else:
            part.replace(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return out


def _portable(run: LoadedRun) -> dict[str, Any]:
    """The configuration, in which nothing names a place of the machine that trained it."""
    config: dict[str, Any] = copy.deepcopy(schema.to_dict(run.checked())) | PLACES
    if "inception_weights" in config["task"]:
        config["task"]["inception_weights"] = None
    dataset = config["dataset"]
    for mark in registry.contents(registry.lookup("dataset", dataset["name"])).values():
        dataset[mark.place] = Path(dataset[mark.place]).name
    return config


def card(summary: dict[str, Any], folder: str) -> str:
    """The model card, in Markdown: what it is, what it measures and how, and how to load it."""
    typed = shlex.split(summary["command"])
    facts = {
        "family": summary["family"]["title"],
        "likelihood": summary["family"]["likelihood"],
        "parameters": f"{summary['parameters']:,}",
        "training": f"{summary['step']:,} steps, {summary['epoch']:.4g} epochs, seed {summary['seed']}",
        "arithmetic": f"{summary['arithmetic']}, on {summary['device']}",
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
        "command": shlex.join(word for word in typed if word.partition("=")[0] not in PLACES),
    }
    measured = [row for quantity in summary["quantities"] if (row := _row(quantity, summary["metrics"]))]
    compared = [
        (
            text(row["metric"]),
            *(numeric(number(row[key])) for key in ("measured", "value")),
            *(text(row[key]) for key in ("source", "verdict")),
        )
        for row in summary["reference"]
    ]
    parts = [
        f"# {summary['title']}",
        _table("", ("", ""), [(text(name), text(fact)) for name, fact in facts.items()]),
        f"    import genbench\n    run = genbench.load({json.dumps(folder)})",
        _table("Measured", ("quantity", "value", "standard error", "unit", "protocol"), measured),
        _table("Compared", ("quantity", "measured", "published", "source", "verdict"), compared) if compared else "",
        summary["note"],
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[Cell, ...]]) -> str:
    return markdown(Table(title, "", columns, tuple(rows)))


def _row(quantity: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> tuple[Cell, ...] | None:
    entry = metrics.get(quantity["name"], {})
    value = entry.get("final", {}).get("value")
    if value is None:
        return None
    protocol = ", ".join(f"{key}: {said}" for key, said in entry.get("protocol", {}).items())
    values = number(value, quantity["decimals"]), number(entry.get("standard_error"), digits=2)
    return text(quantity["label"]), *map(numeric, values), text(quantity["unit"]), text(protocol)
