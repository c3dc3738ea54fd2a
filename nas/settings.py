"""The settings of a process, from its environment: the only place that reads it.

Paths, also those in SQLite addresses, are made absolute, so that a child process in another directory
means the same. Loads no database and no server.
"""

import getpass
import os
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from minitron.local_paths import expanded
from nas.errors import InvalidSettings
from nas.log_lines import LogFormat
from nas.redact import secrets_in

_SQLITE = "sqlite:///"
SECRETS = ("token", "session_key")
"""Settings that are told to nobody."""


def _absolute(path: Path) -> Path:
    return expanded(str(path)).absolute()


def _sqlite_address(path: Path) -> str:
    return f"{_SQLITE}{quote(str(path))}"


def _absolute_address(address: str) -> str:
    """Make the file of a SQLite address absolute; every other address stands."""
    file = address.removeprefix(_SQLITE)
    if file in (address, "") or file.startswith(("/", ":")):
        return address
    return f"{_sqlite_address(Path.cwd())}/{PurePosixPath(file)}"


def _login_name() -> str:
    """Return the name of who is logged in; empty where nobody is, as in a container with a bare number."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return ""


def _host_names(text: str) -> str:
    """Return names of hosts in small letters, as they are compared."""
    names = [name.strip().lower() for name in text.split(",")] if text.strip() else []
    if wrong := [name for name in names if not re.fullmatch(r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]", name)]:
        raise ValueError(f"names of hosts without ports, with commas between them, unlike {wrong[0]!r}")
    return ",".join(names)


def _roots(text: str) -> str:
    """Make each of several directories absolute."""
    return os.pathsep.join(str(_absolute(Path(each))) for each in text.split(os.pathsep) if each.strip())


def _web_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc:
        raise ValueError("an http or https address without a password, such as https://mlflow.example")
    return address.rstrip("/")


HostNames = Annotated[str, AfterValidator(_host_names)]
Roots = Annotated[str, AfterValidator(_roots)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Address = Annotated[str, AfterValidator(_absolute_address)]
DeviceFlops = Annotated[float, Field(ge=1, allow_inf_nan=False)]
"""Operations a second that can be: the one check of the setting, of the option and of the parameter."""


class Settings(BaseSettings):
    """What an operator may set, each by the environment variable named beside it; empty is unset.

    Raises:
        InvalidSettings: A variable is out of range.
    """

    model_config = SettingsConfigDict(
        env_prefix="NAS_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True,
        validate_default=True,
    )  # fmt: skip

    home: AbsolutePath = Path(".nas")
    """``NAS_HOME``: where everything is kept that has no place of its own below."""
    database_url: Address = Field(default_factory=lambda data: _sqlite_address(data["home"] / "nas.db"))
    """``NAS_DATABASE_URL``: a SQLite file or a PostgreSQL database."""
    artifact_root: AbsolutePath = Field(default_factory=lambda data: data["home"] / "artifacts")
    """``NAS_ARTIFACT_ROOT``: parents, blocks, scores, answers and students; seen by every worker."""
    cache_bytes: int | None = Field(default=None, ge=0)
    """``NAS_CACHE_BYTES``: above this, shared artifacts unused for long go when a search has prepared its own;
    None keeps all."""
    tracking_uri: Address = Field(
        default_factory=lambda data: _sqlite_address(data["home"] / "mlflow.db"),
        validation_alias="MLFLOW_TRACKING_URI",
    )
    """``MLFLOW_TRACKING_URI``: a server or a local SQLite store of MLflow."""
    mlflow: bool = True
    """``NAS_MLFLOW``: whether MLflow is told of searches, and served beside ``nas serve`` where no
    ``MLFLOW_TRACKING_URI`` is given."""
    mlflow_port: int = Field(default=5000, ge=0, le=65_535)
    """``NAS_MLFLOW_PORT``: the port of that server on this machine; a free one is taken where it is not, or for 0."""
    mlflow_url: WebAddress | None = None
    """``NAS_MLFLOW_URL``: where browsers reach MLflow; by default the server itself where that is known."""
    optuna_storage: Address = Field(default_factory=lambda data: _sqlite_address(data["home"] / "optuna.db"))
    """``NAS_OPTUNA_STORAGE``: where searches are shown as Optuna studies: any database that Optuna can use."""
    ray_address: str | None = None
    """``NAS_RAY_ADDRESS``: a running Ray cluster; None starts a local one for each search."""
    device_flops: DeviceFlops | None = None
    """``NAS_DEVICE_FLOPS``: operations a second that each process of a trial reaches; None asks earlier trials."""
    host: str = "127.0.0.1"
    """``NAS_HOST``: the address that ``nas serve`` listens on."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """``NAS_PORT``: the port that ``nas serve`` listens on; 0 takes a free one."""
    open: bool = False
    """``NAS_OPEN``: whether ``nas serve`` may listen where other machines reach it while there are no accounts."""
    allowed_hosts: HostNames = ""
    """``NAS_ALLOWED_HOSTS``: further names that ``nas serve`` answers to, with commas between them."""
    data_roots: Roots | None = None
    """``NAS_DATA_ROOTS``: below which directories, with ``:`` between them, the local paths lie that specs may name
    which reach ``nas serve``; by default all while there are no accounts, and none once there are."""
    hub_hosts: HostNames = ""
    """``NAS_HUB_HOSTS``: the only hosts that server and workers ask for what is on the hub, with commas between
    them; redirects to others are refused. By default whatever the hub redirects to."""
    log_format: LogFormat = "text"
    """``NAS_LOG_FORMAT``: whether server and workers log lines for people or JSON objects for programs."""
    max_searches: int = Field(default=1, ge=1)
    """``NAS_MAX_SEARCHES``: searches that ``nas serve`` runs side by side; others wait QUEUED."""
    owner: str = Field(default_factory=_login_name)
    """``NAS_OWNER``: whose the searches are that the command line submits; by default the login name."""
    server_url: str = Field(default_factory=lambda data: _server_url(data["host"], data["port"]))
    """``NAS_SERVER_URL``: where the client commands find the service."""
    token: SecretStr | None = None
    """``NAS_TOKEN``: what the client commands show to a service that has accounts."""
    session_key: SecretStr | None = Field(default=None, min_length=32)
    """``NAS_SESSION_KEY``: what ``nas serve`` signs the sessions of browsers with; by default a key that it keeps in
    ``NAS_HOME``. Servers behind one address share one."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            # A default that follows from a refused value is reported too; only the cause counts.
            causes = [each for each in error.errors() if each["type"] != "default_factory_not_called"]
            raise InvalidSettings("; ".join(map(_problem, causes))) from None

    @property
    def serves_mlflow(self) -> bool:
        """Whether ``nas serve`` is to serve MLflow: unless told otherwise, or where it is."""
        return self.mlflow and "tracking_uri" not in self.model_fields_set

    @property
    def mlflow_artifacts(self) -> Path:
        """Where an MLflow on this machine keeps artifacts."""
        return self.home / "mlartifacts"

    @property
    def log_directory(self) -> Path:
        """Where the workers of this machine print: one file for each search."""
        return self.home / "logs"

    @property
    def data_directories(self) -> tuple[Path, ...] | None:
        """Where local paths of specs may lead; None where that was not said."""
        return None if self.data_roots is None else tuple(map(Path, self.data_roots.split(os.pathsep)))

    @property
    def hub_host_names(self) -> tuple[str, ...]:
        """The only hosts that are asked for what is on the hub; empty: any."""
        return tuple(filter(None, self.hub_hosts.split(",")))

    @property
    def host_names(self) -> tuple[str, ...]:
        """The further names of hosts."""
        return tuple(filter(None, self.allowed_hosts.split(",")))

    def environment(self) -> dict[str, str]:
        """Return the variables with which a child process reads these settings.

        Secrets that no worker needs are empty, so that a child inherits none from this process either.
        """
        values = {_variable(name): getattr(self, name) for name in type(self).model_fields}
        return {
            variable: "" if isinstance(value, SecretStr) else str(value)
            for variable, value in values.items()
            if value is not None
        }


def environment_secrets() -> tuple[str, ...]:
    """Return what of this process's environment must appear in no log."""
    return secrets_in(os.environ)


def _server_url(host: str, port: int) -> str:
    """Return where a client on the same machine finds what listens on ``host``."""
    return f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{port}"  # noqa: S104  (told apart, not bound)


def _variable(name: str) -> str:
    return str(Settings.model_fields[name].validation_alias or f"NAS_{name.upper()}")


def _allowed(message: str) -> str:
    return message.removeprefix("Input should be ").removeprefix("Value error, ")


def _problem(detail: Any) -> str:
    name = str(detail["loc"][0])
    variable = _variable(name) if name in Settings.model_fields else name
    if name in SECRETS:
        return f"{variable}: found what it cannot be, allowed: {_allowed(detail['msg'])}"
    return f"{variable}: found {detail['input']!r}, allowed: {_allowed(detail['msg'])}"
