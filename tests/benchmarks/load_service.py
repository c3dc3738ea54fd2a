"""Latency of the service over a team's history: 1,000 searches of 100 trials, 1,000,000 points, then twice that.

    python -m tests.benchmarks.load_service [sqlite] [postgresql] [--searches 1000] [--seconds 60]

A process of ``python -m api`` is asked 20 times a second, open loop: requests are sent when they are due, whether or
not earlier ones were answered, and each is timed from when it was due.
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import func, literal, select, text

from nas.axes import Axes, Multiples, Range
from nas.budget import Budget
from nas.search import Comparisons, Rungs, Search, SearchState
from nas.service import SearchService
from nas.settings import Settings
from nas.storage import sums, tables
from nas.storage.history_sql import record
from nas.storage.memory import InMemoryStore
from nas.storage.rows import row_of, search_row
from nas.storage.sql import SqlStore, open_store
from nas.tally import effort_of
from nas.trial import Failure, FailureKind
from tests.fakes import ManualClock
from tests.postgres import private_server
from tests.unit.api.seeded import NOW, Played, demo_spec

REQUESTS_PER_SECOND = 20
TARGET_SECONDS = 0.1
OWNERS = ("ann", "bo", "cleo", "dan", "eve")
PARENTS = ("hub:meta-llama/Llama-3.1-8B", "hub:Qwen/Qwen3-8B", "hub:mistralai/Mistral-NeMo", "./ours/base")
AXES = Axes(
    num_layers=(4, 5, 6),
    hidden_size=Range(start=80, stop=128, step=8),
    intermediate_size=Multiples(of_hidden=(1.0, 1.25, 1.5, 1.75, 2.0)),
    num_attention_heads=(4, 8),
)


class Template:
    """One search with its history, made by the real driver; the others are copies under other names."""

    def __init__(self, artifact_root: Path) -> None:
        memory = InMemoryStore(ManualClock(NOW))
        spec = demo_spec(
            axes=AXES, budget=Budget(max_parameters=640_000, min_parameters=400_000), num_trials=98, num_points=9, rungs=Rungs(fractions=()),
            comparisons=Comparisons(random_architectures=1, random_indices=1),
        )  # fmt: skip
        service = SearchService(memory, artifact_root=artifact_root)
        played = Played(memory, ManualClock(NOW), service.create(spec).id).train()
        self.search = played.succeed(artifact_root).search
        trials, points = memory.trials(self.search.id), memory.points(self.search.id)
        attempts = memory.attempts(self.search.id)
        self.trials = [trial for trial in trials if trial.state.is_final]
        rows = [row_of(trial) | sums.measured_columns(trial) for trial in trials]
        for row in rows:
            effort = effort_of(
                [
                    (each.point.num_tokens, each.point.at)
                    for each in points
                    if each.trial_number == row["number"]
                ],
                [(each.started_at, each.ended_at) for each in attempts if each.trial_number == row["number"]],
            )
            row["num_tokens"] = effort.num_tokens
            row["busy_microseconds"] = effort.busy // sums.MICROSECOND
            row["spent_microseconds"] = effort.spent // sums.MICROSECOND
        of_it = {"search_id": self.search.id}
        self.rows: dict[str, list[dict[str, Any]]] = {
            "trials": rows,
            "points": [of_it | {"trial_number": each.trial_number} | row_of(each.point) for each in points],
            "attempts": [row_of(attempt) for attempt in attempts],
            "events": [row_of(event) for event in memory.events(limit=100_000)],
        }

    def copies(self, begin: int, end: int) -> Iterator[Search]:
        """Yield searches that differ as those of a team do."""
        chance = random.Random(begin)
        for number in range(begin, end):
            changes: dict[str, Any] = {}
            if number % 50 == 0:
                changes = {"state": SearchState.RUNNING, "finished_at": None, "winner": None, "evaluated": ()}
            elif number % 9 == 0:
                failure = Failure(kind=FailureKind.ERROR, message="it broke", traceback="Traceback\n" * 20)
                changes = {"state": SearchState.FAILED, "failure": failure, "winner": None, "evaluated": ()}
            name = f"{chance.choice(('llama', 'qwen', 'nemo'))} {chance.choice(('depth', 'width'))} {number}"
            spec = replace(self.search.spec, name=name, seed=number)
            yield replace(
                self.search,
                id=f"260101-{number:06}-bench",
                spec=spec,
                created_at=NOW + timedelta(minutes=number),
                owner=chance.choice(OWNERS),
                tags=tuple(sorted(chance.sample(("kept", "first-try", "paper", "nightly"), 2))),
                notes="What was learnt: depth matters more than width here. " * chance.randrange(20),
                **changes,
            )


def fill(store: SqlStore, template: Template, begin: int, end: int) -> None:
    """Add copies of the template; rows are copied by the database."""
    with store._database.writing() as connection:
        if begin == 0:
            connection.execute(tables.searches.insert().values(row_of(template.search)))
            for name in ("trials", "points", "attempts", "events"):
                connection.execute(tables.metadata.tables[name].insert(), template.rows[name])
            row = search_row(connection, template.search.id)
            for trial in template.trials:
                record(connection, row, trial)
        searches = list(template.copies(begin, end))
        connection.execute(
            tables.searches.insert(), [row_of(search) | {"progressed_at": NOW} for search in searches]
        )
        tags = [{"search_id": search.id, "tag": tag} for search in searches for tag in search.tags]
        connection.execute(tables.search_tags.insert(), tags)
        is_new = tables.searches.c.id.in_([search.id for search in searches])
        for name in ("trials", "points", "attempts", "events", "measurements", "search_sums"):
            table = tables.metadata.tables[name]
            columns: dict[str, Any] = {column.name: column for column in table.c}
            columns["search_id"] = tables.searches.c.id
            if name == "events":
                last = connection.scalar(select(func.max(table.c.sequence)))
                order = (tables.searches.c.created_at, table.c.sequence)
                columns["sequence"] = literal(last) + func.row_number().over(order_by=order)
            copied = (
                select(*columns.values())
                .join_from(table, tables.searches, is_new)
                .where(table.c.search_id == template.search.id)
            )
            connection.execute(table.insert().from_select(list(columns), copied))
        connection.execute(tables.totals.delete())
        for table in (tables.searches, tables.trials):
            counted = select(literal(table.name), table.c.state, func.count()).group_by(table.c.state)
            connection.execute(tables.totals.insert().from_select(["kind", "state", "number"], counted))
        is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:  # what its autovacuum does within minutes
        with store._database._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


@contextmanager
def server(settings: Settings) -> Iterator[tuple[str, psutil.Process]]:
    """Serve in a process of its own; give the address, and the process."""
    command = (sys.executable, "-m", "api", "--port", "0", "--page-only")
    environment = os.environ | settings.environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[-1], psutil.Process(process.pid)
        finally:
            process.terminate()


class Asked:
    """What is asked, by kind: a team's mix, drawn anew each time."""

    def __init__(self, address: str, num_searches: int) -> None:
        self._chance = random.Random(0)
        self._num_searches = num_searches
        self._places: list[dict[str, str]] = []
        with httpx.Client(base_url=f"{address}/api/v1", timeout=60) as http:
            token: str | None = ""
            while token is not None and len(self._places) < 10:
                page = http.get("/searches", params={"page_token": token} if token else {}).json()
                token = page["next_page_token"]
                self._places.append({"page_token": token} if token else {})

    def draw(self) -> tuple[str, str, dict[str, Any]]:
        """Return a kind, its path and parameters."""
        chance = self._chance
        one = f"/searches/260101-{chance.randrange(self._num_searches):06}-bench"
        filters = (
            {"owner": chance.choice(OWNERS)},
            {"tag": "kept", "order_by": "name"},
            {"text": f"depth {chance.randrange(self._num_searches)}"},
            {"state": "RUNNING"},
            {"parent": "tiny", "state": "FAILED"},
        )
        measured = (
            {},
            {"order_by": "loss"},
            {"owner": chance.choice(OWNERS)},
            {"order_by": "-num_parameters", "partial": "false"},
        )
        kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("list", "/searches", {}),
            ("filter", "/searches", chance.choice(filters)),
            ("page", "/searches", chance.choice(self._places)),
            ("get", one, {}),
            ("trials", f"{one}/trials", {"order_by": chance.choice(("number", "loss"))}),
            ("history", "/history", chance.choice(measured)),
            ("history", "/history/parents", {}),
        )
        return chance.choice(kinds)


async def load(address: str, asked: Asked, seconds: float) -> dict[str, list[float]]:
    """Return how long requests of each kind took, from when they were due."""
    taken: dict[str, list[float]] = defaultdict(list)
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)

    async def ask(http: httpx.AsyncClient, due: float) -> None:
        kind, path, parameters = asked.draw()
        answer = await http.get(path, params=parameters)
        answer.raise_for_status()
        taken[kind].append(time.perf_counter() - due)

    async with (
        httpx.AsyncClient(base_url=f"{address}/api/v1", timeout=60, limits=limits) as http,
        asyncio.TaskGroup() as group,
    ):
        begun = time.perf_counter()
        for number in range(round(seconds * REQUESTS_PER_SECOND)):
            due = begun + number / REQUESTS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(ask(http, due))
    return taken


def report(database: str, num_searches: int, taken: dict[str, list[float]]) -> None:
    """Print rows of RESULTS.md's table."""
    together = [each for times in taken.values() for each in times]
    for kind, times in [*sorted(taken.items()), ("all", together)]:
        ordered = sorted(times)
        shares = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99))
        shown = " | ".join(f"{1000 * each:.0f}" for each in shares)
        print(f"| {database} | {num_searches:,} | {kind} | {len(ordered)} | {shown} |", flush=True)


def measure(address: str, *, home: Path, num_searches: int, seconds: float) -> None:
    """Fill a database, ask, double it, ask again."""
    settings = Settings(home=home, database_url=address)
    store = open_store(settings.database_url)
    template, name = Template(settings.artifact_root), address.partition(":")[0].partition("+")[0]
    for begin, end in ((0, num_searches), (num_searches, 2 * num_searches)):
        started = time.perf_counter()
        fill(store, template, begin, end)
        with store._database.reading() as connection:
            num_points = connection.scalar(select(func.count()).select_from(tables.points))
        print(f"{name}: {end:,} searches, {num_points:,} points after {time.perf_counter() - started:.0f} s", file=sys.stderr)  # fmt: skip
        with server(settings) as (served, process):
            asked = Asked(served, end)
            asyncio.run(load(served, asked, 3))
            before = process.cpu_times()
            taken = asyncio.run(load(served, asked, seconds))
            used, number = process.cpu_times(), sum(map(len, taken.values()))
            report(name, end, taken)
        # Of the server alone, which a busy machine changes least.
        work = 1000 * (used.user + used.system - before.user - before.system) / number
        print(f"| {name} | {end:,} | processor time, ms a request | {number} | {work:.0f} | | |", flush=True)
    store.close()


def main() -> None:
    """Measure on the databases that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("databases", nargs="*", metavar="DATABASE", help="sqlite or postgresql; default both")
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    databases = given.databases or ["sqlite", "postgresql"]
    if unknown := set(databases) - {"sqlite", "postgresql"}:
        parser.error(f"database: found {min(unknown)}, allowed: sqlite, postgresql")
    options = {"num_searches": given.searches, "seconds": given.seconds}
    print("| database | searches | request | number | p50, ms | p95 | p99 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        if "sqlite" in databases:
            measure(f"sqlite:///{home}/nas.db", home=home, **options)
        if "postgresql" in databases:
            with private_server() as postgresql:
                measure(postgresql.new_database(), home=home / "postgresql", **options)


if __name__ == "__main__":
    main()
