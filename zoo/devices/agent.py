"""Torch's elastic agent: it starts the processes of this machine, watches them, and replaces those that are killed."""

from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent


class Agent(LocalElasticAgent):
    """Replaces processes that a signal ended. One that refused or raised would do so again."""

    def _monitor_workers(self, worker_group: Any) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.is_failed() and any(failure.exitcode >= 0 for failure in result.failures.values()):
            self._remaining_restarts = 0
        return result
