"""Jobs of a sweep, and where they run: in this process, in others of this machine, on a cluster.

A sweeper chooses the jobs, a launcher runs them. The parent knows all of them from their run directories, whoever ran
them.
"""

from genbench.launching.command import Command
from genbench.launching.launcher import Here
from genbench.launching.local import Local
from genbench.launching.sweeper import Grid

__all__ = ["Command", "Grid", "Here", "Local"]
