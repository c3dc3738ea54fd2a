"""Who may do what, as laws, and that the use cases obey it whoever is handed them."""

from datetime import timedelta
from functools import partial
from operator import attrgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.recipe import DataRecipe
from nas.accounts import LOCAL, Action, Member, Principal, Role, allowed, chosen_workspace, workspaces_for
from nas.authentication import Authentication
from nas.axes import AXIS_NAMES
from nas.edits import Edit
from nas.errors import Forbidden, InvalidRequest, NotFound, StoreUnavailable, Unauthenticated
from nas.listing import SearchFilter
from nas.orders import Extend
from nas.people import People
from nas.scoped import USES, narrowed, scoped
from nas.service import SearchService
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from tests.fakes import ManualClock, small_spec
from tests.searches import make_search
from tests.unit.api.seeded import Played

WORKSPACES = ("default", "speech", "vision")
principals = st.dictionaries(st.sampled_from(WORKSPACES), st.sampled_from(Role)).map(
    lambda roles: Principal(name="ann", roles=roles, token_id="t")
)


@given(principals, st.sampled_from(WORKSPACES))
def test_whoever_may_more_may_less_and_nothing_elsewhere(principal, workspace):
    may = [allowed(principal, action, workspace) for action in (Action.READ, Action.CHANGE, Action.MANAGE)]
    assert may == sorted(may, reverse=True)
    assert sum(may) == (0 if workspace not in principal.roles else 1 + principal.roles[workspace].rank)
    assert all(allowed(LOCAL, action, workspace) for action in Action)


@given(principals, st.none() | st.sampled_from((*WORKSPACES, "nowhere")))
def test_a_search_is_submitted_where_its_sender_is_a_member_or_not_at_all(principal, asked):
    try:
        assert chosen_workspace(principal, asked) in principal.roles
    except InvalidRequest as error:
        told = error.reason.partition("allowed: ")[2]
        assert told == (", ".join(sorted(principal.roles)) or "none")


@given(principals, st.none() | st.lists(st.sampled_from(WORKSPACES)).map(tuple))
def test_a_list_holds_what_is_asked_for_and_seen(principal, asked):
    which = narrowed(SearchFilter(workspaces=asked), principal)
    for workspace in WORKSPACES:
        is_asked = asked is None or workspace in asked
        is_seen = workspace in workspaces_for(principal, Action.READ)
        assert which.admits(make_search(workspace=workspace)) == (is_asked and is_seen)


def test_every_use_case_has_a_rule():
    whole = SearchService(InMemoryStore(), artifact_root=Path("nowhere"))
    parts = {"control": whole.control, "log_ranges": whole.log_ranges, "mlflow": whole.mlflow}
    public = {name for name in dir(SearchService) if not name.startswith("_")}
    public |= {
        f"{part}.{name}" for part, uses in parts.items() for name in dir(uses) if not name.startswith("_")
    }
    public -= {"control.waiting", "mlflow.backlog"}  # asked by the service and its metrics
    assert public == USES.keys()
    others = {name for name in vars(whole) if not name.startswith("_")} - parts.keys()
    assert others == {"people", "authentication"}, "which handlers reach otherwise"


@pytest.fixture
def store():
    return InMemoryStore()


@pytest.fixture
def service(store, tmp_path):
    service = SearchService(store, artifact_root=tmp_path)
    service.people.add_workspace("vision")
    return service


def of(service, **roles):
    principal = Principal(name="ann", roles=roles, token_id="t")
    return scoped(service, lambda: principal)


@pytest.mark.parametrize("name", ["people", "authentication", "whatever", "_store"])
def test_what_has_no_rule_is_refused(service, name):
    with pytest.raises(Forbidden, match="found no rule for it"):
        getattr(of(service, default=Role.ADMIN), name)


LARGEST = search_space(small_spec()).largest
ORDERS = {
    "control.extend": (Extend(num_trials=9),),
    "control.enqueue": ({name: getattr(LARGEST, name) for name in AXIS_NAMES},),
    "control.stop_trial": (0,),
    "control.promote": (1, {"training": {"num_tokens": 4096}}),
    "control.pause": (),
    "control.resume": (),
    "control.cancel": (),
    "control.kill": (),
}
"""What each order says beside the search, in an order in which one search can obey them all."""
BESIDE = {"clone": ({},), "edit": (Edit(owner="me"),), "log_ranges.of_attempt": (0, 1), **ORDERS}
ASKED = {
    "log": lambda use, search_id: use(search_id, num_lines=1),
    "series": lambda use, search_id: use(search_id, max_points=9, max_trials=9),
    "compare": lambda use, search_id: use([search_id]),
    "mlflow.of_searches": lambda use, search_id: use([search_id]),
    "events": lambda use, search_id: use(search_id=search_id),
    "list_views": lambda use, search_id: use(after=search_id),
    "list_measurements": lambda use, search_id: use(after=(search_id, 0)),
}
LISTS = {"list_views", "list_measurements", "list_parents", "history_rows", "events"}
OF_NO_SEARCH = {"create", "plan", "comparison", "mlflow.behind_seconds", "event_cursor", "totals", "ping"}
"""What is compared is a search that was seen."""


def ask(service, path, search_id, **more):
    """Ask a use case for a search."""
    use = partial(attrgetter(path)(service), **more)
    return ASKED[path](use, search_id) if path in ASKED else use(search_id, *BESIDE.get(path, ()))


@pytest.mark.parametrize("path", sorted((USES.keys() - LISTS | ASKED.keys()) - OF_NO_SEARCH))
def test_what_is_anothers_is_not_there(service, path):
    made = service.create(small_spec(), workspace="vision")
    with pytest.raises(NotFound, match=f"search {made.id}: not found"):
        ask(of(service, default=Role.ADMIN), path, made.id)
    assert [view.search for view in service.list_views()] == [made]


@pytest.mark.parametrize("path", sorted(LISTS))
def test_what_is_anothers_is_in_no_list(store, service, path):
    made = service.create(small_spec(), workspace="vision")
    Played(store, ManualClock(), made.id).train()
    assert list(attrgetter(path)(of(service, default=Role.ADMIN))()) == []
    assert list(attrgetter(path)(of(service, vision=Role.VIEWER))()) != []


def test_nothing_is_submitted_where_others_are(service):
    mine = of(service, default=Role.ADMIN)
    made = mine.create(small_spec())
    for submit in (partial(mine.create, small_spec()), partial(mine.clone, made.id, {})):
        with pytest.raises(InvalidRequest, match="found vision, allowed: default"):
            submit(workspace="vision")
    assert [view.search for view in service.list_views()] == [made]


@pytest.mark.parametrize("path", sorted(USES))
def test_whoever_is_nobody_by_now_is_told_nothing(service, path):
    def nobody():
        raise Unauthenticated("gone")

    with pytest.raises(Unauthenticated, match="gone"):
        ask(scoped(service, nobody), path, "search-1")


def test_who_orders_is_who_asks_whatever_is_said_of_that(store, service):
    data = DataRecipe(sequence_length=8, validation_tokens=16)
    made = service.create(small_spec(data=data, sampler="exhaustive"))
    Played(store, ManualClock(), made.id).train(num_points=16)  # trial 0 waits at a rung, 1 has completed
    for path in ORDERS:
        ask(of(service, default=Role.CONTRIBUTOR), path, made.id, by="somebody else")
    told = [event.data for event in service.events() if event.kind == "order"]
    assert [(f"control.{data['order']}", data["by"]) for data in told] == [(path, "ann") for path in ORDERS]
    assert ORDERS.keys() == {path for path in USES if path.startswith("control.")}


def test_a_viewer_looks_and_changes_nothing(service):
    made = service.create(small_spec())
    looking = of(service, default=Role.VIEWER)
    assert looking.get(made.id).search == made
    assert [event.search_id for event in looking.events()] == [made.id]
    for use in (
        lambda: looking.control.cancel(made.id),
        lambda: looking.edit(made.id, Edit(owner="me")),
        lambda: looking.create(small_spec()),
        lambda: looking.clone(made.id, {}),
        lambda: looking.plan(small_spec()),
    ):
        with pytest.raises(Forbidden):
            use()
    assert len(service.list_views()) == 1


def test_a_page_that_is_open_is_worth_what_its_token_is_by_then(service):
    service.people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.CONTRIBUTOR))
    made, _ = service.people.create_token(LOCAL, "ann", ["default"])
    principal = service.authentication.of_token(made.id)
    mine = scoped(service, lambda: service.authentication.again(principal))
    search = mine.create(small_spec())
    assert search.owner == "ann"
    service.people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.VIEWER))
    with pytest.raises(Forbidden):
        mine.control.cancel(search.id)
    assert mine.get(search.id).search == search
    service.people.revoke_token(LOCAL, made.id)
    with pytest.raises(Unauthenticated, match="was revoked"):
        mine.get(search.id)


def test_whoever_was_local_is_nobody_once_there_are_accounts(service):
    assert service.authentication.again(LOCAL) is LOCAL
    service.people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.ADMIN))
    service.people.create_token(LOCAL, "ann", ["default"])
    with pytest.raises(Unauthenticated):
        service.authentication.again(LOCAL)


class Away:
    """Accounts whose database can be gone."""

    def __init__(self, accounts):
        self._accounts = accounts
        self.is_away = False

    def __getattr__(self, name):
        if self.is_away:
            raise StoreUnavailable("gone")
        return getattr(self._accounts, name)


def test_while_the_database_is_away_nobody_gets_in_but_to_the_metrics_as_remembered():
    clock, accounts = ManualClock(), Away(InMemoryStore().accounts)
    people, known = People(accounts, clock), Authentication(accounts, clock)
    assert not known.is_in_force()
    people.put_member(LOCAL, Member(workspace="default", name="ann", role=Role.ADMIN))
    _, secret = people.create_token(LOCAL, "ann", ["default"], lifetime=timedelta(hours=1))
    assert known.is_in_force()
    accounts.is_away = True
    with pytest.raises(StoreUnavailable):
        known.of_secret(secret.text, as_remembered=True)
    accounts.is_away = False
    assert known.of_secret(secret.text).name == "ann"
    accounts.is_away = True
    assert known.is_in_force()
    with pytest.raises(StoreUnavailable):
        known.of_secret(secret.text)
    assert known.of_secret(secret.text, as_remembered=True).name == "ann"
    forged = secret.text[:-1] + ("A" if secret.text[-1] != "A" else "B")
    with pytest.raises(Unauthenticated):
        known.of_secret(forged, as_remembered=True)
    clock.advance(3601)
    with pytest.raises(Unauthenticated, match="expired on"):
        known.of_secret(secret.text, as_remembered=True)
