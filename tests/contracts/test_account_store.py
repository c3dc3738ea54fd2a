"""What every AccountStore guarantees, held against each implementation."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from nas.accounts import Member, Role, Secret, Token
from nas.errors import LastAdmin, UnknownAccount
from tests.searches import after


@pytest.fixture
def accounts(store):
    """Nobody yet."""
    return store.accounts


def member(name="ann", role=Role.ADMIN, workspace="default"):
    return Member(workspace=workspace, name=name, role=role)


def token(token_id="aaaaaaaaaa", *, workspaces=("default",), **changes):
    fields = {"member": "ann", "name": "laptop", "created_at": after(0)}
    return Token(id=token_id, workspaces=workspaces, **(fields | changes))


def ids(tokens):
    return [each.id for each in tokens]


def test_the_default_workspace_is_always_there(accounts):
    assert accounts.workspaces() == ["default"]
    accounts.add_workspace("default")
    accounts.add_workspace("vision")
    accounts.add_workspace("vision")
    assert accounts.workspaces() == ["default", "vision"]


def test_members_are_listed_by_name_with_their_last_role(accounts):
    for each in (member("bob", Role.VIEWER), member("ann"), member("Cid", Role.VIEWER)):
        accounts.put_member(each)
    accounts.put_member(member("bob", Role.CONTRIBUTOR))
    assert accounts.members("default") == [
        member("Cid", Role.VIEWER), member("ann"), member("bob", Role.CONTRIBUTOR),
    ]  # fmt: skip


def test_nobody_is_a_member_of_what_is_not_there(accounts):
    for attempt in (
        lambda: accounts.members("nowhere"),
        lambda: accounts.put_member(member(workspace="nowhere")),
        lambda: accounts.remove_member("nowhere", "ann", after(0)),
        lambda: accounts.add_token(token(workspaces=("default", "nowhere")), "d"),
    ):
        with pytest.raises(UnknownAccount, match="workspace nowhere: not found"):
            attempt()
    with pytest.raises(UnknownAccount, match="member ann: not found"):
        accounts.remove_member("default", "ann", after(0))
    assert not accounts.has_tokens()


def test_the_last_admin_of_a_workspace_stays_one(accounts):
    accounts.add_workspace("vision")
    accounts.put_member(member())
    accounts.put_member(member("bob", Role.VIEWER))
    accounts.put_member(member("bob", workspace="vision"))
    for attempt in (
        lambda: accounts.remove_member("default", "ann", after(0)),
        lambda: accounts.put_member(member(role=Role.CONTRIBUTOR)),
    ):
        with pytest.raises(LastAdmin, match="ann: is the last admin of workspace default"):
            attempt()
    accounts.put_member(member("bob"))
    accounts.remove_member("default", "ann", after(0))
    assert accounts.members("default") == [member("bob")]


def test_of_two_admins_that_leave_at_once_one_stays(accounts):
    for _ in range(5):
        for name in ("ann", "bob"):
            accounts.put_member(member(name))

        def leave(name):
            try:
                accounts.remove_member("default", name, after(0))
            except LastAdmin:
                return name
            return None

        with ThreadPoolExecutor(2) as pool:
            stayed = [name for name in pool.map(leave, ("ann", "bob")) if name]
        assert [each.name for each in accounts.members("default")] == stayed
        assert len(stayed) == 1


def test_a_token_comes_back_equal(accounts):
    accounts.add_workspace("vision")
    full = token(
        workspaces=("default", "vision"),
        expires_at=after(90),
        revoked_at=after(5),
        last_used_at=after(4),
    )
    accounts.add_token(full, "digest")
    assert accounts.token(full.id) == full
    assert accounts.tokens() == [full]
    assert accounts.credentials(full.id).token == full
    assert accounts.credentials(full.id).digest == "digest"


def test_tokens_are_listed_newest_first_by_workspace_and_page(accounts):
    accounts.add_workspace("vision")
    for number, place in enumerate(("default", "vision", "default", "default")):
        made = token(f"{'abcd'[number]}" * 10, workspaces=(place,), created_at=after(number // 2))
        accounts.add_token(made, "d")
    a, b, c, d = (letter * 10 for letter in "abcd")
    assert ids(accounts.tokens()) == [d, c, b, a]
    assert ids(accounts.tokens(["default"])) == [d, c, a]
    assert ids(accounts.tokens(["default", "vision"], after=c, limit=1)) == [b]
    assert ids(accounts.tokens(after=d)) == [c, b, a]
    assert accounts.tokens([]) == []


def test_a_token_is_worth_what_its_member_is_where_it_holds(accounts):
    for name in ("vision", "speech"):
        accounts.add_workspace(name)
        accounts.put_member(member(workspace=name))
    accounts.put_member(member("zoe"))
    accounts.add_token(token(workspaces=("default", "vision")), "d")
    assert accounts.credentials("a" * 10).roles == {"vision": Role.ADMIN}
    accounts.put_member(member(role=Role.VIEWER))
    assert accounts.credentials("a" * 10).roles == {"vision": Role.ADMIN, "default": Role.VIEWER}


def test_a_token_is_revoked_once(accounts):
    accounts.add_token(token(), "d")
    assert accounts.revoke_token("a" * 10, after(1)).revoked_at == after(1)
    assert accounts.revoke_token("a" * 10, after(2)).revoked_at == after(1)
    assert accounts.has_tokens()


def test_a_token_is_taken_out_of_workspaces_and_revoked_with_the_last(accounts):
    for name in ("speech", "vision"):
        accounts.add_workspace(name)
    accounts.add_token(token(workspaces=("default", "speech", "vision")), "d")
    left = accounts.revoke_token("a" * 10, after(1), ["default", "speech"])
    assert (left.workspaces, left.revoked_at) == (("vision",), None)
    assert accounts.token("a" * 10) == left
    assert accounts.revoke_token("a" * 10, after(2), ["default"]) == left
    ended = accounts.revoke_token("a" * 10, after(3), ["vision", "speech"])
    assert (ended.workspaces, ended.revoked_at) == (("vision",), after(3))
    assert accounts.token("a" * 10) == ended
    assert ids(accounts.tokens(["vision"])) == ["a" * 10]
    assert accounts.tokens(["default"]) == []


def test_who_leaves_a_workspace_leaves_no_token_to_a_namesake(accounts):
    accounts.add_workspace("vision")
    for place in ("default", "vision"):
        accounts.put_member(member("zoe", workspace=place))
        accounts.put_member(member(workspace=place))
    accounts.add_token(token(), "d")
    accounts.add_token(token("b" * 10, workspaces=("default", "vision")), "d")
    accounts.add_token(token("c" * 10, workspaces=("vision",)), "d")
    accounts.add_token(token("d" * 10, member="zoe"), "d")
    accounts.remove_member("default", "ann", after(5))
    accounts.put_member(member())
    alone, both, elsewhere, another = (accounts.credentials(letter * 10) for letter in "abcd")
    assert alone.token.revoked_at == after(5)
    assert both.roles == elsewhere.roles == {"vision": Role.ADMIN}
    assert both.token == token("b" * 10, workspaces=("vision",))
    assert elsewhere.token == token("c" * 10, workspaces=("vision",))
    assert another.roles == {"default": Role.ADMIN}
    assert another.token == token("d" * 10, member="zoe")


def test_who_stays_the_last_admin_keeps_their_tokens(accounts):
    accounts.put_member(member())
    accounts.add_token(token(), "d")
    with pytest.raises(LastAdmin):
        accounts.remove_member("default", "ann", after(5))
    assert accounts.token("a" * 10) == token()


def test_use_is_written_down(accounts):
    accounts.add_token(token(), "d")
    accounts.touch_token("a" * 10, after(9))
    assert accounts.token("a" * 10) == replace(token(), last_used_at=after(9))


def test_unknown_tokens(accounts):
    assert accounts.credentials("b" * 10) is None
    for attempt in (
        lambda: accounts.token("b" * 10),
        lambda: accounts.revoke_token("b" * 10, after(0)),
        lambda: accounts.touch_token("b" * 10, after(0)),
        lambda: accounts.tokens(after="b" * 10),
    ):
        with pytest.raises(UnknownAccount, match="token bbbbbbbbbb: not found"):
            attempt()


def test_the_secret_is_not_what_is_stored(accounts):
    secret = Secret.new()
    accounts.add_token(token(secret.token_id), secret.digest)
    stored = accounts.credentials(secret.token_id)
    assert secret.matches(stored.digest)
    assert not Secret.new().matches(stored.digest)
    assert secret.text not in repr(stored) + repr(secret)
