"""A relay that cuts connections in the middle of an answer."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx


class Cutter:
    """A relay to a server that cuts each connection after so many bytes of its answer, then of the next."""

    def __init__(self, address: str, limits: Iterator[int]) -> None:
        self._target = httpx.URL(address)
        self._limits = limits
        self.num_cut = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Give the address of the relay."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=self._serve, args=(listener,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(connection, next(self._limits)), daemon=True).start()

    def _relay(self, connection: socket.socket, limit: int) -> None:
        with connection, socket.create_connection((self._target.host, self._target.port)) as server:
            threading.Thread(target=self._pass_on, args=(connection, server), daemon=True).start()
            while limit and (chunk := server.recv(min(4096, limit))):
                connection.sendall(chunk)
                limit -= len(chunk)
            self.num_cut += not limit
            for each in (connection, server):  # not closed only: the other thread still reads from them
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _pass_on(connection: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := connection.recv(65_536):
                server.sendall(chunk)
