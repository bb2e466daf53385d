"""Jobs on a Ray cluster: one that runs already, or one of this machine that ends with the sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genbench.engine.interrupts import Interrupts
from genbench.errors import ConfigError, first_line, optional_package
from genbench.launching.launcher import Launcher
from genbench.launching.remains import SweepJob, outcome_of
from genbench.launching.work import perform
from genbench.outcome import Outcome

__all__ = ["OnRay"]

LOOK = 1  # seconds until a signal is noticed
# A cluster of our own reserves no third of the memory for objects: jobs send each other nothing.
OWN_CLUSTER = {"object_store_memory": 100 * 2**20, "include_dashboard": False, "configure_logging": True}


class OnRay(Launcher):
    """`address` of a cluster, "auto" for the one that runs on this machine; null: one of our own.

    `cpus` and `gpus` are what a job takes; null GPUs: one where the cluster has any. `init` goes to ray.init.
    """

    elsewhere = True

    def __init__(
        self,
        address: str | None = None,
        cpus: int = 1,
        gpus: float | None = None,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        self._address, self._cpus, self._gpus, self._init = address, cpus, gpus, dict(init or {})

    def run(self, jobs: Sequence[SweepJob]) -> list[Outcome | None]:
        ray: Any = optional_package("ray", "ray")
        own = OWN_CLUSTER if self._address is None else {}
        try:
            ray.init(address=self._address, **(own | self._init))
        except (ConnectionError, RuntimeError, ValueError, TypeError) as error:
            raise ConfigError(
                f"no Ray cluster: {error}", "start one by `ray start --head`, or leave out address"
            ) from error
        try:
            return self._run(ray, jobs)
        finally:
            ray.shutdown()

    def _run(self, ray: Any, jobs: Sequence[SweepJob]) -> list[Outcome | None]:
        gpus = (1 if ray.cluster_resources().get("GPU") else 0) if self._gpus is None else self._gpus
        # No retries: whoever kills a job may have a reason. The same command goes on with it.
        remote = ray.remote(num_cpus=self._cpus, num_gpus=gpus, max_retries=0)(perform)
        waiting = {remote.remote(job.request, self.command.home): job for job in jobs}
        ended: dict[str, Outcome] = {}
        stopping = False
        print(f"{len(jobs)} jobs on Ray, CPUs of each: {self._cpus}, GPUs: {gpus:g}")
        with Interrupts() as interrupts:
            while waiting:
                for handle in ray.wait(list(waiting), timeout=LOOK)[0]:
                    job = waiting.pop(handle)
                    try:
                        ended[job.number] = ray.get(handle)
                    except ray.exceptions.RayError as error:
                        ended[job.number] = outcome_of(job, first_line(error))
                    print(f"{job.label}: {ended[job.number].status}")
                if interrupts.pending is not None and not stopping:
                    stopping = True
                    for handle in waiting:  # in its process it is KeyboardInterrupt, as by Ctrl-C
                        ray.cancel(handle)
            self.command.signal = interrupts.pending
        return [ended.get(job.number) for job in jobs]
