"""`genbench --help`: usage, and all choices, plug-ins' included. `genbench` alone: where to begin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genbench.catalogue.files import offered
from genbench.commands.text import COMMANDS, paragraphs, terms, width
from genbench.compose import GROUPS

__all__ = ["FIRST", "help_text", "introduction"]

FIRST = "vae-mnist5k"

INTRODUCTION = """\
genbench trains and measures classic deep generative models: GANs, VAEs, normalizing flows, PixelCNNs. An experiment \
is one YAML file with its published values; each run reports its own measurement next to them.
"""

BEGIN = (
    (f"genbench experiment={FIRST}", ""),  # what its YAML says
    ("genbench experiment=dirac-w1-3", "a GAN of three parameters, compared with exact theory"),
    ("genbench-report outputs --out report", "all runs on one page, report/index.html"),
)
GO_ON = (
    ("genbench --help", "all experiments and components, exit codes"),
    (f"genbench explain {FIRST}", "what an experiment is and what is published of it"),
    ("genbench explain optimizer.lr", "what a key means; every key is in docs/keys.md"),
    ("docs/usage.md", "sweeps, data, devices, trained models in Python"),
)

USES = (
    ("genbench experiment=NAME [KEY=VALUE …]", "one run"),
    ("genbench -m experiment=NAME seed=1,2,3", "a sweep: all combinations of the listed values"),
    ("genbench -m 'experiment=glob(dirac-*)'", "a sweep over all experiments that match a pattern"),
    ("genbench -m … hydra/launcher=local", "several runs at a time; slurm and ray: on a cluster"),
    ("genbench -m … hydra/sweeper=optuna", "values by what earlier runs achieved"),
    ("genbench explain NAME|KEY …", "what an experiment, a component or a key is"),
    ("genbench experiment=NAME --cfg job --resolve", "print the composed configuration and exit"),
    ("genbench --config-dir DIR experiment=NAME", "an experiment of your own, DIR/experiment/NAME.yaml"),
    ("genbench --version", "the version of genbench"),
    ("genbench-report outputs --out report", "compare all runs on one page"),
    ("genbench-figures --help", "redraw, compare and animate finished runs"),
    ("tensorboard --logdir outputs", "curves, pictures, hyperparameters"),
)

TEXT = """\
Results are stored in outputs/<experiment>/<run>/. The same command resumes an interrupted run or skips a \
finished one.

Common keys: seed, device (auto, cpu, cuda, cuda:N, mps), data_root ($GENBENCH_DATA or data/), trainer.epochs, \
trainer.max_steps, trainer.batch_size, optimizer.lr, model.width (if the model has one).

Exit codes: 0 done, 1 failed, 2 bad input, 3 diverged, 4 locked by another process, 130 / 143 interrupted.
"""


def introduction() -> str:
    """What `genbench` says when it is asked for nothing."""
    described = [(command, text or offered().description("experiment", FIRST)) for command, text in BEGIN]
    lines = [*paragraphs(INTRODUCTION, width(), ""), "", "To begin:", *terms(described, width(), share=COMMANDS)]
    return "\n".join([*lines, "", "To go on:", *terms(GO_ON, width(), share=COMMANDS)])


def help_text(own: Sequence[Path] = ()) -> str:
    """Usage and all choices, with those in the user's directories `own`. Imports no PyTorch, nor any plug-in."""
    catalogue = offered(own)
    lines = [
        "genbench: train and measure classic deep generative models.",
        "",
        *terms(USES, width(), share=COMMANDS),
        "",
    ]
    lines += [*paragraphs(TEXT, width(), ""), ""]
    experiments = ((name, catalogue.description("experiment", name)) for name in catalogue.names("experiment"))
    lines += ["experiment=", *terms(experiments, width()), ""]
    others = ((f"{group}=", ", ".join(catalogue.names(group))) for group in GROUPS if group != "experiment")
    return "\n".join([*lines, *terms(others, width(), "")])
