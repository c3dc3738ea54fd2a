"""What the SQL store promises beyond the contract: schema, processes, crashes, and a database that is away."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, MetaData, Table, inspect, select, text
from sqlalchemy.event import listen
from sqlalchemy.exc import StatementError

from nas.edits import Edit
from nas.errors import StoreFull, StoreUnavailable
from nas.history import HistoryFilter, HistoryOrder, keys_of
from nas.listing import SearchFilter, SearchOrder
from nas.orders import Cancel
from nas.search import SearchState
from nas.storage import engine, tables
from nas.storage.history_sql import MOST_FEW, few_searches, listed
from nas.storage.memory import InMemoryStore
from nas.storage.queries import listed_searches
from nas.storage.rows import row_of
from nas.storage.sql import SqlStore, open_store
from nas.storage.store import RequestKey
from tests.postgres import private_server
from tests.searches import MEASUREMENT, after, make_attempt, make_point, make_search, make_spec, make_trial

ROOT = Path(__file__).parents[3]
KEY = RequestKey(key="one", fingerprint="a")
WRITER = """
import sys
from nas.storage.rows import row_of
from nas.storage.sql import open_store
from tests.searches import after, make_point, make_search, make_trial

address, name, num_trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(address)
store.add_search(make_search(name))
lease = store.claim(name, name, at=after(0), until=after(60))
for number in range(num_trials):
    store.save_trial(make_trial(number, search_id=name), lease)
    store.add_point(make_point(number), lease)
    print(number, flush=True)
store.close()
"""


@pytest.fixture(scope="module")
def server():
    with private_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    """The address of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/nas.db"
    return request.getfixturevalue("server").new_database()


@pytest.fixture
def opened():
    """Open stores that are closed at the end."""
    stores = []

    def open_one(address: str, *, migrate: bool = True, **options) -> SqlStore:
        stores.append(SqlStore(address, **options))
        if migrate:
            stores[-1].upgrade()
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def start_writer(address: str, name: str, num_trials: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, address, name, str(num_trials)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


# Schema


def test_migrations_lead_to_the_tables_that_queries_are_written_against(address, opened):
    store = opened(address)
    with store._database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_a_present_schema_is_left_alone(address, opened):
    opened(address).add_search(make_search())
    store = opened(address)
    assert store.list_searches() == [make_search()]
    store.ping()


def test_a_database_without_schema_is_not_ready(address, opened):
    with pytest.raises(StoreUnavailable, match=r"found no schema, allowed by this version: \d{4}$"):
        opened(address, migrate=False).ping()


def test_a_newer_schema_is_refused(address, opened):
    """An old program must not write what a newer one keeps otherwise."""
    store = opened(address)
    with store._database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (store.ping, store.upgrade):
        with pytest.raises(StoreUnavailable, match=r"found schema 9999, allowed by this version: \d{4}$"):
            refused()


def test_a_database_of_an_earlier_version_is_brought_up_to_date_with_what_it_holds(address, opened):
    store = opened(address, migrate=False)
    command.upgrade(store._migrations, "0001")
    insert(store, tables.searches, row_of(make_search()))
    store.upgrade()
    assert store.list_searches() == [make_search()]
    assert store.add_search(make_search(cloned_from="x", search_id="new"), KEY).id == "new"
    assert store.keyed_search(KEY) == store.get_search("new")
    assert store.edit_search("search-1", Edit(owner="Ann", tags=("a",))).version == 1
    assert [search.id for search in store.list_searches(SearchFilter(owner="Ann", tags=("a",)))] == [
        "search-1"
    ]


def test_sums_of_an_earlier_version_are_made_from_what_it_holds(address, opened, tmp_path):
    """A database of before, with the history that a present one has summed up as it was written."""
    present = opened(f"sqlite:///{tmp_path}/present.db", clock=lambda: after(9))
    for name in ("idle", "busy"):
        present.add_search(make_search(name))
    lease = present.claim("busy", "runner", at=after(0), until=after(60))
    for number in range(3):
        trial = make_trial(number, search_id="busy").started(after(0))
        present.save_trial(trial, lease)
        present.save_attempt(make_attempt(number, search_id="busy", ended_at=after(number)), lease)
        for tokens in range(number):
            present.add_point(make_point(number, tokens, at=after(tokens)), lease)
        if number:
            present.save_trial(trial.completed(replace(MEASUREMENT, loss=number), "student", after(9)), lease)
    store = opened(address, migrate=False)
    command.upgrade(store._migrations, "0004")
    with present._database.reading() as source, store._database.writing() as target:
        rows = {
            table: source.execute(select(table)).mappings().all()
            for table in tables.metadata.sorted_tables
            if inspect(target).has_table(table.name)
        }
    for table, held in rows.items():
        insert(store, table, *held)
    store.upgrade()
    ids = ["idle", "busy"]
    assert store.tallies(ids) == present.tallies(ids)
    assert store.tallies(ids)["busy"].best.number == 1
    assert store.totals() == present.totals()


def insert(store, table, *rows):
    """Write rows into a table of an earlier version, with those of their columns that it has."""
    with store._database.writing() as connection:
        present = {column["name"] for column in inspect(connection).get_columns(table.name)}
        earlier = Table(table.name, MetaData(), *(Column(name, table.c[name].type) for name in present))
        for row in rows:
            connection.execute(earlier.insert().values({n: v for n, v in row.items() if n in present}))


def test_what_was_measured_before_there_was_a_history_is_in_it(address, opened):
    """As if each trial had become final just now."""
    store, model = opened(address, migrate=False), InMemoryStore()
    command.upgrade(store._migrations, "0004")
    for search_id in ("s0", "s1", "empty"):
        search = make_search(search_id, owner="Ann", tags=("a",))
        model.add_search(search)
        insert(store, tables.searches, row_of(search))
    for search_id in ("s0", "s1"):
        lease = model.claim(search_id, "runner", at=after(0), until=after(60))
        for number in range(4):
            trial = make_trial(number, search_id=search_id).started(after(1))
            model.save_trial(trial, lease)
            for tokens in (0, 500) if number < 3 else (0,):
                model.add_point(make_point(number, tokens, 3.0 + number), lease)
            if number == 0:
                model.save_trial(trial.completed(MEASUREMENT, "student", after(2)), lease)
            elif number != 1:
                model.save_trial(trial.cancelled(after(3 + number)), lease)
        insert(store, tables.trials, *map(row_of, model.trials(search_id)))
        points = [
            {"search_id": search_id, "trial_number": each.trial_number, **row_of(each.point)}
            for each in model.points(search_id)
        ]
        insert(store, tables.points, *points)
    store.upgrade()
    assert store.history.measurements() == model.history.measurements()
    assert [entry.measured.place for entry in store.history.measurements()] == [
        ("s1", 2), ("s0", 2), ("s1", 0), ("s0", 0),
    ]  # fmt: skip
    assert store.history.parents() == model.history.parents()
    assert store.history.parents()[0].parent_key == keys_of(make_spec(), None).parent
    lease = store.claim("s0", "runner", at=after(0), until=after(60))
    store.save_trial(model.trials("s0")[1].completed(MEASUREMENT, "student", after(9)), lease)
    assert store.history.parents()[0].num_measurements == 5


def test_a_key_is_known_to_the_next_process(address, opened):
    store = opened(address)
    store.add_search(make_search(), KEY)
    store.close()
    assert opened(address).add_search(make_search("search-2"), KEY) == make_search()


def test_processes_that_start_at_once_make_one_schema(address, opened):
    writers = [start_writer(address, f"s{number}", 1) for number in range(3)]
    assert [(writer.communicate()[0], writer.returncode) for writer in writers] == [("0\n", 0)] * 3
    store = opened(address, migrate=False)
    store.ping()
    assert len(store.list_searches()) == 3


# Processes


def test_a_reader_misses_nothing_while_processes_write(address, opened):
    store = opened(address)
    writers = [start_writer(address, f"s{number}", 20) for number in range(2)]
    read = []
    while len(read) < 2 * (1 + 2 * 20):
        read += store.events(after=read[-1].sequence if read else 0, limit=5)
        assert not any(writer.poll() for writer in writers)
    for writer in writers:
        writer.communicate()
    assert [event.sequence for event in read] == list(range(1, len(read) + 1))
    assert read == store.events()


@pytest.mark.parametrize("seed", range(3))
def test_a_process_killed_while_it_writes_leaves_whole_transactions(address, opened, seed):
    """What it acknowledged is there, and every object has its event and every event its object."""
    writer = start_writer(address, "s", 1_000_000)
    acknowledged = [int(writer.stdout.readline()) for _ in range(5)]
    time.sleep(random.Random(seed).uniform(0, 0.1))
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.communicate()[0].split("\n")[:-1]]
    assert writer.returncode == -signal.SIGKILL

    store = opened(address)
    if address.startswith("sqlite"):
        with store._database.reading() as connection:
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
    trials = [trial.number for trial in store.trials("s")]
    points = [point.trial_number for point in store.points("s")]
    assert points[: len(acknowledged)] == acknowledged
    assert trials in (points, [*points, len(points)])
    told = store.events(limit=100_000)
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert [event.trial_number for event in told if event.kind == "trial"] == trials
    assert [event.trial_number for event in told if event.kind == "point"] == points

    again = store.claim("s", "successor", at=after(60), until=after(120))
    store.save_trial(make_trial(len(trials), search_id="s"), again)


def test_a_write_that_fails_changes_nothing(address, opened):
    """The change and the event that tells of it are one transaction."""

    def no_time() -> datetime:
        raise RuntimeError("no time")

    store, broken = opened(address), opened(address, clock=no_time)
    store.add_search(make_search())
    lease = store.claim("search-1", "runner", at=after(0), until=after(60))
    store.save_trial(make_trial(), lease)
    for write in (
        lambda: broken.add_search(make_search("search-2")),
        lambda: broken.save_search(make_search(parent_loss=1.0), lease),
        lambda: broken.save_trial(make_trial().started(after(1)), lease),
        lambda: broken.add_point(make_point(), lease),
        lambda: broken.give_order("search-1", Cancel(), at=after(1)),
        lambda: broken.edit_search("search-1", Edit(tags=("a",))),
    ):
        with pytest.raises(RuntimeError, match="no time"):
            write()
    assert store.list_searches() == [make_search()]
    assert store.list_searches(SearchFilter(tags=("a",))) == []
    assert store.trials("search-1") == [make_trial()]
    assert store.points("search-1") == []
    assert len(store.events()) == 2


# Long histories

INDEXED = {
    "not archived": (SearchFilter(archived=False), "ix_searches_archived_created_at_id"),
    "of an owner": (SearchFilter(owner="Ann"), "ix_searches_owner_created_at_id"),
    "with a tag": (SearchFilter(tags=("rare",)), "search_tags"),
}


@pytest.mark.parametrize(("which", "index"), INDEXED.values(), ids=INDEXED)
@pytest.mark.parametrize("place", [None, "s5"])
def test_a_page_of_a_long_history_is_read_from_an_index(tmp_path, opened, which, index, place):
    """No page reads every search or sorts them all."""
    store = opened(f"sqlite:///{tmp_path}/nas.db")
    steps = explained(store, listed_searches(which, SearchOrder.NEWEST, place).limit(50))
    assert any(index in step for step in steps), steps
    assert not any(step.startswith("SCAN searches") and "USING INDEX" not in step for step in steps), steps


HISTORY = {
    "all": (HistoryFilter(), ""),
    "of searches not archived": (HistoryFilter(searches=SearchFilter(archived=False)), ""),
    "of a parent": (HistoryFilter(parent_key="p"), "parent_key_"),
    "of a parent, small": (HistoryFilter(parent_key="p", max_parameters=10**9), "parent_key_"),
    "of an architecture": (HistoryFilter(architecture="L4"), "name_"),
}


PLACE = {"search_id": "s", "trial_number": 1, "at": after(1), "loss": 1.0, "num_parameters": 9}


@pytest.mark.parametrize("asked", HISTORY.values(), ids=HISTORY)
@pytest.mark.parametrize("order", HistoryOrder)
@pytest.mark.parametrize("place", [None, PLACE], ids=["first", "later"])
def test_a_page_of_measurements_is_read_from_an_index_in_its_order(tmp_path, opened, asked, order, place):
    """Nothing is sorted, so a page reads as many rows as it has, and those that a filter leaves out between them."""
    store = opened(f"sqlite:///{tmp_path}/nas.db")
    which, begin = asked
    steps = explained(store, listed(which, order, place).limit(50))
    index = f"ix_measurements_{begin}{order.field}_search_id_trial_number"
    assert f"USING INDEX {index}" in steps[0], steps
    assert place is None or not steps[0].startswith("SCAN"), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps
    others = [step for step in steps[1:] if step.startswith(("SEARCH", "SCAN"))]
    assert all("sqlite_autoindex_searches_1 (id=?)" in step for step in others), steps


@pytest.mark.parametrize("order", HistoryOrder)
def test_what_few_searches_measured_is_found_by_them(tmp_path, opened, order):
    """However long the history of others is."""
    store = opened(f"sqlite:///{tmp_path}/nas.db")
    which = HistoryFilter(searches=SearchFilter(owner="Ann"), parent_key="p")
    steps = explained(store, listed(which, order, PLACE, ["s0", "s1"]).limit(50))
    assert "SEARCH measurements USING INDEX sqlite_autoindex_measurements_1 (search_id=?)" in steps
    assert sum("measurements" in step for step in steps) == 1, steps
    store.add_search(make_search("s0", owner="Ann"))
    for number in range(1, MOST_FEW + 2):
        store.add_search(make_search(f"s{number}"))
    with store._database.reading() as connection:
        assert few_searches(connection, which) == ["s0"]
        assert few_searches(connection, HistoryFilter()) is None
        assert few_searches(connection, HistoryFilter(searches=SearchFilter(archived=False))) is None
        assert few_searches(connection, HistoryFilter(searches=SearchFilter(owner="Nobody"))) == []


def explained(store, query):
    """Return how SQLite would go about a query."""
    with store._database.reading() as connection:
        compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
        return [step[-1] for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]


def test_pages_of_a_search_and_its_points_are_read_by_their_key(tmp_path, opened):
    store, asked = opened(f"sqlite:///{tmp_path}/nas.db"), []
    store.add_search(make_search("s"))
    lease = store.claim("s", "runner", at=after(0), until=after(60))
    store.save_trial(make_trial(4, search_id="s"), lease)
    store.add_point(make_point(4, 5), lease)
    with store._database.reading() as connection:
        listen(connection.engine, "before_cursor_execute", lambda *told: asked.append(told[2:4]))
    assert store.list_trials("s", after=(None, 3))
    assert store.history.points_after("s", (4, 4))
    assert store.points("s", {3, 4})
    queries = [each for each in asked if each[0].startswith("SELECT")]
    assert len(queries) == 3
    for statement, values in queries:
        with store._database.reading() as connection:
            (step,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        assert step[-1].startswith("SEARCH"), step
        assert "(search_id=? AND" in step[-1], step


# Values


def test_times_come_back_in_utc(address, opened):
    store = opened(address)
    tokyo = timezone(timedelta(hours=9))
    store.add_search(make_search(created_at=datetime(2026, 3, 1, 8, 30, tzinfo=tokyo)))
    created = store.get_search("search-1").created_at
    assert created == datetime(2026, 3, 1, 8, 30, tzinfo=tokyo)
    assert created.utcoffset() == timedelta(0)
    assert (created.day, created.hour) == (28, 23)
    assert store.events()[0].at.utcoffset() == timedelta(0)


def test_a_time_without_zone_is_a_mistake(address, opened):
    with pytest.raises(StatementError, match="no time zone"):
        opened(address).add_search(make_search(created_at=after(0).replace(tzinfo=None)))


def test_states_and_losses_can_be_queried_by_others(address, opened):
    """Columns, not documents: a team can look into its own database."""
    store = opened(address)
    store.add_search(replace(make_search(), state=SearchState.FAILED, parent_loss=1.5))
    with store._database.reading() as connection:
        query = text("SELECT id FROM searches WHERE state = 'FAILED' AND parent_loss < 2")
        assert connection.scalars(query).all() == ["search-1"]


# Databases that are away


def test_a_database_that_is_away_is_named_and_found_again(server, opened):
    """A restart of the server costs the calls in between, not the process."""
    store = opened(server.new_database())
    store.add_search(make_search())
    server.stop()
    try:
        with pytest.raises(StoreUnavailable, match=r"postgresql\+psycopg://nas@"):
            store.get_search("search-1")
        with pytest.raises(StoreUnavailable):
            store.ping()
    finally:
        server.start()
    store.ping()
    server.stop()
    server.start()
    assert store.get_search("search-1") == make_search()


def test_a_writer_that_waits_too_long_gives_up_and_readers_never_wait(address, opened, monkeypatch):
    monkeypatch.setattr(engine, "WAIT_SECONDS", 0.1)
    store, other = opened(address), opened(address)
    store.add_search(make_search())
    with other._database.writing():
        with pytest.raises(StoreUnavailable, match=r"database is locked|lock timeout"):
            store.give_order("search-1", Cancel(), at=after(1))
        assert store.get_search("search-1") == make_search()
    assert store.give_order("search-1", Cancel(), at=after(1)).state is SearchState.CANCELLED


def test_sqlite_is_durable_and_checks_references(tmp_path, opened):
    store = opened(f"sqlite:///{tmp_path}/deep/er/nas.db")
    with store._database.reading() as connection:
        found = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nonsense", "found an address that cannot be read, allowed: sqlite:///FILE or postgresql"),
        ("postgresql://me:secret@host:port/nas", "found an address that cannot be read"),
        ("sqlite://", "found sqlite:///, allowed: sqlite:///FILE"),
        ("sqlite:///:memory:", "found sqlite:///:memory:, allowed: sqlite:///FILE"),
        ("mysql://me:secret@host/nas", r"found mysql://me:\*\*\*@host/nas, allowed: sqlite:///FILE"),
        ("postgresql://me:secret@127.0.0.1:1/nas", r"postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/nas: "),
        ("sqlite:////dev/null/nas.db", "sqlite:////dev/null/nas.db: /dev/null: File exists"),
        ("sqlite:////dev", "sqlite:////dev: unable to open database file"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_clear_line(address, reason):
    with pytest.raises(StoreUnavailable, match=f"^(database: )?{reason}") as caught:
        open_store(address)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "nas.db").write_bytes(b"x" * 5000)
    with pytest.raises(StoreUnavailable, match=r"nas\.db: file is not a database"):
        open_store(f"sqlite:///{tmp_path}/nas.db")


def _fill(store, address):
    """Leave no room in a database: SQLite by a limit of its own, PostgreSQL by a trigger that says so."""
    with store._database.writing() as connection:
        if address.startswith("sqlite"):
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        else:
            connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE INSERT ON events EXECUTE FUNCTION refuse()"
            )


def test_a_full_disk_is_told_and_loses_nothing(address):
    store = open_store(address)
    store.add_search(make_search())
    lease = store.claim("search-1", "owner", at=after(0), until=after(60))
    store.save_trial(make_trial(0), lease)
    _fill(store, address)

    def write_on():
        for number in range(1, 1000):
            store.save_trial(make_trial(number), lease)

    with pytest.raises(StoreFull, match="no space left on the disk"):
        write_on()
    kept = store.trials("search-1")
    assert kept == [make_trial(number) for number in range(len(kept))]
    assert len(store.events(search_id="search-1", limit=10_000)) == len(kept) + 1
    store.close()
