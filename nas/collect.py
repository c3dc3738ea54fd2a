"""``nas gc``: the composition root of what looks at the artifact root beside the store."""

from dataclasses import dataclass

from nas import disk
from nas.disk import Item, Usage
from nas.mlflow_links import links_of
from nas.settings import Settings
from nas.storage.sql import open_store

delete = disk.delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What takes space, and what of it may go."""

    usage: Usage
    items: list[Item]


def collect(settings: Settings, *, cache_bytes: int | None, keeps_students: bool) -> Found:
    """Look through the artifact root of these settings; see ``nas.disk`` for what may go.

    Raises:
        StoreUnavailable: Without the store nothing is known to have ended.
    """
    root, store = settings.artifact_root, open_store(settings.database_url)
    backlog = links_of(settings, store.outboxes).backlog()
    untold_since = backlog.since if backlog else None
    items = disk.leftovers(root, store, keeps_students=keeps_students, untold_since=untold_since)
    if cache_bytes is not None:
        items += disk.least_recently_used(root, max_bytes=cache_bytes)
    return Found(usage=disk.usage(root), items=items)
