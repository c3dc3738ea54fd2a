"""The script ``nas`` as users call it: real processes, a real server; only the training is made up."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from nas.outbox import target_of
from nas.search import SearchState
from nas.settings import Settings
from nas.spec import dump, load_spec
from nas.storage.sql import SqlStore, open_store
from nas.supervisor import STORE_FULL
from tests.hub import FakeHub, serving
from tests.searches import make_search
from tests.unit.api.seeded import DEMO, LOG_TAIL, TRACEBACK
from tests.unit.api.server import running

ROOT = Path(__file__).parents[3]
NAS = Path(sys.executable).with_name("nas")
PATIENCE_SECONDS = 180
"""How long a command may take that takes seconds on a machine that does nothing else."""

WORKER = """
import signal, sys, time
from datetime import UTC, datetime
from nas.settings import Settings
from nas.storage.sql import SqlStore
from nas.supervisor import STORE_FULL
from tests.fakes import ManualClock
from tests.unit.api.seeded import Played
settings = Settings()
played = Played(SqlStore(settings.database_url), ManualClock(datetime.now(UTC)), sys.argv[2])
"""
SUCCEEDS = WORKER + "played.train().succeed(settings.artifact_root)"
WAITS = (
    WORKER
    + """
def leave(*_):
    played.store.release(played.lease)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
played.train(num_points=4)
time.sleep(60)
"""
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def nas(server, tmp_path):
    """Call ``nas`` in an empty directory, with the server's address in the environment."""

    def call(*arguments, code=0, stdin=None, **variables):
        environment = os.environ | {"NAS_SERVER_URL": server.address, "NAS_HOME": str(tmp_path / "home")}
        ended = subprocess.run(
            [NAS, *arguments], cwd=tmp_path, env=environment | variables, input=stdin, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr
        return ended.stdout if code == 0 else ended.stderr

    return call


class Local:
    """``nas run`` at home in ``directory``, where ``workers`` is a program given as text."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = SqlStore(f"sqlite:///{directory}/home/nas.db")
        self._started: list[subprocess.Popen[str]] = []

    def start(self, worker: str, *arguments: str) -> subprocess.Popen[str]:
        package = self.directory / "path" / "workers"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("", encoding="utf-8")
        (package / "__main__.py").write_text(textwrap.dedent(worker), encoding="utf-8")
        paths = os.pathsep.join([str(package.parent), str(ROOT)])
        # The package has nothing but the program, so there is none that tells MLflow.
        environment = os.environ | {
            "PYTHONPATH": paths, "NAS_HOME": str(self.directory / "home"), "NAS_MLFLOW": "0",
        }  # fmt: skip
        process = subprocess.Popen(
            [NAS, "run", *arguments], cwd=self.directory, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # Where the tests run in the background of a shell, Ctrl-C is ignored, and that is inherited.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )  # fmt: skip
        self._started.append(process)
        return process

    def end(self) -> None:
        """End what a failed test left running."""
        for process in self._started:
            with process:
                process.terminate()


@pytest.fixture
def local(tmp_path):
    local = Local(tmp_path)
    yield local
    local.end()


def _errors(stderr: str) -> list[str]:
    lines = stderr.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines), stderr
    return [line.removeprefix("error: ") for line in lines]


def test_version(nas):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", nas("--version"))


def test_a_bad_spec_names_every_field_and_starts_nothing(nas, tmp_path):
    (tmp_path / "bad.yaml").write_text("parent: builtin:tiny\nbudgt: 3\naxes: {num_layers: []}\n")
    for command in ("run", "submit"):
        errors = _errors(nas(command, "bad.yaml", code=2))
        assert {error.split(":")[0] for error in errors} == {"budgt", "budget", "axes.num_layers"}
    assert not (tmp_path / "home" / "nas.db").exists()


def test_a_spec_that_is_not_there(nas):
    assert _errors(nas("run", "none.yaml", code=2)) == [
        "none.yaml: cannot be read: No such file or directory"
    ]


def test_a_space_without_architectures(nas, tmp_path):
    (tmp_path / "empty.yaml").write_text(
        DEMO.read_text().replace("640_000", "2_000").replace("520_000", "1_000")
    )
    (error,) = _errors(nas("run", "empty.yaml", code=2))
    assert error.startswith("budget: found no architecture")


def test_a_setting_out_of_range(tmp_path):
    ended = subprocess.run(
        [NAS, "list"], env=os.environ | {"NAS_PORT": "many"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert _errors(ended.stderr)[0].startswith("NAS_PORT: found 'many'")


def test_list_shows_every_search(nas, server):
    rows = {line.split()[0]: line for line in nas("list").splitlines()[1:]}
    assert set(rows) >= {each.id for each in server.played.values()}
    assert "succeeded" in rows[server.id("succeeded")]
    assert "2.3104" in rows[server.id("succeeded")]


def test_list_shows_what_is_asked_for(nas, server):
    def listed(*options):
        return [line.split()[1] for line in nas("list", *options).splitlines()[1:]]

    assert listed("--name", "ED", "--order-by", "name", "--limit", "3") == ["cancelled", "failed", "queued"]
    assert listed("--state", "failed", "--state", "PREPARING", "--parent", "tiny") == ["preparing", "failed"]
    today = f"{datetime.now(UTC) - timedelta(hours=4):%Y-%m-%dT%H:%M:%S}"
    assert "succeeded" not in listed("--created-after", today)
    assert nas("list", "--created-before", "2020-01-01") == "no such searches\n"
    (error,) = _errors(nas("list", "--name", "x" * 201, code=2))
    assert error.startswith("name: ")


def test_a_key_submits_once(nas, server):
    ids = {nas("submit", str(DEMO), "--key", "nightly") for _ in range(2)}
    assert len(ids) == 1


def test_show_prints_the_leaderboard_and_its_verdict(nas, server):
    shown = nas("show", server.id("succeeded"))
    first = next(line for line in shown.splitlines() if re.match(r"\s+1\s", line))
    best = min(
        trial.measurement.loss
        for trial in server.store.trials(server.id("succeeded"))
        if trial.measurement and trial.role == "SEARCH"
    )
    assert f"{best:.4f}" in first
    for part in ("winner: trial", "parent: 2.3104", "random architectures: mean", "random indices: mean"):
        assert part in shown
    assert f"nas download {server.id('succeeded')}" in shown


def test_show_of_a_failure_has_the_traceback(nas, server):
    shown = nas("show", server.id("failed"))
    assert TRACEBACK.strip() in shown
    assert LOG_TAIL in shown


def test_logs_are_printed_from_the_file_or_from_what_the_failure_kept(nas, server):
    search_id = server.id("failed")
    assert nas("logs", search_id, "--tail", "1") == LOG_TAIL.splitlines()[-1] + "\n"
    log = server.home / "logs" / f"{search_id}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("one\n[bold]two[/bold]\n")
    assert nas("logs", search_id) == "one\n[bold]two[/bold]\n"
    log.unlink()
    (error,) = _errors(nas("logs", server.id("running"), code=1))
    assert "NAS_HOME/logs where its worker runs" in error


def test_watch_tells_a_search_to_its_end(nas, server):
    told = nas("watch", server.id("succeeded"))
    assert "state: running" in told
    assert "parent's held-out loss: 2.3104" in told
    assert len(re.findall(r"^trial \d+ .*: completed, loss", told, re.MULTILINE)) == 12
    assert told.index("state: succeeded") < told.index("winner: trial")


def test_watch_of_a_failed_search_fails(nas, server):
    assert "failed: RuntimeError" in nas("watch", server.id("failed"), code=1)


def test_submit_then_cancel(nas, server, tmp_path):
    (tmp_path / "spec.yaml").write_text(DEMO.read_text().replace("tiny demo", "'[bold]mine[/]'"))
    search_id = nas("submit", "spec.yaml").strip()
    assert server.store.get_search(search_id).spec.name == "[bold]mine[/]"
    assert "[bold]mine[/]" in nas("list")
    assert nas("cancel", search_id) == "cancelled\n"
    assert server.store.get_search(search_id).state is SearchState.CANCELLED


def test_submit_takes_paths_from_where_the_user_is(nas, tmp_path):
    (tmp_path / "spec.yaml").write_text(DEMO.read_text().replace("builtin:tiny", "./my-model"))
    (error,) = _errors(nas("submit", "spec.yaml", code=2))
    assert error.startswith(f"parent: {tmp_path}/my-model/config.json: no such file")


def test_clone_submits_a_search_with_other_values(nas, server):
    source = server.store.get_search(server.id("failed"))
    search_id = nas("clone", source.id, "--set", "name=again", "--set", "training.num_tokens=40000").strip()
    made = server.store.get_search(search_id)
    assert made.cloned_from == source.id
    assert (made.spec.name, made.spec.training.num_tokens) == ("again", 40_000)
    assert made.spec.axes == source.spec.axes
    assert f"cloned from {source.id}" in nas("show", search_id)
    assert _errors(nas("clone", source.id, "--set", "sead=1", code=2))[0].startswith("sead: unknown")


def test_clone_writes_a_spec_to_go_on_from(nas, server, tmp_path):
    source = server.store.get_search(server.id("failed"))
    before = len(server.store.list_searches(limit=1000))
    assert nas("clone", source.id, "--set", "seed=9", "-o", "next.yaml") == ""
    assert load_spec(tmp_path / "next.yaml") == replace(source.spec, seed=9)
    assert "exists" in _errors(nas("clone", source.id, "-o", "next.yaml", code=1))[0]
    assert "No such file" in _errors(nas("clone", source.id, "-o", "none/next.yaml", code=1))[0]
    assert len(server.store.list_searches(limit=1000)) == before


def test_clone_counts_paths_from_where_it_is_called(nas, server, tmp_path):
    """As ``nas submit`` does: the server runs in another directory."""
    (tmp_path / "x.txt").write_text("text")
    source = server.id("failed")
    forms = (
        "data.source=./x.txt",
        "data.source={source: x.txt, weight: 2}",
        "data.source=[{source: x.txt}, {source: 'builtin:python-docs'}]",
    )
    for form in forms:
        made = server.store.get_search(nas("clone", source, "--set", form).strip())
        assert made.cloned_from == source
        assert str(tmp_path / "x.txt") in {each.source for each in made.spec.data.all_sources.values()}
    nas("clone", source, "--set", forms[0], "-o", "next.yaml")
    assert load_spec(tmp_path / "next.yaml").data.source == str(tmp_path / "x.txt")
    (error,) = _errors(nas("clone", source, "--set", "parent=./none", code=2))
    assert error.startswith(f"parent: {tmp_path}/none/config.json: no such file")


def test_a_search_is_submitted_with_its_owner_and_tags(nas, server):
    def made(*arguments, **variables):
        return server.store.get_search(nas(*arguments, **variables).strip())

    first = made("submit", str(DEMO), "--tag", "two", "--tag", "one", NAS_OWNER="Ann B")
    assert (first.owner, first.tags) == ("Ann B", ("one", "two"))
    again = made("clone", first.id, "--owner", "Bo", "--tag", "three", NAS_OWNER="Ann B")
    assert (again.owner, again.tags) == ("Bo", ("three",))
    assert made("submit", str(DEMO), "--owner", "", NAS_OWNER="Ann B").owner == ""
    assert made("submit", str(DEMO), LOGNAME="cy", NAS_OWNER="").owner == "cy"
    assert _errors(nas("submit", str(DEMO), "--tag", "a b", code=2)) == [
        'tags: found "a b", allowed: words of 1 to 40 characters without spaces and commas'
    ]


def test_edit_says_what_is_to_be_found_later(nas, server):
    search_id = nas("submit", str(DEMO), "--owner", "Dee", "--tag", "old").strip()
    told = nas("edit", search_id, "--tag", "edited", "--tag", "b", "--untag", "old", "--untag", "none")
    assert told == "owner Dee; tags b, edited\n"
    assert nas("edit", search_id, "--notes", "-", stdin="# Learnt\n\nnothing\n") == told
    assert "# Learnt\n\nnothing\n" in nas("show", search_id)
    assert "; owner Dee; tags b, edited" in nas("show", search_id)
    (row,) = nas("list", "--owner", "Dee", "--tag", "edited", "--tag", "b", "--text", "LEARNT").splitlines()[
        1:
    ]
    assert row.split()[0] == search_id
    assert row.endswith("Dee    b, edited")
    archived = nas("edit", search_id, "--archive", "--owner", "")
    assert archived == "tags b, edited; archived\n"
    assert nas("list", "--tag", "edited") == "no such searches\n"
    for option in ("--archived", "--all"):
        (row,) = nas("list", "--tag", "edited", option).splitlines()[1:]
        assert "queued, archived" in row
    assert (
        nas("edit", search_id, "--unarchive", "--untag", "b", "--untag", "edited")
        == "nobody says anything of it\n"
    )
    assert search_id in nas("list")
    assert server.store.get_search(search_id).notes == "# Learnt\n\nnothing\n"


def test_what_edit_cannot_do_is_told(nas, server):
    search_id = server.id("failed")
    (error,) = _errors(nas("edit", search_id, code=2))
    assert error.startswith("edit: found nothing to say, allowed: --tag, --untag, --notes")
    (error,) = _errors(nas("edit", search_id, "--tag", "a,b", code=2))
    assert error.startswith('tags: found "a,b", allowed: words of 1 to 40 characters')
    assert _errors(nas("edit", "nope", "--tag", "a", code=2)) == ["search nope: not found"]
    (error,) = _errors(nas("run", "--resume", search_id, "--tag", "a", code=2))
    assert error.startswith("resume: found --owner or --tag too, allowed: nas edit")


def test_download(nas, server, tmp_path):
    search_id = server.id("succeeded")
    said = nas("download", search_id, "-o", "model")
    assert "AutoModelForCausalLM.from_pretrained('model')" in said
    source = server.artifact_root / "searches" / search_id / "winner" / "model.safetensors"
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == source.read_bytes()
    assert "exists" in _errors(nas("download", search_id, "-o", "model", code=1))[0]


def test_unknown_search_and_absent_server(nas):
    assert _errors(nas("show", "nope", code=2)) == ["search nope: not found"]
    assert _errors(nas("wait", "nope", code=2)) == ["search nope: not found"]
    (error,) = _errors(nas("wait", "no/pe", code=2, NAS_SERVER_URL="http://127.0.0.1:9"))
    assert error == "ID: found 'no/pe', allowed: letters, digits, - and _, 64 at most"
    (error,) = _errors(nas("list", "--server", "http://127.0.0.1:9", code=4))
    assert "nas serve" in error


def test_plan_says_what_a_search_would_cost_and_leaves_nothing_behind(nas, tmp_path):
    out = nas("plan", DEMO, "--device-flops", "1e10")
    assert [
        word for word in ("135 feasible", "10 GFLOP/s, as stated", "activations") if word not in out
    ] == []
    estimate = json.loads(nas("plan", DEMO, "--json"))
    assert (estimate["num_feasible"], estimate["hours"]) == (135, None)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "spec.yaml").write_text(DEMO.read_text() + "resources: {memory_bytes: 1000}\n")
    (error,) = _errors(nas("plan", "spec.yaml", code=2))
    assert error.startswith("resources.memory_bytes: found 1 kB of memory stated, needed by a trial: ")


def test_plan_where_the_hub_is_down(nas, tmp_path, monkeypatch):
    """Not the user's mistake: exit code 1, and what helps."""
    text = DEMO.read_text()
    (tmp_path / "spec.yaml").write_text(text.replace("parent: builtin:tiny", "parent: hub:org/tiny"))
    with serving(FakeHub()) as hub:
        hub.is_down = True
        for name, value in (hub.environment() | {"HF_HOME": str(tmp_path / "hf")}).items():
            monkeypatch.setenv(name, value)
        (error,) = _errors(nas("plan", "spec.yaml", code=1))
    assert error.startswith("parent: hub:org/tiny: http")
    assert "answered 503; allowed: try again, or take a local directory" in error


@pytest.mark.parametrize("speed", ["nan", "inf", "-5", "0"])
def test_a_speed_that_gives_no_hours(nas, speed):
    """The option is held to what the setting is held to."""
    (error,) = _errors(nas("plan", DEMO, "--device-flops", speed, code=2))
    assert re.fullmatch(r"NAS_DEVICE_FLOPS: found \S+, allowed: .+", error)


def test_run_goes_from_the_spec_to_the_leaderboard(local):
    out, err = local.start(SUCCEEDS, str(DEMO)).communicate(timeout=PATIENCE_SECONDS)
    assert err == ""
    (search,) = local.store.list_searches()
    assert search.state is SearchState.SUCCEEDED
    assert [word in out for word in ("state: preparing", "state: running", "rank", "random indices: mean")]
    directory = local.directory / "home" / "artifacts" / "searches" / search.id / "winner"
    assert f"the winner: {directory}" in out
    assert f"from_pretrained('{directory}')" in out
    assert f"the dashboard: nas serve, then http://127.0.0.1:8000/searches/{search.id}" in out


def test_run_is_interrupted_and_resumed(local):
    """The first Ctrl-C stops the worker in good order; nothing measured is lost."""
    running = local.start(WAITS, str(DEMO))
    for line in running.stdout:
        if line.startswith("state: running"):
            break
    (search,) = local.store.list_searches()
    while len(local.store.points(search.id)) < 4:
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 130, (out, err)
    assert err == f"go on with: nas run --resume {search.id}\n"
    assert "stays resumable" in out
    kept = local.store.points(search.id)
    out, err = local.start(SUCCEEDS, "--resume", search.id, "--json").communicate(timeout=PATIENCE_SECONDS)
    assert local.store.get_search(search.id).state is SearchState.SUCCEEDED
    events = [json.loads(line) for line in out.splitlines()]
    assert events == [dump(event) for event in local.store.events(search_id=search.id, limit=10_000)]
    assert [point for point in local.store.points(search.id) if point in kept] == kept


def test_run_of_a_worker_that_cannot_work_fails_with_its_last_words(local):
    ended = local.start("raise SystemExit('no such accelerator')", str(DEMO))
    _, err = ended.communicate(timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    *warnings, error = err.splitlines()
    assert all(line.startswith("warning: ") for line in warnings)
    assert error.startswith("error: ")
    assert "ended early 3 times without progress" in error
    (search,) = local.store.list_searches()
    assert search.failure.log_tail.endswith("no such accelerator")


def test_run_of_a_worker_that_cannot_write_ends_and_says_how_to_go_on(local):
    """A full disk that holds the database: nothing can be recorded, and nothing waits for ever."""
    ended = local.start(f"raise SystemExit({STORE_FULL})", str(DEMO))
    _, err = ended.communicate(timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    (search,) = local.store.list_searches()
    error = err.splitlines()[-1]
    assert error.startswith(
        "error: database: no space left on the disk that holds it, say 3 workers in a row"
    )
    assert error.endswith(f"go on with: nas run --resume {search.id}")
    assert search.state is SearchState.QUEUED
    local.start(SUCCEEDS, "--resume", search.id).communicate(timeout=PATIENCE_SECONDS)
    assert local.store.get_search(search.id).state is SearchState.SUCCEEDED


def test_run_with_the_page_stays_until_interrupted(local):
    running = local.start(SUCCEEDS, str(DEMO), "--serve", "--port", "0")
    page = running.stdout.readline().split()[-1]
    for line in running.stdout:
        if "stays open" in line:
            break
    answer = httpx.get(page)
    assert answer.status_code == 200
    assert "Minitron search" in answer.text
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE_SECONDS)
    assert (running.returncode, err) == (0, "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(page)


def test_run_without_the_worker_extra_says_what_to_install(tmp_path):
    """``None`` in sys.modules is how Python marks what cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ray'] = None\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NAS_HOME": str(tmp_path / "home")}
    ended = subprocess.run([NAS, "run", DEMO], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    (error,) = _errors(ended.stderr)
    assert "ray" in error
    assert "pip install 'minitron-nas[worker]'" in error


def test_serve_runs_what_is_submitted_in_a_directory_with_an_api_of_its_own(local):
    """The user's folders are not taken for ours; who opens a port to others is warned."""
    (local.directory / "api").mkdir()
    (local.directory / "api" / "__main__.py").write_text("raise SystemExit('the wrong one')")
    local.start(SUCCEEDS, "none.yaml").communicate()  # makes the package of the worker
    paths = os.pathsep.join([str(local.directory / "path"), str(ROOT)])
    environment = os.environ | {
        "PYTHONPATH": paths, "NAS_HOME": str(local.directory / "home"), "NAS_MLFLOW": "0",
    }  # fmt: skip
    with subprocess.Popen(
        [NAS, "serve", "--host", "0.0.0.0", "--port", "0", "--open"], cwd=local.directory, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as server:  # fmt: skip
        address = server.stdout.readline().split()[-1]
        assert address.startswith("http://127.0.0.1:")
        ended = subprocess.run(
            [NAS, "submit", DEMO, "--server", address], capture_output=True, text=True, check=True
        )
        state = None
        while state != "SUCCEEDED":
            state = httpx.get(f"{address}/api/v1/searches/{ended.stdout.strip()}").json()["state"]
            time.sleep(0.1)
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=PATIENCE_SECONDS)
        assert server.returncode == 0
    assert "WARNING: 0.0.0.0 is open to other machines, and there are no accounts" in err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_serve_opens_to_others_only_when_told_to(host, tmp_path):
    environment = os.environ | {"NAS_HOME": str(tmp_path / "home"), "NAS_HOST": host}
    ended = subprocess.run(
        [NAS, "serve", "--port", "0"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    (error,) = _errors(ended.stderr)
    assert f"NAS_HOST: found {host}, which other machines reach" in error
    assert "allowed: an address of this machine alone, such as 127.0.0.1" in error
    assert "nas admin token create" in error
    assert "NAS_OPEN=1 or --open" in error
    assert ended.stdout == ""


def test_serve_where_it_cannot_listen(server, tmp_path):
    port = server.address.rpartition(":")[2]
    environment = os.environ | {"NAS_HOME": str(tmp_path)}
    ended = subprocess.run(
        [NAS, "serve", "--port", port], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}, which cannot be listened on" in ended.stderr.splitlines()[-1]


def test_mlflow_is_told_what_it_was_not(tmp_path, server):
    environment = os.environ | {"NAS_HOME": str(server.home)}
    ended = subprocess.run(
        [NAS, "mlflow", "sync"], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "MLflow was told all\n"
    target = target_of(Settings(home=server.home).tracking_uri)
    outbox = server.store.outboxes.at(target)
    assert outbox.cursor == server.store.last_sequence()
    shown = server.store.outboxes.runs(outbox.id, [server.id("succeeded")], attempts=True)
    assert len(shown) == 1 + len(server.store.attempts(server.id("succeeded")))


def test_mlflow_that_does_not_answer_is_an_error_with_where_to_look(tmp_path):
    environment = os.environ | {"NAS_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    store = open_store(f"sqlite:///{tmp_path}/nas.db")
    store.add_search(make_search())
    store.close()
    ended = subprocess.run(
        [NAS, "mlflow", "sync", "--seconds", "1"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    (error,) = _errors(ended.stderr)
    assert error == f"MLflow was not told of 1 events yet; the reason: {tmp_path}/logs/mlflow-projector.log"
