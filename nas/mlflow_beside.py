"""MLflow beside a server or a run: the process that tells it of searches, and one that serves it.

Knows of both no more than their command lines. Where MLflow is not installed there is neither, which is
said once and hinders nothing.
"""

import logging
import socket
import sys
import time
import uuid
from contextlib import suppress
from importlib.util import find_spec

from minitron.errors import MissingExtra
from minitron.extras import EXTRA
from nas.child import Child
from nas.outbox import target_of
from nas.settings import Settings
from nas.storage.store import SearchStore

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
SEND_SECONDS = 120.0
"""How long the end of a run may wait for MLflow to take its winner."""
LEAVE_SECONDS = 10.0
"""How long the end of a server may; what was not sent then is sent by the next."""
POLL_SECONDS = 0.2
_WORKERS = (sys.executable, "-P", "-m", "workers")


class MlflowBeside:
    """Processes beside, from ``start`` to ``stop``.

    Args:
        settings: Say where MLflow is, and whether one is to be served here.
        serves: Whether it may be served; otherwise it is only told.
    """

    def __init__(self, settings: Settings, *, serves: bool) -> None:
        self.address: str | None = None
        """Where the server is, on this machine; None without one."""
        self._listener: socket.socket | None = None
        self._children: list[Child] = []
        """In the order in which they are started."""
        self.is_telling = settings.mlflow and find_spec("mlflow") is not None
        """Whether MLflow is told of searches from here."""
        if not settings.mlflow:
            return
        if not self.is_telling:
            logger.warning(
                "there is no record in MLflow: it is not installed here, and comes with the extra [worker]"
            )
            return
        environment = settings.environment()
        told: tuple[str, ...] = ("--owner", f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}")
        if serves and settings.serves_mlflow:
            self._listener = _listener(settings.mlflow_port)
            self.address = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"
            told = (*told, "--server", self.address)
            descriptor = self._listener.fileno()
            self._children.append(
                Child(
                    "MLflow's server",
                    (*_WORKERS, "--mlflow", str(descriptor)),
                    log=settings.log_directory / "mlflow.log",
                    environment=environment,
                    descriptors=(descriptor,),
                )
            )
        self._projector = Child(
            "what tells MLflow",
            (*_WORKERS, "--project", *told),
            log=settings.log_directory / "mlflow-projector.log",
            environment=environment,
        )
        self._children.append(self._projector)

    def start(self) -> None:
        """Begin, in threads and processes."""
        if self.address is not None:
            logger.info("MLflow is at %s, for this machine alone", self.address)
        for child in self._children:
            child.start()

    def stop(self, seconds: float = LEAVE_SECONDS) -> bool:
        """Send what is left for at most so many seconds, end all, and return whether nothing was left."""
        is_sent = [child.stop(seconds) for child in reversed(self._children)][:1] == [True]
        if self._listener is not None:
            self._listener.close()
        return is_sent


def tell_all(settings: Settings, store: SearchStore, *, again: bool, seconds: float) -> int:
    """Wait until MLflow was told all that is stored by now, and return how many events it was not told in time.

    Whoever has the turn tells it: a process of ours, or one of a server that runs on this database.

    Raises:
        MissingExtra: MLflow is not installed here.
    """
    if find_spec("mlflow") is None:
        raise MissingExtra(f"MLflow is not installed in this Python: pip install '{EXTRA}'")
    target, last = target_of(settings.tracking_uri), store.last_sequence()
    if again:
        store.outboxes.rewind(target)
    beside = MlflowBeside(settings.model_copy(update={"mlflow": True}), serves=False)
    beside.start()
    try:
        deadline = time.monotonic() + seconds
        while (left := _unsent(store, target, last)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return left
    finally:
        beside.stop()


def _unsent(store: SearchStore, target: str, last: int) -> int:
    outbox = store.outboxes.at(target)
    return max(0, last - (outbox.cursor if outbox else 0))


def _listener(port: int) -> socket.socket:
    """Return a socket of this machine alone; held here, it stays while those who serve it come and go."""
    with suppress(OSError):
        return socket.create_server((LOOPBACK, port))
    logger.warning("NAS_MLFLOW_PORT: %d is taken; MLflow gets a free one", port)
    return socket.create_server((LOOPBACK, 0))
