"""People in a database. Speaks SQL and decides nothing."""

from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, RowMapping, and_, or_, select

from nas.accounts import DEFAULT_WORKSPACE, Member, Role, Token
from nas.spec import load
from nas.storage.accounts import (
    Credentials,
    require_other_admin,
    require_workspace,
    unknown_member,
    unknown_token,
    without,
)
from nas.storage.engine import Database
from nas.storage.tables import members, token_workspaces, tokens, workspaces


class SqlAccounts:
    """An AccountStore in the database of a SqlStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has_tokens(self) -> bool:
        """See AccountStore."""
        with self._database.reading() as connection:
            return connection.scalar(select(tokens.c.id).limit(1)) is not None

    def workspaces(self) -> list[str]:
        """See AccountStore."""
        with self._database.reading() as connection:
            return sorted(_workspaces(connection))

    def add_workspace(self, name: str) -> None:
        """See AccountStore."""
        with self._database.writing() as connection:
            if name not in _workspaces(connection):
                connection.execute(workspaces.insert().values(name=name))

    def members(self, workspace: str) -> list[Member]:
        """See AccountStore."""
        with self._database.reading() as connection:
            return _members(connection, workspace)

    def put_member(self, member: Member) -> None:
        """See AccountStore."""
        with self._database.writing() as connection:
            present = _members(connection, member.workspace)
            if member.role is not Role.ADMIN:
                require_other_admin(present, member.name)
            _delete_member(connection, member.workspace, member.name)
            row = asdict(member) | {"role": member.role.value}
            connection.execute(members.insert().values(row))

    def remove_member(self, workspace: str, name: str, at: datetime) -> None:
        """See AccountStore."""
        with self._database.writing() as connection:
            require_other_admin(_members(connection, workspace), name)
            if not _delete_member(connection, workspace, name):
                raise unknown_member(workspace, name)
            holding = select(token_workspaces.c.token_id).where(token_workspaces.c.workspace == workspace)
            query = select(tokens).where(tokens.c.member == name, tokens.c.id.in_(holding))
            for token in _loaded(connection, connection.execute(query).mappings().all()):
                _withdraw(connection, token, [workspace], at)

    def add_token(self, token: Token, digest: str) -> None:
        """See AccountStore."""
        row = asdict(token) | {"digest": digest}
        with self._database.writing() as connection:
            known = _workspaces(connection)
            for workspace in row.pop("workspaces"):
                require_workspace(known, workspace)
            connection.execute(tokens.insert().values(row))
            places = [{"workspace": name, "token_id": token.id} for name in token.workspaces]
            connection.execute(token_workspaces.insert(), places)

    def tokens(
        self, workspaces: Collection[str] | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[Token]:
        """See AccountStore."""
        age = tokens.c.created_at
        query = select(tokens).order_by(age.desc(), tokens.c.id.desc()).limit(limit)
        if workspaces is not None:
            holding = select(token_workspaces.c.token_id).where(token_workspaces.c.workspace.in_(workspaces))
            query = query.where(tokens.c.id.in_(holding))
        with self._database.reading() as connection:
            if after is not None:
                last = _token_row(connection, after)["created_at"]
                query = query.where(or_(age < last, and_(age == last, tokens.c.id < after)))
            return _loaded(connection, connection.execute(query).mappings().all())

    def token(self, token_id: str) -> Token:
        """See AccountStore."""
        with self._database.reading() as connection:
            return _loaded(connection, [_token_row(connection, token_id)])[0]

    def credentials(self, token_id: str) -> Credentials | None:
        """See AccountStore."""
        with self._database.reading() as connection:
            row = _find(connection, token_id)
            if row is None:
                return None
            is_of_member = and_(
                members.c.workspace == token_workspaces.c.workspace, members.c.name == row["member"]
            )
            query = (
                select(token_workspaces.c.workspace, members.c.role)
                .outerjoin_from(token_workspaces, members, is_of_member)
                .where(token_workspaces.c.token_id == token_id)
            )
            places = connection.execute(query).all()
        token = load(Token, {**row, "workspaces": sorted(name for name, _ in places)})
        roles = {name: Role(role) for name, role in places if role is not None}
        return Credentials(token=token, digest=row["digest"], roles=roles)

    def revoke_token(self, token_id: str, at: datetime, workspaces: Collection[str] | None = None) -> Token:
        """See AccountStore."""
        with self._database.writing() as connection:
            token = _loaded(connection, [_token_row(connection, token_id)])[0]
            return _withdraw(connection, token, workspaces, at)

    def touch_token(self, token_id: str, at: datetime) -> None:
        """See AccountStore."""
        with self._database.writing() as connection:
            _token_row(connection, token_id)
            connection.execute(tokens.update().where(tokens.c.id == token_id).values(last_used_at=at))


def _workspaces(connection: Connection) -> set[str]:
    return {DEFAULT_WORKSPACE, *connection.scalars(select(workspaces.c.name))}


def _members(connection: Connection, workspace: str) -> list[Member]:
    require_workspace(_workspaces(connection), workspace)
    query = select(members).where(members.c.workspace == workspace)
    found = [load(Member, row) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda member: member.name)  # databases order text in ways of their own


def _delete_member(connection: Connection, workspace: str, name: str) -> bool:
    is_it = and_(members.c.workspace == workspace, members.c.name == name)
    return bool(connection.execute(members.delete().where(is_it)).rowcount)


def _withdraw(
    connection: Connection, token: Token, workspaces: Collection[str] | None, at: datetime
) -> Token:
    left = without(token, workspaces, at)
    places = token_workspaces.c
    lost = places.workspace.in_(set(token.workspaces) - set(left.workspaces))
    connection.execute(token_workspaces.delete().where(places.token_id == token.id, lost))
    is_it = tokens.c.id == token.id
    connection.execute(tokens.update().where(is_it).values(revoked_at=left.revoked_at))
    return left


def _find(connection: Connection, token_id: str) -> RowMapping | None:
    return connection.execute(select(tokens).filter_by(id=token_id)).mappings().one_or_none()


def _token_row(connection: Connection, token_id: str) -> RowMapping:
    row = _find(connection, token_id)
    if row is None:
        raise unknown_token(token_id)
    return row


def _loaded(connection: Connection, rows: Iterable[RowMapping]) -> list[Token]:
    """Return the tokens of rows, with the workspaces that they hold in."""
    rows = list(rows)
    places: dict[str, list[str]] = {row["id"]: [] for row in rows}
    query = select(token_workspaces).where(token_workspaces.c.token_id.in_(places))
    for place in connection.execute(query).mappings():
        places[place["token_id"]].append(place["workspace"])
    return [load(Token, {**row, "workspaces": sorted(places[row["id"]])}) for row in rows]
