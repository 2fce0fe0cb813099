"""Torch's elastic agent: it starts the processes of this machine, watches them, and replaces those that are killed."""

import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent


class Agent(LocalElasticAgent):
    """Replaces processes that a signal ended, and says so. One that refused or raised would do so again."""

    tell: Callable[[str, str], None] = staticmethod(lambda label, text: None)

    silent: Callable[[], Collection[int]] = staticmethod(tuple)
    """Gives the ranks that do not answer: a process that is stopped takes no SIGTERM."""

    forget: Callable[[], None] = staticmethod(lambda: None)
    """Drops what the processes said when they failed, before they are replaced."""

    def _monitor_workers(self, worker_group: Any) -> RunResult:
        for worker in worker_group.workers:
            if worker.global_rank in self.silent():
                self._remaining_restarts = 0
                with suppress(ProcessLookupError):
                    os.kill(worker.id, signal.SIGKILL)
        result: RunResult = super()._monitor_workers(worker_group)
        if result.is_failed() and any(failure.exitcode >= 0 for failure in result.failures.values()):
            self._remaining_restarts = 0
        if result.is_failed() and self._remaining_restarts:
            self.forget()
            for rank, failure in result.failures.items():
                left = f"{self._remaining_restarts - 1} more times" if self._remaining_restarts > 1 else "the last time"
                self.tell("replaced", f"process {rank}, ended by {failure.signal_name()}; all go on ({left})")
        return result
