"""The parent of several worker processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from .errors import ConfigurationError
from .log import get_logger
from .worker_metrics import MetricsDirectory

#: Seconds that a worker may take to start.
START_SECONDS = 30


class Supervisor(Multiprocess):
    """Starts workers, replaces those that die, and passes a reload on to them.

    Args:
        config: How each of them serves.
        sockets: Where they listen.
        check: Loads the configuration again; raises ``ConfigurationError`` if it is wrong.
        ready: Called once when all of them serve.
        metrics: Their metrics.

    Attributes:
        failed: Whether everything ended because a worker could not start.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        *,
        check: Callable[[], None],
        ready: Callable[[], None],
        metrics: MetricsDirectory,
    ) -> None:
        super().__init__(config, sockets)
        self._check = check
        self._ready = ready
        self._metrics = metrics
        self.failed = False

    def init_processes(self) -> None:
        super().init_processes()
        if all(worker.wait_until_ready(START_SECONDS) for worker in self.processes):
            self._ready()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that ended.

        The one of uvicorn asks each worker over a pipe whether it lives, and waits long for one
        that is just ending; until then no signal is heard.
        """
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set() or worker.exitcode is None:
                continue
            worker.kill()  # closes its pipes; the process has ended
            self._bury(worker)
            if worker.exitcode == STARTUP_FAILURE:
                # The next one would fail as well, for ever.
                self.failed = True
                self.should_exit.set()
                return
            get_logger().error(
                "worker died, another one starts", pid=worker.pid, exit_code=worker.exitcode
            )
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()

    def handle_hup(self) -> None:
        """Let every worker reload, unless the new configuration is wrong."""
        try:
            self._check()
        except ConfigurationError as error:
            get_logger().error("reload refused, the old configuration goes on", error=str(error))
            return
        except Exception:
            # It would end the supervisor, and the service with it.
            get_logger().exception("reload failed, the old configuration goes on")
            return
        for worker in self.processes:
            if worker.pid is not None and worker.exitcode is None:
                os.kill(worker.pid, signal.SIGHUP)

    def handle_ttou(self) -> None:
        """One worker fewer, down to one."""
        before = list(self.processes)
        super().handle_ttou()
        for worker in before:
            if worker not in self.processes:
                self._bury(worker)

    def _bury(self, worker: Process) -> None:
        """Wait for the end of a worker, and take it out of the metrics."""
        worker.join()
        assert worker.pid is not None  # it was started
        try:
            self._metrics.retire(worker.pid)
        except Exception:
            # Its gauges stay; that is no reason to leave its place empty.
            get_logger().exception("the metrics of a dead worker stay", pid=worker.pid)


__all__ = ["START_SECONDS", "Supervisor"]
