"""Settings: what the environment says, what follows from it, and what a child process reads of it."""

import stat
from pathlib import Path

import pytest

from api.sessions import kept_key
from nas.errors import InvalidSettings
from nas.private import make_private
from nas.settings import Settings
from nas.storage.sql import open_store

VARIABLES = (
    "NAS_HOME", "NAS_DATABASE_URL", "NAS_ARTIFACT_ROOT", "MLFLOW_TRACKING_URI", "NAS_OPTUNA_STORAGE",
    "NAS_RAY_ADDRESS", "NAS_HOST", "NAS_PORT", "NAS_OPEN", "NAS_ALLOWED_HOSTS", "NAS_SERVER_URL", "NAS_MAX_SEARCHES",
    "NAS_OWNER", "NAS_LOG_FORMAT", "NAS_DATA_ROOTS", "NAS_HUB_HOSTS", "NAS_TOKEN", "NAS_SESSION_KEY",
    "NAS_MLFLOW", "NAS_MLFLOW_PORT", "NAS_MLFLOW_URL",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_everything_lies_below_home_by_default(tmp_path):
    settings = Settings()
    assert settings.home == tmp_path / ".nas"
    assert settings.database_url == f"sqlite:///{tmp_path}/.nas/nas.db"
    assert settings.artifact_root == tmp_path / ".nas" / "artifacts"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/.nas/mlflow.db"
    assert settings.optuna_storage == f"sqlite:///{tmp_path}/.nas/optuna.db"
    assert settings.ray_address is None
    assert settings.server_url == "http://127.0.0.1:8000"
    assert not settings.home.exists()


def test_home_is_made_for_its_owner_alone_and_stays_as_others_made_it(tmp_path):
    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

    home = Settings().home
    open_store(Settings().database_url).close()
    assert mode(home) == 0o700
    home.chmod(0o755)
    open_store(Settings().database_url).close()
    assert mode(home) == 0o755
    kept_key(tmp_path / "other")
    assert mode(tmp_path / "other") == 0o700
    make_private(tmp_path / "third" / "logs")
    assert [mode(tmp_path / path) for path in ("third", "third/logs")] == [0o700, 0o700]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_private(tmp_path / "file")


def test_each_variable_is_read(monkeypatch):
    values = {
        "NAS_HOME": "/srv/nas",
        "NAS_DATABASE_URL": "postgresql+psycopg://me:secret@db/nas",
        "NAS_ARTIFACT_ROOT": "/mnt/artifacts",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "NAS_OPTUNA_STORAGE": "mysql+pymysql://me:secret@db/optuna",
        "NAS_RAY_ADDRESS": "ray://head:10001",
        "NAS_HOST": "0.0.0.0",
        "NAS_PORT": "80",
        "NAS_OPEN": "True",
        "NAS_ALLOWED_HOSTS": "nas.example,[2001:db8::1]",
        "NAS_SERVER_URL": "https://nas.example",
        "NAS_MAX_SEARCHES": "3",
        "NAS_OWNER": "Ann B",
        "NAS_LOG_FORMAT": "json",
        "NAS_DATA_ROOTS": "/data:/models",
        "NAS_HUB_HOSTS": "huggingface.co,cdn-lfs.hf.co",
        "NAS_TOKEN": "nas_canary",
        "NAS_SESSION_KEY": "canary" * 6,
        "NAS_MLFLOW": "False",
        "NAS_MLFLOW_PORT": "5050",
        "NAS_MLFLOW_URL": "https://mlflow.example/at",
    }
    assert set(values) == set(VARIABLES)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Settings().environment() == values | {"NAS_TOKEN": "", "NAS_SESSION_KEY": ""}, (
        "no worker needs them"
    )


def test_a_child_in_another_directory_reads_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("NAS_HOME", "here")
    monkeypatch.setenv("NAS_DATABASE_URL", "sqlite:///./data/nas.db")
    settings = Settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/data/nas.db"
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    assert Settings() == settings


def test_empty_variables_are_unset(monkeypatch):
    """Compose files pass empty ones on."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    assert Settings().environment() == Settings(home=Path(".nas")).environment()
    assert Settings().ray_address is None


def test_a_home_of_any_name_holds_the_database(monkeypatch, tmp_path):
    home = tmp_path / "my home 100%20?#"
    open_store(Settings(home=home).database_url).close()
    assert (home / "nas.db").is_file()


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:81"), ("nas.local", "http://nas.local:81")]
)
def test_clients_on_the_same_machine_find_the_service(host, url):
    assert Settings(host=host, port=81).server_url == url


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ("http", "a valid integer"),
        ("70000", "less than or equal to 65535"),
        ("-1", "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_names_its_variable_in_one_line(monkeypatch, port, reason):
    monkeypatch.setenv("NAS_PORT", port)
    with pytest.raises(InvalidSettings, match=f"^NAS_PORT: found '{port}', allowed: {reason}") as caught:
        Settings()
    assert "\n" not in str(caught.value)
    assert "NAS_SERVER_URL" not in str(caught.value)


def test_the_owner_is_who_is_logged_in_where_anyone_is(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    assert Settings().owner == "ann"

    def nobody() -> str:
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert Settings().owner == ""


def test_names_of_hosts_are_names_alone(monkeypatch):
    monkeypatch.setenv("NAS_ALLOWED_HOSTS", "NAS.example, nas,[::1]")
    assert Settings().host_names == ("nas.example", "nas", "[::1]")
    monkeypatch.setenv("NAS_ALLOWED_HOSTS", "nas.example:8000,nas")
    with pytest.raises(
        InvalidSettings, match=r"^NAS_ALLOWED_HOSTS: found .*, allowed: names of hosts without"
    ):
        Settings()


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


def test_a_home_that_nobody_has_is_a_name_as_others_are(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_HOME", "~nobody-at-all")
    assert Settings().home == tmp_path / "~nobody-at-all"


@pytest.mark.parametrize(
    "address", ["mlflow.example", "ftp://mlflow.example", "javascript:alert(1)", "http://a:b@c"]
)
def test_browsers_are_sent_to_web_addresses_alone(monkeypatch, address):
    monkeypatch.setenv("NAS_MLFLOW_URL", address)
    with pytest.raises(InvalidSettings, match=r"^NAS_MLFLOW_URL: found .* allowed: an http or https address"):
        Settings()


def test_mlflow_is_served_unless_it_is_elsewhere_or_unwanted(monkeypatch):
    assert Settings().serves_mlflow
    assert not Settings(mlflow=False).serves_mlflow
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert Settings().serves_mlflow
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    assert not Settings().serves_mlflow
