"""A process that is kept running beside this one: started again when it ends, and ended with us.

It learns by the end of its stdin that it is to end, also where we were killed. Knows nothing of what it does.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.private import make_private

logger = logging.getLogger(__name__)

STEADY_SECONDS = 60.0
"""A process that ran so long had begun well."""
MAX_DOUBLINGS = 6
"""Of the pause before it is started again."""


class Child:
    """Keeps a process running from ``start`` to ``stop``.

    Args:
        name: What it is, for people.
        command: Its command line.
        log: What it prints goes there.
        environment: Its variables beside those that it inherits.
        descriptors: Open files of ours that it inherits.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
        back_off_seconds: float = 1.0,
    ) -> None:
        self._name = name
        self._command = command
        self._log = log
        self._environment = dict(environment)
        self._descriptors = tuple(descriptors)
        self._back_off_seconds = back_off_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        """Held while the process is started."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    @property
    def pid(self) -> int | None:
        """The process id, None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Begin, in a thread."""
        make_private(self._log.parent)
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Tell the process to end, and return whether it did, and well, within so many seconds."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join()
        return process is not None and process.wait() == 0

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run_once()
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            if failures == 1:  # said once, tried again ever more rarely
                logger.warning(
                    "%s ended, %s, and is started again; its log: %s", self._name, _how(code), self._log
                )
            self._stopping.wait(self._back_off_seconds * 2 ** min(failures - 1, MAX_DOUBLINGS))

    def _run_once(self) -> int:
        try:
            with self._lock, self._log.open("ab") as log:
                if self._stopping.is_set():
                    return 0
                self._process = process = subprocess.Popen(  # noqa: S603 - the command is ours
                    self._command,
                    env={**os.environ, **self._environment},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=self._descriptors,
                    start_new_session=True,  # Ctrl-C in the terminal reaches us alone
                )
        except OSError:
            logger.exception("%s cannot be started", self._name)
            return 1
        code = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return code


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
