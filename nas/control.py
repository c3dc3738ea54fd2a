"""What people do with a search that is under way: the use cases of REST, page and command line.

Knows a store and what this process does about searches; no HTTP, no database, no worker. What is ordered is stored
before it is acknowledged; who runs the search obeys within a second or two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nas.axes import AXIS_NAMES
from nas.clock import Clock
from nas.enqueue import asked_architecture
from nas.errors import Conflict, InvalidOrder, InvalidSpec
from nas.orders import EXTENDABLE, Cancel, Enqueue, Extend, Kill, Order, Pause, Promote, Resume, StopTrial
from nas.promotion_asked import asked_promotion
from nas.search import Search, SearchState
from nas.space import search_space
from nas.spec import shown
from nas.storage.store import SearchStore
from nas.text import read_text
from nas.waiting import UNDER_WAY, Capacity, Waiting, search_waits

MAX_QUEUE = 1000
"""Places in the queue that are told apart."""
_FIXED = (
    "cannot be changed: what a trial is follows from it, so trials before and after would not compare; "
    "allowed: {names}, or a search of its own: nas clone ID --set {field}=VALUE"
)


class SearchControl:
    """The use cases. ``by`` says who wants it, empty where that is not known.

    All raise NotFound for what is not there, and Conflict where the present state does not allow it. An order that
    was given already, and may have been sent again, changes nothing.
    """

    def __init__(self, store: SearchStore, *, clock: Clock, capacity: Capacity) -> None:
        self._store = store
        self._clock = clock
        self._capacity = capacity

    def pause(self, search_id: str, *, by: str = "") -> Search:
        """Give back what a search uses, and leave it alone until it is resumed."""
        return self._give(search_id, Pause(), by)

    def resume(self, search_id: str, *, by: str = "") -> Search:
        """Queue a paused search again; it ends as if it had never been paused."""
        return self._give(search_id, Resume(), by)

    def cancel(self, search_id: str, *, by: str = "") -> Search:
        """End a search in order; what it measured is kept."""
        return self._give(search_id, Cancel(), by)

    def kill(self, search_id: str, *, by: str = "") -> Search:
        """End a search now: it is CANCELLED when this returns, whatever its workers do."""
        return self._give(search_id, Kill(), by)

    def extend(self, search_id: str, limits: Extend, *, by: str = "") -> Search:
        """Let a search try more or fewer architectures, on more or fewer tokens, or at a time; its spec stays as it was asked.

        Raises:
            InvalidOrder: Fewer than it has proposed or trained on, or more than any search may.
        """
        return self._give(search_id, limits, by)

    def enqueue(self, search_id: str, sizes: Mapping[str, int], *, by: str = "") -> Search:
        """Have an architecture tried before the next proposal, in its place; after the last it is one more.

        Raises:
            Conflict: Also where the search has tried it by itself, people have stopped its trial, or blocks are to be timed
                before it is known which architectures there are.
            InvalidOrder: The search has no such architecture; names the nearest.
        """
        search = self._store.get_search(search_id)
        latency = search.budget.latency
        is_bound = latency is not None and latency.table is None and latency.most_nanoseconds is not None
        if is_bound and not search.state.is_final:
            raise Conflict(
                f"search {search_id}: is {search.state} and cannot be given an architecture: which are within budget.latency "
                "is known once blocks are timed; allowed: from when it is RUNNING"
            )
        space = search_space(search.measured_spec)
        return self._give(search_id, Enqueue(architecture=asked_architecture(space, sizes)), by)

    def stop_trial(self, search_id: str, trial_number: int, *, by: str = "") -> Search:
        """End one trial, wherever it stands; the search goes on without it."""
        return self._give(search_id, StopTrial(trial_number=trial_number), by)

    def promote(self, search_id: str, trial_number: int, patch: Any = None, *, by: str = "") -> Search:
        """Have the student of a completed trial retrained for longer; a search that is over is queued again for that.

        Args:
            search_id: Of the search.
            trial_number: Of the trial.
            patch: Changes what the search's spec says of promotions; nothing: as it says.
            by: Who wants it.

        Raises:
            InvalidOrder: The spec says nothing of promotions and the patch too little, or it makes no promotion.
        """
        promotion = asked_promotion(self._store.get_search(search_id).spec, {} if patch is None else patch)
        return self._give(search_id, Promote(trial_number=trial_number, promotion=promotion), by)

    def waiting(self, searches: Sequence[Search]) -> dict[str, Waiting]:
        """Return why each of some searches waits that does."""
        has_queued = any(search.state is SearchState.QUEUED for search in searches)
        queue = self._store.queue(MAX_QUEUE) if has_queued else []
        under_way = [search.id for search in searches if search.state in UNDER_WAY]
        held = self._store.held(under_way, self._clock()) if under_way else set()
        found = {
            search.id: search_waits(search, queue, self._capacity, is_held=search.id in held)
            for search in searches
        }
        return {search_id: waiting for search_id, waiting in found.items() if waiting}

    def _give(self, search_id: str, order: Order, by: str) -> Search:
        return self._store.give_order(search_id, order, at=self._clock(), by=by)


def parse_limits(data: Any) -> Extend:
    """Return the limits that a mapping names.

    Raises:
        InvalidOrder: With every problem that was found.
    """
    if isinstance(data, Mapping):
        fixed = [str(name) for name in data if name not in EXTENDABLE]
        names = ", ".join(EXTENDABLE)
        if fixed:
            raise InvalidOrder(tuple((name, _FIXED.format(names=names, field=name)) for name in fixed))
    return Extend(**_whole_numbers(data, EXTENDABLE, "limits"))


def parse_sizes(data: Any) -> dict[str, int]:
    """Return the sizes of an architecture that a mapping names.

    Raises:
        InvalidOrder: With every problem that was found.
    """
    return _whole_numbers(data, AXIS_NAMES, "architecture")


def read_order(text: str) -> Any:
    """Return what a text in JSON or YAML says; raises InvalidOrder where it is neither."""
    try:
        return read_text(text)
    except InvalidSpec as error:
        problems = (("body" if field == "spec" else field, reason) for field, reason in error.problems)
        raise InvalidOrder(tuple(problems)) from None


def _whole_numbers(data: Any, names: Sequence[str], what: str) -> dict[str, int]:
    allowed = f"a mapping of any of {', '.join(names)}"
    if not isinstance(data, Mapping) or not data:
        found = "nothing" if data in (None, {}) else shown(data)
        raise InvalidOrder(((what, f"found {found}, allowed: {allowed}"),))
    problems = [(str(name), f"unknown, allowed: {', '.join(names)}") for name in data if name not in names]
    problems += [
        (name, f"found {shown(data[name])}, allowed: a whole number above 0")
        for name in names
        if name in data and not _is_count(data[name])
    ]
    if problems:
        raise InvalidOrder(tuple(problems))
    return {name: int(data[name]) for name in names if name in data}


def _is_count(value: Any) -> bool:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return is_whole and not isinstance(value, bool) and 0 < value < 2**53
