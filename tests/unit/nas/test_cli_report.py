"""The command ``nas report``: from a server, from this home, in each format."""

import json

import pytest
import typer
from typer.testing import CliRunner

from api.app import create_app
from nas.cli import _Commands
from nas.cli_report import report_commands
from nas.client import Client, ClientError
from nas.report import SearchReport
from nas.service import SearchService
from nas.spec import dump, load
from nas.storage.memory import InMemoryStore
from nas.storage.sql import open_store
from tests.fakes import ManualClock
from tests.unit.api.live import serving
from tests.unit.api.seeded import NOW, Played, demo_spec, fill


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """The service behind the server, the id of a search that succeeded, and the server's address."""
    store, root = InMemoryStore(ManualClock(NOW)), tmp_path_factory.mktemp("artifacts")
    played = fill(store, root, NOW)
    service = SearchService(store, artifact_root=root, clock=ManualClock(NOW))
    with serving(create_app(service)) as address:
        yield service, played["succeeded"].id, address


@pytest.fixture
def nas(tmp_path, monkeypatch):
    """Call the command in a home of its own; return how it ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_HOME", str(tmp_path / "home"))
    app = typer.Typer(cls=_Commands)
    app.add_typer(report_commands)
    app.callback()(lambda: None)

    def call(*arguments, code=0):
        ended = CliRunner().invoke(app, ["report", *arguments], catch_exceptions=False)
        assert ended.exit_code == code, ended.output
        return ended.stdout if code == 0 else ended.stderr

    return call


def test_the_report_in_words(nas, behind):
    service, search_id, address = behind
    shown = nas(search_id, "--server", address)
    report = service.report(search_id)
    for sentence in report.verdict:
        assert sentence in shown
    for part in (
        "Saved against exhaustive search: ",
        "Zones that never work: ",
        "stopped at a rung",
        "in all",
    ):
        assert part in shown


def test_json_is_what_rest_answers_and_a_report_again(nas, behind):
    service, search_id, address = behind
    expected = dump(service.report(search_id))
    for asked in (("--format", "json"), ("--json",)):
        assert json.loads(nas(search_id, *asked, "--server", address)) == expected
    nas(search_id, "--format", "json", "-o", "deep/report.json", "--server", address)
    with open("deep/report.json", encoding="utf-8") as file:  # noqa: PTH123
        assert load(SearchReport, json.load(file)) == service.report(search_id)


def test_html_is_a_file_that_must_not_exist_yet(nas, behind, tmp_path):
    _, search_id, address = behind
    assert nas(search_id, "--format", "html", "--server", address) == f"the report: report-{search_id}.html\n"
    with Client(address) as client:
        sent = "".join(client.get_report(search_id, format="html"))
    assert (tmp_path / f"report-{search_id}.html").read_text(encoding="utf-8") == sent
    told = nas(search_id, "--format", "html", "--server", address, code=2)
    assert "which exists, allowed: a file that does not" in told
    assert "allowed: one of the two" in nas(search_id, "--format", "html", "--json", code=2)


def test_text_goes_into_a_file_without_colours(nas, behind, tmp_path):
    _, search_id, address = behind
    nas(search_id, "--output", "report.txt", "--server", address)
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert text == nas(search_id, "--server", address)


def test_a_search_that_is_not_there_is_told(nas, behind):
    assert "search none: not found" in nas("none", "--server", behind[2], code=2)


def test_a_search_of_this_home_needs_no_server(nas, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_SERVER_URL", "http://127.0.0.1:9")
    home = tmp_path / "home"
    (home / "artifacts").mkdir(parents=True)
    store = open_store(f"sqlite:///{home}/nas.db")
    clock = ManualClock(NOW)
    service = SearchService(store, artifact_root=home / "artifacts", clock=clock)
    played = Played(store, clock, service.create(demo_spec(name="here", num_trials=3)).id).train()
    expected = service.report(played.id)
    store.close()
    found = load(SearchReport, json.loads(nas(played.id, "--json")))
    assert found.spending == expected.spending
    assert found.verdict == expected.verdict
    nas("unknown", code=4)


def test_a_refusal_of_the_html_is_told(behind):
    with Client(behind[2]) as client, pytest.raises(ClientError, match="search none: not found"):
        "".join(client.get_report("none", format="html"))
