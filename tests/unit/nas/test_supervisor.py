"""The supervisor over real child processes and a real database; only what they compute is made up."""

import signal
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from minitron.errors import MissingExtra
from nas.search import SearchState
from nas.service import SearchService
from nas.storage.sql import open_store
from nas.supervisor import NOT_OURS, STORE_AWAY, Supervisor, require_worker_extra, worker_command
from nas.trial import FailureKind, TrialState
from tests.unit.api.seeded import demo_spec

CLAIM = """
import os, sys, time
from datetime import UTC, datetime, timedelta
from nas.search import SearchState
from nas.storage.sql import SqlStore
from nas.settings import Settings
store = SqlStore(Settings().database_url)
now = datetime.now(UTC)
lease = store.claim(sys.argv[1], f"worker {os.getpid()}", at=now, until=now + timedelta(seconds=60))
def move(state):
    store.save_search(store.get_search(sys.argv[1]).moved(state, now), lease)
"""
SUCCEEDS = (
    CLAIM
    + """
for state in ("PREPARING", "RUNNING", "COMPLETING", "SUCCEEDED"):
    move(SearchState(state))
"""
)
ADVANCES_ONE_POINT_AND_DIES = (
    CLAIM
    + """
from dataclasses import replace
from nas.driver import Driver
from nas.trial import Point
move(SearchState.PREPARING); move(SearchState.RUNNING)
if len(store.points(sys.argv[1])) >= 4:
    move(SearchState.COMPLETING); move(SearchState.SUCCEEDED)
    sys.exit(0)
driver = Driver(store.get_search(sys.argv[1]), store, lease, lambda: now)
trial = driver.next_trial()
driver.on_attempt(trial.number, f"worker {os.getpid()}")
seen = [each.point.num_tokens for each in store.points(sys.argv[1]) if each.trial_number == trial.number]
tokens = min(point for point in driver.schedule.points if point > max(seen, default=-1))
driver.on_point(trial.number, Point(num_tokens=tokens, loss=3.0, at=now), f"state-{trial.number}")
store.release(lease)
os.kill(os.getpid(), 9)
"""
)
CRASHES = """
import sys
print("line before", flush=True)
raise RuntimeError("out of luck")
"""
LEAVES_IN_GOOD_ORDER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
time.sleep(60)
"""
IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def store(home):
    return open_store(f"sqlite:///{home}/nas.db")


@pytest.fixture
def service(store, home):
    return SearchService(store, artifact_root=home)


@pytest.fixture
def supervise(store, home):
    """Start supervisors whose worker is a program given as text; all are stopped in the end."""
    started = []

    def start(program, **options):
        path = home / "worker.py"
        path.write_text(textwrap.dedent(program), encoding="utf-8")
        supervisor = Supervisor(
            store,
            logs=home / "logs",
            environment={"NAS_HOME": str(home)},
            command=lambda search_id: (sys.executable, str(path), search_id),
            **{"poll_seconds": 0.02, "back_off_seconds": 0.01, "grace_seconds": 10.0, **options},
        )
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


def state_of(store, search):
    return store.get_search(search.id).state


def test_each_search_gets_a_worker_until_it_is_final(store, service, supervise):
    searches = [service.create(demo_spec(name=str(number))) for number in range(2)]
    supervise(SUCCEEDS)
    wait_until(lambda: all(state_of(store, search) is SearchState.SUCCEEDED for search in searches))


def test_a_worker_that_crashes_without_progress_fails_its_search_with_the_end_of_its_log(
    store, service, supervise
):
    search = service.create(demo_spec())
    supervisor = supervise(CRASHES)
    wait_until(lambda: state_of(store, search).is_final)
    failed = store.get_search(search.id)
    assert failed.state is SearchState.FAILED
    assert failed.failure.kind is FailureKind.WORKER_LOST
    assert str(supervisor.log_path(search.id)) in failed.failure.message
    assert "RuntimeError: out of luck" in failed.failure.message
    assert "line before" in failed.failure.log_tail
    assert failed.failure.log_tail.endswith("RuntimeError: out of luck")
    assert supervisor.log_path(search.id).read_text().count("line before") == 3


def test_a_search_given_up_leaves_no_trial_under_way(store, service, supervise):
    """What its workers left is made final too: nothing says running for ever."""
    search = service.create(demo_spec())
    program = ADVANCES_ONE_POINT_AND_DIES.replace("driver.on_point", "()  # driver.on_point")
    supervise(program)
    wait_until(lambda: state_of(store, search).is_final)
    assert state_of(store, search) is SearchState.FAILED
    assert {trial.state for trial in store.trials(search.id)} == {TrialState.CANCELLED}
    assert all(attempt.ended_at for attempt in store.attempts(search.id))


def test_progress_between_crashes_keeps_a_search_alive(store, service, supervise):
    search = service.create(demo_spec())
    supervise(ADVANCES_ONE_POINT_AND_DIES)
    wait_until(lambda: state_of(store, search).is_final, seconds=60)
    assert state_of(store, search) is SearchState.SUCCEEDED
    assert len(store.points(search.id)) == 4


def test_a_search_that_another_process_holds_is_left_alone(store, service, supervise, home):
    search = service.create(demo_spec())
    now = datetime.now(UTC)
    assert store.claim(search.id, "another", at=now, until=now + timedelta(seconds=60))
    supervise(CRASHES)
    time.sleep(0.3)
    assert list((home / "logs").iterdir()) == []
    assert state_of(store, search) is SearchState.QUEUED


def test_a_worker_that_finds_its_search_held_has_not_crashed(store, service, supervise, home):
    """Two supervisors may start a worker each; the one that comes second says so and is tried again."""
    search = service.create(demo_spec())
    program = f"print('tried', flush=True); import sys; sys.exit({NOT_OURS})"
    supervisor = supervise(program)
    log = supervisor.log_path(search.id)
    wait_until(lambda: log.exists() and log.read_text().count("tried") > 4)
    assert state_of(store, search) is SearchState.QUEUED


def test_a_worker_that_cannot_write_has_not_crashed_and_its_search_waits(store, service, supervise):
    """A full disk ends by being given room; until then somebody should know."""
    search = service.create(demo_spec())
    supervisor = supervise(f"raise SystemExit({STORE_AWAY})")
    wait_until(lambda: supervisor.obstacle)
    assert "database: does not answer, say 3 workers in a row; their log: " in supervisor.obstacle
    assert state_of(store, search) is SearchState.QUEUED
    supervise(SUCCEEDS)  # there is room again
    wait_until(lambda: state_of(store, search) is SearchState.SUCCEEDED)


def test_only_the_search_asked_for_is_run(store, service, supervise):
    first, second = service.create(demo_spec()), service.create(demo_spec())
    supervise(SUCCEEDS, only=second.id)
    wait_until(lambda: state_of(store, second) is SearchState.SUCCEEDED)
    time.sleep(0.2)
    assert state_of(store, first) is SearchState.QUEUED


def test_no_more_workers_than_allowed(service, supervise, home):
    for _ in range(3):
        service.create(demo_spec())
    supervise(LEAVES_IN_GOOD_ORDER, max_searches=2)
    wait_until(lambda: len(list((home / "logs").iterdir())) == 2)
    time.sleep(0.2)
    assert len(list((home / "logs").iterdir())) == 2


@pytest.mark.parametrize(
    ("program", "exit_code"), [(LEAVES_IN_GOOD_ORDER, 0), (IGNORES_SIGTERM, -signal.SIGKILL)]
)
def test_stop_ends_every_worker_by_force_if_need_be(service, supervise, program, exit_code):
    search = service.create(demo_spec())
    supervisor = supervise(program, grace_seconds=0.5)
    log = supervisor.log_path(search.id)
    wait_until(lambda: log.exists() and "ready" in log.read_text())
    (child,) = supervisor._children.values()
    began = time.monotonic()
    supervisor.stop()
    assert child.process.poll() == exit_code
    assert time.monotonic() - began < 5


def test_the_database_may_be_away_for_a_while(store, service, supervise, home):
    search = service.create(demo_spec())
    (home / "nas.db").rename(home / "away.db")
    supervise(SUCCEEDS)
    time.sleep(0.2)
    (home / "away.db").rename(home / "nas.db")
    wait_until(lambda: state_of(store, search) is SearchState.SUCCEEDED)


def test_missing_extra_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # how Python marks what cannot be imported
    with pytest.raises(MissingExtra, match=r"needs ray.*pip install 'minitron-nas\[worker\]'"):
        require_worker_extra()


def test_workers_are_started_by_their_command_line_alone():
    assert worker_command("x")[-4:] == ("-m", "workers", "--search", "x")
