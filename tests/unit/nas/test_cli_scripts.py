"""The script ``nas`` as programs and shells call it: JSON, exit codes, plain text, completion."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from nas import cli, cli_complete
from nas.cli_complete import spec_files
from tests.unit.api.seeded import DEMO
from tests.unit.api.server import running

NAS = Path(sys.executable).with_name("nas")
ABSENT = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def nas(server, tmp_path, monkeypatch, capfd):
    """Call ``nas`` in this process; return what it printed on the stream that its exit code means."""
    monkeypatch.setenv("NAS_SERVER_URL", server.address)
    monkeypatch.setenv("NAS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert ended.value.code == code, err
        return out if code == 0 else err

    return call


@pytest.fixture
def complete(server, tmp_path, monkeypatch, capfd):
    """Return what a shell is offered for the last of some words; nothing may be said besides."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["nas"])
    monkeypatch.setattr(cli_complete, "SECONDS", 60.0)  # a busy machine is no server that is away

    def call(shell, *words, address=server.address):
        line = " ".join(["nas", *words])
        environment = {
            "_NAS_COMPLETE": f"complete_{shell}", "NAS_SERVER_URL": address, "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)), "_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert (ended.value.code, err) == (0, "")
        return out.splitlines()

    return call


def rest(server, path):
    return httpx.get(f"{server.address}/api/v1{path}").json()


def test_json_is_what_rest_answers(nas, server):
    search_id = server.id("succeeded")
    found, trials = rest(server, f"/searches/{search_id}"), rest(server, f"/searches/{search_id}/trials")
    assert json.loads(nas("show", search_id, "--json")) == found | {"trials": trials["trials"]}
    assert json.loads(nas("wait", search_id, "--json")) == found
    listed = rest(server, "/searches?page_size=3&order_by=name")["searches"]
    assert json.loads(nas("list", "--json", "--limit", "3", "--order-by", "name")) == {"searches": listed}
    failed = server.id("failed")
    assert json.loads(nas("logs", failed, "--json")) == rest(server, f"/searches/{failed}/logs")


def test_json_of_what_is_made_and_changed(nas, server):
    made = json.loads(nas("submit", DEMO, "--tag", "json", "--json"))
    assert made == rest(server, f"/searches/{made['id']}")
    edited = json.loads(nas("edit", made["id"], "--tag", "two", "--json"))
    assert edited["tags"] == ["json", "two"]
    copy = json.loads(nas("clone", made["id"], "--set", "seed=4", "--json"))
    assert (copy["cloned_from"], copy["spec"]["seed"]) == (made["id"], 4)
    written = json.loads(nas("clone", made["id"], "-o", "copy.yaml", "--json"))
    assert written == {"output": "copy.yaml", "spec": made["spec"]}
    assert json.loads(nas("cancel", made["id"], "--json"))["state"] == "CANCELLED"


def test_json_of_a_study(nas, server, monkeypatch):
    monkeypatch.setenv("NAS_HOME", str(server.home))
    search_id = server.id("succeeded")
    told = json.loads(nas("study", search_id, "--json"))
    assert told == {
        "study_name": search_id,
        "storage": f"sqlite:///{server.home}/optuna.db",
        "num_trials": len(server.store.trials(search_id)),
    }


def test_json_of_what_is_here(nas, server, tmp_path):
    search_id = server.id("succeeded")
    taken = json.loads(nas("download", search_id, "-o", "model", "--json"))
    assert taken == {"search_id": search_id, "directory": "model"}
    (tmp_path / "home" / "artifacts" / "blocks").mkdir(parents=True)
    (tmp_path / "home" / "artifacts" / "blocks" / "old").write_bytes(b"1234")
    found = json.loads(nas("gc", "--json", "--cache-bytes", "0"))
    assert found["usage"]["shared"] == {"blocks": 4}
    assert (found["items"], found["num_deleted"]) == ([], 0)
    assert json.loads(nas("plan", DEMO, "--json"))["num_feasible"] == 135


def test_a_stream_is_a_line_of_json_for_each_event(nas, server):
    search_id = server.id("succeeded")
    lines = [json.loads(line) for line in nas("watch", search_id, "--json").splitlines()]
    stored = server.store.events(search_id=search_id, limit=10_000)
    assert [line["sequence"] for line in lines] == [event.sequence for event in stored]
    assert lines[-1]["data"]["state"] == "SUCCEEDED"


def test_exit_codes_say_how_it_ended(nas, server):
    assert nas("wait", server.id("succeeded")) == ""
    failed, cancelled = server.id("failed"), server.id("cancelled")
    for command in ("wait", "watch"):
        assert f"error: search {failed} failed: RuntimeError" in nas(command, failed, code=1)
        assert nas(command, cancelled, code=3) == f"error: search {cancelled} was cancelled\n"
    assert "nothing answers" in nas("wait", failed, "--server", ABSENT, code=4)
    assert nas("wait", "nope", code=2) == "error: search nope: not found\n"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "status", "code"),
    [
        (("show", "nope"), 2, 404, "not_found"),
        (("export", "nope"), 2, 404, "not_found"),
        (("list", "--name", "x" * 201), 2, 422, "invalid_request"),
        (("list", "--server", ABSENT), 4, None, "server_absent"),
        (("submit", "none.yaml"), 2, None, "invalid_spec"),
        (("plan", "none.yaml"), 2, None, "invalid_spec"),
    ],
)
def test_errors_are_json_too(nas, arguments, exit_code, status, code):
    problem = json.loads(nas(*arguments, "--json", code=exit_code))
    assert set(problem) == {"status", "code", "detail", "errors"}
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"]


def test_a_search_that_failed_is_told_as_json_after_itself(nas, server):
    told = json.loads(nas("wait", server.id("failed"), "--json", code=1))
    assert told["code"] == "search_not_won"
    assert told["detail"].startswith(f"search {server.id('failed')} failed: RuntimeError")


def test_piped_text_is_plain_and_its_columns_are_stable(nas, server, monkeypatch):
    """Programs that cut columns see the same ones, whatever stands in them."""
    nas("submit", DEMO, *(word for number in range(12) for word in ("--tag", f"{number}-{'x' * 30}")))
    whole = nas("list")
    assert "\x1b" not in whole
    header, *rows = whole.splitlines()
    assert header.split()[:3] == ["id", "name", "state"]
    assert all(re.match(r"\d{6}-\d{6}-\w{5}  ", row) for row in rows)
    monkeypatch.setenv("COLUMNS", "80")
    *narrow, left_out = nas("list").splitlines()
    assert max(map(len, narrow)) <= 80
    assert left_out == "left out: parent's, created, owner, tags; widen the terminal, or --json"
    assert [row.split()[0] for row in narrow] == [row.split()[0] for row in [header, *rows]]
    assert "2.3104" not in "".join(narrow)
    best = nas("show", server.id("succeeded")).splitlines()
    completed = [row for row in best if row.endswith("completed")]
    assert completed
    assert all(re.search(r" \d\.\d{4}  ", row) for row in completed), "no number is cut"


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_has_colours_unless_told_otherwise(server, variables):
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"NAS_SERVER_URL": server.address, "TERM": "xterm-256color", "COLUMNS": "120"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [NAS, "list", "--state", "failed"], env=environment | variables, stdout=theirs, close_fds=True
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:  # how Linux says that the other side is closed
            assert process.wait() == 0
        os.close(ours)
    assert (b"\x1b[31m" in shown) == (not variables)
    assert re.search(rb"\x1b\[[0-9;]*3[0-7]m", shown) is None or not variables


def test_what_somebody_wrote_moves_no_terminal(nas, server, tmp_path):
    (tmp_path / "spec.yaml").write_text(DEMO.read_text().replace("tiny demo", '"\\x1b[2Jgone"'))
    search_id = nas("submit", "spec.yaml").strip()
    for shown in (nas("list"), nas("show", search_id)):
        assert "\x1b" not in shown
        assert "\N{REPLACEMENT CHARACTER}[2Jgone" in shown


def test_a_shell_completes_ids_with_their_states(complete, server):
    newest = [search.id for search in server.store.list_searches(limit=50)]
    assert complete("bash", "show", "''")[: len(newest)] == newest
    succeeded = server.id("succeeded")
    assert complete("bash", "wait", succeeded[:-1]) == [succeeded]
    assert complete("fish", "download", succeeded[:-1]) == [f"{succeeded}\tsucceeded"]
    (offered,) = complete("zsh", "logs", succeeded[:-1])
    assert f'"{succeeded}":"succeeded"' in offered


def test_a_shell_completes_commands_and_choices(complete):
    assert complete("bash", "wa") == ["watch", "wait"]
    assert complete("bash", "list", "--state", "F") == ["FAILED"]
    assert complete("bash", "list", "--order-by", "n") == ["name"]


def test_a_server_that_is_away_offers_nothing_and_says_nothing(complete):
    assert complete("bash", "show", "''", address=ABSENT) == [""]
    assert complete("bash", "show", "''", address="http://[") == [""]
    assert complete("bash", "show", "--server", ABSENT, "''") == [""]


def test_a_shell_completes_specs(complete, tmp_path):
    for name in ("deep/b.yaml", "deep/c.json", "a.yml", "notes.txt", ".hidden.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert complete("bash", "submit", "''") == ["a.yml", "deep/"]
    assert complete("bash", "run", "deep/b") == ["deep/b.yaml"]
    assert spec_files("") == ["a.yml", "deep/"]
    assert spec_files("deep/") == ["deep/b.yaml", "deep/c.json"]
    assert spec_files(f"{tmp_path}/a") == [f"{tmp_path}/a.yml"]
    assert spec_files(".h") == [".hidden.yaml"]
    assert spec_files("none/x") == spec_files("~nobody/x") == []


def test_the_script_for_a_shell_is_shown(tmp_path):
    """What ``--install-completion`` appends to a profile; Bash itself reads it."""
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [NAS, "--show-completion", "bash"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "_NAS_COMPLETE=complete_bash" in shown
    subprocess.run(["bash", "-n"], input=shown, text=True, check=True)
