"""Ray clusters of several nodes on this machine, each with folders and resources of its own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")
OBJECT_STORE_BYTES = 80_000_000


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its ``ray start``, and the folder in which its workers write their logs."""

    process: subprocess.Popen[bytes]
    folder: Path

    def has_run(self, pid: int) -> bool:
        """Return whether a process was a worker of this node."""
        return any(self.folder.glob(f"session_*/logs/*_{pid}.log"))

    def leave(self) -> None:
        """Take the node out of the cluster, with all that runs on it."""
        self.process.terminate()
        self.process.wait(60)


class Cluster:
    """Nodes by the order in which they were added; the first is the head."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[Node] = []
        self._folder = folder
        with socket.create_server(("", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"{socket.gethostbyname(socket.gethostname())}:{self._port}"
        # A token of its own: whether the machine's user has one must not matter.
        token = folder / "token"
        token.write_text("ab" * 32)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    def add(self, *, num_cpus: int = 1, environment: Mapping[str, str] | None = None) -> Node:
        """Add a node and wait until it has joined."""
        number = len(self.nodes)
        folder = self._folder / str(number)
        folder.mkdir()
        where = (
            [f"--address={self.address}"] if number else ["--head", f"--port={self._port}", "--include-dashboard=false"]
        )  # fmt: skip
        log = folder / "start.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    RAY, "start", "--block", *where, f"--num-cpus={num_cpus}", f"--temp-dir={folder}",
                    f"--node-name=node-{number}", f"--object-store-memory={OBJECT_STORE_BYTES}",
                    f"--min-worker-port={20_000 + 500 * number}", f"--max-worker-port={20_499 + 500 * number}",
                ],
                env=os.environ | self.environment | {"RAY_USAGE_STATS_ENABLED": "0"} | dict(environment or {}),
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while "Ray runtime started" not in log.read_text(errors="replace"):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.1)
        node = Node(process, folder)
        self.nodes.append(node)
        return node


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Give a cluster without nodes; those that are added end with the context, the head last."""
    # A short path: Unix sockets below it may not exceed 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="nas-c-"))
    found = Cluster(folder)
    try:
        yield found
    finally:
        for node in reversed(found.nodes):
            if node.process.poll() is None:
                node.leave()
        shutil.rmtree(folder, ignore_errors=True)
