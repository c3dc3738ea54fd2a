"""Connections to SQLite and PostgreSQL, alike in what a transaction promises.

One transaction writes at a time, so a writer sees all that was committed and events are numbered in the
order in which they are committed: SQLite is told to begin with its write lock, PostgreSQL waits for an
advisory lock that ends with the transaction. Readers wait for nobody.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy.orm  # noqa: F401 - SQLAlchemy looks into it if it is there, also while Optuna imports it in a thread
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from nas.errors import StoreFull, StoreUnavailable
from nas.private import make_private

WAIT_SECONDS = 30
"""How long a writer waits for another."""
STUCK_SECONDS = 60
"""How long PostgreSQL bears with a transaction that says nothing, so that a lost client blocks nobody."""
SILENT_SECONDS = 15
"""How long PostgreSQL's machine may leave a packet unanswered; queries and locks may take longer."""
_PG_DISK_FULL = "53100"
_WRITES = "nas_writes"
_LOCK = text("SELECT pg_advisory_xact_lock(6217893204)")
"""The number is arbitrary and must never change."""


class Database:
    """A database by its address; connects when first used.

    Raises:
        StoreUnavailable: An address that names neither a SQLite file nor a PostgreSQL database.
    """

    def __init__(self, address: str) -> None:
        url = _checked(address)
        self.name = _name(url)
        self._engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection to read with."""
        with self._named_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give the connection of the one transaction that writes, committed at the end."""
        with (
            self._named_errors(),
            self._engine.execution_options(**{_WRITES: True}).begin() as connection,
        ):
            if connection.dialect.name == "postgresql":
                connection.execute(_LOCK)
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (IntegrityError, DataError):
            raise  # a mistake of this program's, not of the database's
        except DBAPIError as error:
            if _is_full(error.orig):
                raise StoreFull(f"{self.name}: no space left on the disk that holds it") from error
            raise StoreUnavailable(f"{self.name}: {' '.join(str(error.orig).split())}") from error
        except PoolTimeoutError as error:
            raise StoreUnavailable(f"{self.name}: all connections are in use") from error


def _is_full(error: object) -> bool:
    """Return whether a driver's error says that the disk is full: SQLite's result code, PostgreSQL's state."""
    is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return is_full or getattr(error, "sqlstate", None) == _PG_DISK_FULL


def _checked(address: str) -> URL:
    allowed = "allowed: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise StoreUnavailable(f"database: found an address that cannot be read, {allowed}") from None
    is_file = url.drivername == "sqlite" and url.database not in (None, "", ":memory:")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if not is_file and url.drivername != "postgresql+psycopg":
        raise StoreUnavailable(f"database: found {_name(url)}, {allowed}")
    return url


def _name(url: URL) -> str:
    """Return the address for people: a file as it is called, a server without the password."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database or ''}"
    return url.render_as_string(hide_password=True)


def _sqlite(url: URL) -> Engine:
    directory = Path(str(url.database)).absolute().parent
    try:
        make_private(directory)
    except OSError as error:
        raise StoreUnavailable(f"{_name(url)}: {directory}: {error.strerror}") from error
    engine = create_engine(url, connect_args={"timeout": WAIT_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin below, not by the driver's guess
    for pragma in (
        "journal_mode=WAL",  # readers and the writer do not wait for each other
        "synchronous=FULL",  # what was acknowledged survives a power cut
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: URL) -> Engine:
    limits: dict[str, Any] = {
        "connect_timeout": 10,
        # A server that is gone without a word, with its network or its machine, is one that does not answer.
        "tcp_user_timeout": SILENT_SECONDS * 1000,
        "keepalives_idle": SILENT_SECONDS,
        "keepalives_interval": SILENT_SECONDS // 3,
        "keepalives_count": 3,
        "options": f"-c lock_timeout={WAIT_SECONDS}s -c idle_in_transaction_session_timeout={STUCK_SECONDS}s",
    }
    return create_engine(url, connect_args=limits, pool_pre_ping=True)
