"""The stores that contracts are held against: in memory, SQLite, and a private PostgreSQL server."""

import pytest

from nas.storage import tables
from nas.storage.memory import InMemoryStore
from nas.storage.sql import open_store
from tests.postgres import private_server


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory):
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('store')}/deep/nas.db")
    yield store
    store.close()


@pytest.fixture(scope="session")
def postgresql():
    with private_server() as server:
        store = open_store(server.new_database())
        yield store
        store.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request):
    """An empty store."""
    if request.param == "memory":
        return InMemoryStore()
    opened = request.getfixturevalue(request.param)
    with opened._database.writing() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            connection.execute(table.delete())
    return opened
