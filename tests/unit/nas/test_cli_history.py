"""The commands history, compare and export, against a real server."""

import csv
import io
import json

import pytest
import typer
from typer.testing import CliRunner

from api.app import create_app
from nas import wording
from nas.cli import _Commands
from nas.cli_history import history_commands
from nas.client import Client, pages
from nas.edits import Edit
from nas.exports import HISTORY_COLUMNS, TRIAL_COLUMNS, Format, written
from nas.history import HistoryOrder
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock
from tests.unit.api.live import serving
from tests.unit.api.seeded import NOW, fill


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """The service behind the server, searches by name, and the server's address."""
    store, root = InMemoryStore(ManualClock(NOW)), tmp_path_factory.mktemp("artifacts")
    played = fill(store, root, NOW)
    store.edit_search(played["succeeded"].id, Edit(owner="Ann"))
    service = SearchService(store, artifact_root=root)
    with serving(create_app(service)) as address:
        yield service, played, address


@pytest.fixture
def nas(behind):
    """Call a command; return what it prints."""
    app = typer.Typer(cls=_Commands)
    app.add_typer(history_commands)

    def call(*arguments, code=0, **variables):
        ended = CliRunner(env=variables).invoke(
            app, [*arguments, "--server", behind[2]], catch_exceptions=False
        )
        assert ended.exit_code == code, ended.output
        return ended.stdout if code == 0 else ended.stderr

    return call


def test_history_lists_what_is_asked_for(nas, behind):
    service, played, _ = behind
    ids = {name: each.id for name, each in played.items()}
    best = service.list_measurements(order=HistoryOrder.LOSS, limit=1)[0].measured
    lines = nas("history", "--order-by", "loss", "--limit", "3").splitlines()
    assert len(lines) == 4
    assert best.architecture.name in lines[1]
    assert wording.loss(best.loss) in lines[1]
    assert ids["succeeded"] not in nas("history", "--search", ids["failed"])
    owned = nas("history", "--owner", "Ann", "--whole", "--limit", "200")
    assert {line.split()[-4] for line in owned.splitlines()[1:]} == {"Ann"}
    assert "*" not in owned
    partial = next(each.measured for each in service.list_measurements(limit=200) if each.measured.is_partial)
    found = nas("history", "--axis", "num_layers=..6", "--limit", "200", COLUMNS="80")
    assert f"{wording.loss(partial.loss)}*" in found
    assert "* of fewer tokens than the last rung's" in found
    assert "owner" in found.partition("left out: ")[2]
    assert nas("history", "--axis", "num_layers=7..") == "nothing of the kind was measured\n"


def test_history_of_parents(nas, behind):
    (parent,) = behind[0].list_parents(limit=9)
    heading, row = nas("history", "--parents").splitlines()
    assert "measurements" in heading
    for part in (
        "builtin:tiny",
        str(parent.num_measurements),
        wording.loss(parent.best_loss),
        parent.parent_key,
    ):
        assert part in row
    assert json.loads(nas("history", "--parents", "--json"))["parents"][0]["parent_key"] == parent.parent_key


def test_history_as_json_and_as_tables(nas, behind):
    every = behind[0].list_measurements(limit=500)
    found = json.loads(nas("history", "--json", "--limit", "200"))["measurements"]
    assert [each["trial_number"] for each in found] == [each.measured.trial_number for each in every]
    table = list(csv.DictReader(io.StringIO(nas("history", "--format", "csv", "--order-by", "-at"))))
    assert [row["loss"] for row in table] == [str(each.measured.loss) for each in every]
    assert list(table[0]) == list(HISTORY_COLUMNS)


@pytest.mark.parametrize(
    "axis", ["depth=1..2", "num_layers=1", "num_layers=a..b", "num_layers=-1..", "..", ""]
)
def test_what_is_no_axis_is_refused_with_what_is_allowed(nas, axis):
    assert "allowed: AXIS=LEAST..MOST with AXIS of num_layers" in nas("history", "--axis", axis, code=2)


def test_compare_shows_where_each_stands_and_what_differs(nas, behind):
    service, played, _ = behind
    ids = [played[name].id for name in ("succeeded", "running")]
    shown = nas("compare", *ids)
    for view in map(service.get, ids):
        assert wording.loss(view.best_loss) in shown
    assert "comparisons.random_architectures" in shown
    assert "asked otherwise" in shown
    found = json.loads(nas("compare", *ids, "--json"))
    assert [each["search"]["id"] for each in found["searches"]] == ids
    assert "the same was asked" not in nas("compare", ids[0], ids[0])
    assert "search none: not found" in nas("compare", ids[0], "none", code=2)


def test_export_prints_a_table_or_writes_a_file_that_does_not_exist(nas, behind, tmp_path):
    service, played, _ = behind
    search_id, path = played["succeeded"].id, tmp_path / "deep" / "trials.csv"
    printed = nas("export", search_id)
    assert next(csv.reader(io.StringIO(printed))) == list(TRIAL_COLUMNS)
    assert nas("export", search_id, "--output", str(path)) == ""
    assert path.read_bytes() == "".join(service_table(service, search_id)).encode()
    assert "which exists, allowed: a file that does not" in nas("export", search_id, "-o", str(path), code=2)
    points = nas("export", search_id, "--rows", "points", "--json").splitlines()
    assert points == nas("export", search_id, "--rows", "points", "--format", "jsonl").splitlines()
    assert len(points) == len(service._store.points(search_id))
    assert "search none: not found" in nas("export", "none", "-o", str(tmp_path / "no.csv"), code=2)
    assert not (tmp_path / "no.csv").exists()


def service_table(service, search_id):
    return written(service.trial_rows(search_id), TRIAL_COLUMNS, Format.CSV)


def test_the_client_gives_values_of_the_domain(behind):
    service, played, address = behind
    ids = [played[name].id for name in ("succeeded", "running")]
    with Client(address) as client:
        found = [each for page in pages(client.list_history, page_size=7) for each in page.measurements]
        assert [each.entry for each in found] == service.list_measurements(limit=500)
        assert list(client.list_parents().parents) == service.list_parents(limit=9)
        assert client.compare_searches(ids).side_by_side == service.compare(ids)
        assert client.get_front(ids[0]).front == service.front(ids[0])
        assert client.get_series(ids[0], trial=[1], max_points=4) == service.series(
            ids[0], numbers=[1], max_points=4, max_trials=1
        )
