"""What is started beside, and where; the processes themselves are tried with the workers."""

import socket

import pytest

from minitron.errors import MissingExtra
from nas import mlflow_beside
from nas.mlflow_beside import MlflowBeside, tell_all
from nas.mlflow_links import links_of
from nas.settings import Settings
from nas.storage.memory import InMemoryStore


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "NAS_MLFLOW", "NAS_MLFLOW_PORT", "NAS_MLFLOW_URL"):
        monkeypatch.delenv(name, raising=False)


def commands(beside):
    return [child._command for child in beside._children]


def test_a_port_that_is_taken_is_told_and_a_free_one_is_used(tmp_path, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        beside = MlflowBeside(Settings(home=tmp_path, mlflow_port=port), serves=True)
        assert beside.address != f"http://127.0.0.1:{port}"
        assert f"NAS_MLFLOW_PORT: {port} is taken" in caplog.text
    beside._listener.close()
    again = MlflowBeside(Settings(home=tmp_path, mlflow_port=port), serves=True)
    assert again.address == f"http://127.0.0.1:{port}"
    again._listener.close()


def test_where_mlflow_is_elsewhere_it_is_told_and_none_is_served(tmp_path):
    beside = MlflowBeside(Settings(home=tmp_path, tracking_uri="http://mlflow.example"), serves=True)
    assert beside.address is None
    (command,) = commands(beside)
    assert "--project" in command
    assert "--server" not in command


def test_where_it_is_unwanted_there_is_neither_and_nothing_is_said(tmp_path, caplog):
    beside = MlflowBeside(Settings(home=tmp_path, mlflow=False), serves=True)
    assert (beside.address, commands(beside), caplog.records) == (None, [], [])
    beside.start()
    beside.stop()


def test_where_it_is_not_installed_that_is_said_once_and_hinders_nothing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(mlflow_beside, "find_spec", lambda _: None)
    beside = MlflowBeside(Settings(home=tmp_path), serves=True)
    assert (beside.address, beside.is_telling, commands(beside)) == (None, False, [])
    beside.start()
    beside.stop()
    assert [record.message for record in caplog.records] == [
        "there is no record in MLflow: it is not installed here, and comes with the extra [worker]"
    ]
    with pytest.raises(MissingExtra, match="pip install"):
        tell_all(Settings(home=tmp_path), InMemoryStore(), again=False, seconds=1)


@pytest.mark.parametrize(
    ("options", "beside", "address"),
    [
        ({}, None, None),
        ({}, "http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ({"tracking_uri": "http://ann:secret@mlflow.example:5000"}, None, "http://mlflow.example:5000"),
        (
            {"tracking_uri": "http://mlflow:5000", "mlflow_url": "https://m.example/"},
            None,
            "https://m.example",
        ),
        ({"mlflow_url": "https://m.example"}, "http://127.0.0.1:5000", "https://m.example"),
    ],
)
def test_browsers_are_sent_where_they_can_go(tmp_path, options, beside, address):
    links = links_of(Settings(home=tmp_path, **options), InMemoryStore().outboxes, beside)
    assert links._address == address
