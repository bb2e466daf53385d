"""Jobs of a sweep, and where they run: in this process, in others of this machine, on a cluster.

A sweeper chooses the jobs, a launcher runs them. The parent knows all of them from their run directories, whoever ran
them.
"""

from genbench.launching.command import Command
from genbench.launching.launcher import Here
from genbench.launching.local import Local
from genbench.launching.on_ray import OnRay
from genbench.launching.slurm import Slurm
from genbench.launching.sweeper import Grid
from genbench.launching.tuner import Tuner

__all__ = ["Command", "Grid", "Here", "Local", "OnRay", "Slurm", "Tuner"]
