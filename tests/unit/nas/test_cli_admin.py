"""``nas admin`` on a database of its own, and what it lets in."""

import json
import re
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from nas import cli_admin
from nas.accounts import Role, Secret
from nas.authentication import Authentication
from nas.cli_admin import lifetime_in
from nas.errors import InvalidRequest, LastAdmin, Unauthenticated, UnknownAccount
from nas.settings import Settings
from nas.storage.sql import open_store


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_HOME", str(tmp_path))
    return tmp_path


def admin(*words):
    """Return what a command printed; its errors are raised."""
    result = CliRunner().invoke(cli_admin.commands(), words)
    if result.exception:
        raise result.exception
    return result.stdout


def printed(*words):
    return json.loads(admin(*words, "--json"))


@pytest.fixture
def known(home):
    """Say whose token a text is, by the database that the commands wrote."""
    store = open_store(Settings().database_url)
    yield Authentication(store.accounts)
    store.close()


def test_the_first_token_is_an_admins(home, known):
    assert not known.is_in_force()
    secret = admin("token", "create", "ann", "--role", "admin", "--name", "laptop").strip()
    assert known.is_in_force()
    principal = known.of_secret(secret)
    assert (principal.name, principal.roles) == ("ann", {"default": Role.ADMIN})
    [listed] = printed("token", "list")
    assert (listed["member"], listed["name"], listed["workspaces"]) == ("ann", "laptop", ["default"])
    assert secret not in json.dumps(listed)
    files = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert listed["id"].encode() in files
    assert secret.encode() not in files


def test_a_token_is_revoked(home, known):
    made = printed("token", "create", "ann", "--role", "admin")
    assert "is revoked" in admin("token", "revoke", made["id"])
    with pytest.raises(Unauthenticated, match="was revoked on"):
        known.of_secret(made["secret"])
    assert known.is_in_force(), "whoever revokes all tokens does not open the service to everybody"
    assert re.search(r"was revoked on \d{4}-", admin("token", "list"))


def test_workspaces_and_members(home):
    assert printed("workspace", "create", "vision") == {"workspace": "vision"}
    assert printed("workspace", "list") == ["default", "vision"]
    admin("member", "set", "ann", "--role", "admin", "--workspace", "vision")
    admin("member", "set", "bob", "--role", "viewer", "--workspace", "vision")
    listed = [(each["name"], each["role"]) for each in printed("member", "list", "--workspace", "vision")]
    assert listed == [("ann", "admin"), ("bob", "viewer")]
    removed = printed("member", "remove", "bob", "--workspace", "vision")
    assert removed == {"workspace": "vision", "name": "bob", "role": None}
    assert "bob" not in admin("member", "list", "--workspace", "vision")
    with pytest.raises(LastAdmin):
        admin("member", "remove", "ann", "--workspace", "vision")


def test_a_token_is_made_for_members(home):
    with pytest.raises(UnknownAccount, match="member ann: not found; --role makes one"):
        admin("token", "create", "ann")
    with pytest.raises(UnknownAccount, match="workspace nowhere: not found"):
        admin("token", "create", "ann", "--role", "viewer", "--workspace", "nowhere")
    for name in ("a/b", "", "x" * 65, "a b", "-a"):
        with pytest.raises(InvalidRequest, match="name: found"):
            admin("token", "create", "--role", "viewer", "--", name)
    assert printed("token", "list") == []


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [("never", None), ("90d", timedelta(90)), ("12h", timedelta(hours=12)), ("8w", timedelta(56)), ("5m", timedelta(minutes=5))],
)  # fmt: skip
def test_how_long_it_holds(text, lifetime):
    assert lifetime_in(text) == lifetime


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5d", "90days", "1000000000d"])
def test_what_is_no_length_of_time(text):
    with pytest.raises(InvalidRequest, match="expires: found"):
        lifetime_in(text)


@pytest.mark.parametrize("text", ["0d", "3651d"])
def test_no_token_is_made_for_longer_or_for_no_time(home, text):
    with pytest.raises(InvalidRequest, match="expires: found"):
        admin("token", "create", "ann", "--role", "admin", "--expires", text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "what is no token"),
        ("hunter2", "what is no token"),
        ("nas_", "a part of one"),
        ("nas_aaaaaaaaaa_short", "a part of one"),
        (f"nas_aaaaaaaaaa_{'é' * 43}", "a part of one"),
    ],
)
def test_what_is_no_token_is_not_repeated(text, what):
    """It may be one with a slip, or somebody's password."""
    with pytest.raises(Unauthenticated) as refused:
        Secret.parse(text)
    assert str(refused.value).startswith(f"token: found {what}")
    assert text in {"", "nas_"} or text not in str(refused.value)
