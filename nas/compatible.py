"""Whether an earlier search can tell a later one something: the same parent, measured by the same version of the loss.

By content as far as a worker has read it, which is what names mean in the end: a directory may have been written anew since,
and the same weights may lie elsewhere by now. Until then by name.
"""

from collections.abc import Collection, Iterator

from minitron.loss_version import LOSS_VERSION
from nas.errors import InvalidSpec, NotFound
from nas.listing import SearchFilter
from nas.parent import architecture_of
from nas.priors import WARMED
from nas.search import Search, SearchSpec
from nas.storage.store import SearchStore

FIELD = "history.warm_start_from"
MOST_LOOKED_AT = 100
"""Latest searches of a parent of which one may say what its weights are."""


def require_sources(spec: SearchSpec, store: SearchStore, workspaces: Collection[str] | None) -> None:
    """Refuse a spec that wants to begin from searches that can tell it nothing.

    Args:
        spec: As it is to be stored, its parent resolved.
        store: Where the searches are.
        workspaces: Those whose searches may be named; None: all.

    Raises:
        InvalidSpec: There is no such search in these workspaces, it is of another parent or measured by another version
            of the held-out loss, or the sampler begins from none.
    """
    named = spec.history.warm_start_from
    if not named:
        return
    problems = []
    if spec.sampler not in WARMED:
        problems.append(f"found searches, allowed with sampler: {spec.sampler}, which begins from none: none")
    content = _content_of(spec.parent, store, workspaces)
    for search_id in named:
        try:
            search = store.get_search(search_id)
        except NotFound:
            search = None
        if search is None or (workspaces is not None and search.workspace not in workspaces):
            problems.append(f"found {search_id}, allowed: searches of the same workspace")
        else:
            problems += _differences(spec, search, content)
    if problems:
        raise InvalidSpec(tuple((FIELD, problem) for problem in problems))


def _differences(spec: SearchSpec, search: Search, content: str | None) -> Iterator[str]:
    """Yield why a search tells nothing about ``spec``, of whose parent ``content`` is the fingerprint, where it is known."""
    made_from, parent = search.made_from, search.spec.parent
    if made_from and made_from.loss_version != LOSS_VERSION:
        yield (
            f"found {search.id}, measured by version {made_from.loss_version} of the held-out loss, allowed: searches "
            f"measured by version {LOSS_VERSION}, as this one will be"
        )
    allowed = f"allowed: searches of the same parent, {spec.parent}"
    if made_from and content:
        if made_from.parent != content:
            where = "as it was with other weights" if parent == spec.parent else "which has other weights"
            yield f"found {search.id}, a search of {parent}, {where}, {allowed}"
    elif parent != spec.parent:
        yield f"found {search.id}, a search of {parent}, {allowed}"
    elif search.parent_parameters != architecture_of(spec).parameter_count:
        yield f"found {search.id}, a search of {parent}, as it was with another shape, {allowed}"


def _content_of(parent: str, store: SearchStore, workspaces: Collection[str] | None) -> str | None:
    """Return the fingerprint of a parent as a worker found it last; None where none has read it yet."""
    seen = None if workspaces is None else tuple(sorted(workspaces))
    latest = store.list_searches(SearchFilter(parent=parent, workspaces=seen), limit=MOST_LOOKED_AT)
    return next(
        (search.made_from.parent for search in latest if search.made_from and search.spec.parent == parent),
        None,
    )
