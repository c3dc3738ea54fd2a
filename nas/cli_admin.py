"""``nas admin``: workspaces, members and tokens, directly in the database, so that it makes the first token."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from re import fullmatch
from typing import Annotated, Any

import typer
from rich.table import Table

from nas import display, wording
from nas.accounts import DEFAULT_WORKSPACE, LOCAL, Member, Role, Token
from nas.cli_output import Json, print_json
from nas.clock import utc_now
from nas.errors import InvalidRequest, UnknownAccount
from nas.people import People
from nas.settings import Settings
from nas.spec import dump

token = typer.Typer(no_args_is_help=True, help="API tokens.")
member = typer.Typer(no_args_is_help=True, help="Members of workspaces.")
workspace = typer.Typer(no_args_is_help=True, help="Workspaces.")

MAX_SHOWN = 1000
FOREVER = "never"
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose, as people know each other.")]
Where = Annotated[str, typer.Option("--workspace", metavar="NAME", help="In which workspace.")]


@token.command("create")
def create_token(
    name: Name,
    *,
    role: Annotated[
        Role | None, typer.Option(help="Give NAME this role first; default: the one there is.")
    ] = None,
    workspaces: Annotated[
        list[str] | None,
        typer.Option(
            "--workspace", metavar="NAME", help="Where it holds; may be given again; default: default."
        ),
    ] = None,
    expires: Annotated[str, typer.Option(help="After how long, as 12h, 90d or 8w; or never.")] = "90d",
    label: Annotated[str, typer.Option("--name", help="What it is for.")] = "",
    as_json: Json = False,
) -> None:
    """Make a token and print it: it is shown here alone."""
    lifetime, places = lifetime_in(expires), workspaces or [DEFAULT_WORKSPACE]
    people = _people()
    for place in places if role else ():
        people.put_member(LOCAL, Member(workspace=place, name=name, role=role or Role.VIEWER))
    try:
        made, secret = people.create_token(LOCAL, name, places, name=label, lifetime=lifetime)
    except UnknownAccount as error:
        raise UnknownAccount(f"{error}; --role makes one") from None
    if as_json:
        typer.echo(json.dumps({**dump(made), "secret": secret.text}, indent=1))
        return
    typer.echo(secret.text)
    holds = f"until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else "until it is revoked"
    typer.echo(f"token {made.id} of {name} holds in {', '.join(made.workspaces)} {holds}", err=True)


@token.command("list")
def list_tokens(*, as_json: Json = False) -> None:
    """List all tokens, newest first, without their secrets."""
    found = _people().tokens(LOCAL, limit=MAX_SHOWN)
    now = utc_now()
    rows = [
        (each.id, each.member, ", ".join(each.workspaces), each.name, _standing(each, now), _ago(each.last_used_at, now))
        for each in found
    ]  # fmt: skip
    content = [dump(each) for each in found]
    _show(content, ("Token", "Member", "Workspaces", "For", "Holds", "Last used"), rows, as_json=as_json)


@token.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id: what follows nas_.")],
    *,
    as_json: Json = False,
) -> None:
    """End a token at once, and the sessions that were signed in by it."""
    ended = _people().revoke_token(LOCAL, token_id)
    typer.echo(
        json.dumps(dump(ended), indent=1) if as_json else f"token {ended.id} of {ended.member} is revoked"
    )


@member.command("list")
def list_members(*, where: Where = DEFAULT_WORKSPACE, as_json: Json = False) -> None:
    """List the members of a workspace."""
    found = _people().members(LOCAL, where)
    rows = [(each.name, each.role.value) for each in found]
    _show([dump(each) for each in found], ("Member", "Role"), rows, as_json=as_json)


@member.command("set")
def set_member(
    name: Name,
    *,
    role: Annotated[Role, typer.Option(help="What they may do.")],
    where: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Give somebody a role in a workspace, in place of the one they have."""
    made = _people().put_member(LOCAL, Member(workspace=where, name=name, role=role))
    typer.echo(json.dumps(dump(made), indent=1) if as_json else f"{name} is {role.value} of {where}")


@member.command("remove")
def remove_member(name: Name, *, where: Where = DEFAULT_WORKSPACE, as_json: Json = False) -> None:
    """Take somebody out of a workspace."""
    _people().remove_member(LOCAL, where, name)
    if as_json:
        print_json({"workspace": where, "name": name, "role": None})
    else:
        typer.echo(f"{name} is no member of {where} any more")


@workspace.command("list")
def list_workspaces(*, as_json: Json = False) -> None:
    """List all workspaces."""
    found = _people().workspaces(LOCAL)
    _show(found, ("Workspace",), [(name,) for name in found], as_json=as_json)


@workspace.command("create")
def create_workspace(name: Annotated[str, typer.Argument(metavar="NAME")], *, as_json: Json = False) -> None:
    """Add a workspace; one that is there stays as it is."""
    _people().add_workspace(name)
    if as_json:
        print_json({"workspace": name})
    else:
        typer.echo(f"workspace {name} is there")


def commands() -> typer.Typer:
    """Return all of them under one name."""
    admin = typer.Typer(no_args_is_help=True, help="Manage workspaces, members and tokens in the database.")
    for each, name in ((token, "token"), (member, "member"), (workspace, "workspace")):
        admin.add_typer(each, name=name)
    return admin


def lifetime_in(text: str) -> timedelta | None:
    """Return how long a token shall hold; None for ever.

    Raises:
        InvalidRequest: It is no length of time.
    """
    if text == FOREVER:
        return None
    match = fullmatch(r"(\d{1,6})([mhdw])", text)
    if match is None:
        raise InvalidRequest(
            "expires", f"found {text!r}, allowed: a number with m, h, d or w, as 90d; or {FOREVER}"
        )
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def _people() -> People:
    from nas.storage.sql import open_store  # help texts need no database

    return People(open_store(Settings().database_url).accounts)


def _standing(each: Token, now: datetime) -> str:
    until = f"until {each.expires_at:%Y-%m-%d}" if each.expires_at else "until it is revoked"
    return each.ended(now) or until


def _ago(at: datetime | None, now: datetime) -> str:
    return wording.ago(at, now) if at else "never"


def _show(content: Any, columns: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(content, indent=1))
        return
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    display.terminal().print(table)
