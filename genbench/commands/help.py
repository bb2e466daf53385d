"""`genbench --help`: usage, and all choices in the shipped configuration."""

from __future__ import annotations

from genbench.compose import CONFIG_DIRECTORY, GROUPS
from genbench.naming import natural

__all__ = ["help_text"]

HELP = """\
genbench: train and measure classic deep generative models.

  genbench experiment=NAME [KEY=VALUE …]              one run
  genbench -m experiment=NAME seed=1,2,3              a sweep: all combinations of the listed values
  genbench -m 'experiment=glob(dirac-*)'              a sweep over all experiments that match a pattern
  genbench -m … hydra/launcher=local                  several runs at a time; slurm and ray: on a cluster
  genbench -m … hydra/sweeper=optuna                  values by what earlier runs achieved
  genbench experiment=NAME --cfg job --resolve        print the composed configuration and exit
  genbench --config-dir DIR experiment=NAME           an experiment of your own, DIR/experiment/NAME.yaml
  genbench-report outputs --out report                compare all runs on one page
  genbench-figures --help                             redraw, compare and animate finished runs
  tensorboard --logdir outputs

Results are stored in outputs/<experiment>/<run>/. The same command resumes an interrupted run or skips a
finished one.

Common keys: seed, device (auto, cpu, cuda, cuda:N, mps), data_root ($GENBENCH_DATA or data/),
trainer.epochs, trainer.max_steps, trainer.batch_size, optimizer.lr, model.width (if the model has one).

Exit codes: 0 done, 1 failed, 2 bad input, 3 diverged, 4 locked by another process, 130 / 143 interrupted.
"""


def help_text() -> str:
    """Usage and all choices in the shipped configuration. Imports no PyTorch."""
    lines = [HELP]
    for group in GROUPS:
        names = sorted(path.stem for path in (CONFIG_DIRECTORY / group).glob("*.yaml"))
        if group == "experiment":
            lines.append("experiment=")
            lines += [f"  {name:<20} {_description(name)}".rstrip() for name in sorted(names, key=natural)]
        else:
            lines.append(f"{group}= {', '.join(names)}")
    return "\n".join(lines)


def _description(experiment: str) -> str:
    """The first comment of an experiment's YAML."""
    with (CONFIG_DIRECTORY / "experiment" / f"{experiment}.yaml").open(encoding="utf-8") as file:
        comments = (line[1:].strip() for line in file if line.startswith("#") and "@package" not in line)
        return next(comments, "")
