"""The tables of the history, of parents and of students: columns, cells, and what stands in them."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from api.dashboard.theme import ROLE_COLOURS
from nas import wording
from nas.history import Entry, ParentSummary

SORTED_BY = {"at": "at", "loss": "loss", "parameters": "num_parameters"}
"""Fields that the history is ordered by, by the column that shows them."""
PARENT_COLUMNS = [
    {"name": "parent", "label": "Parent", "field": "parent", "align": "left"},
    {"name": "searches", "label": "Searches", "field": "searches", "align": "right"},
    {"name": "measurements", "label": "Students measured", "field": "measurements", "align": "right"},
    {"name": "tokens", "label": "Tokens trained", "field": "tokens", "align": "right"},
    {"name": "best", "label": "Lowest loss", "field": "best", "align": "right"},
    {"name": "last", "label": "Latest", "field": "last", "align": "right"},
]
COLUMNS: list[dict[str, Any]] = [  # a phone shows the first ones, and keeps the first
    {
        "name": "architecture",
        "label": "Architecture",
        "field": "architecture",
        "align": "left",
        "classes": "mono",
    },
    {"name": "loss", "label": "Loss", "field": "loss", "align": "right", "orders": True},
    {"name": "parent", "label": "Parent", "field": "parent", "align": "left"},
    {"name": "parameters", "label": "Parameters", "field": "parameters", "align": "right", "orders": True},
    {"name": "before", "label": "Loss pruned", "field": "before", "align": "right"},
    {"name": "tokens", "label": "Tokens", "field": "tokens", "align": "right"},
    {"name": "role", "label": "Role", "field": "role", "align": "left"},
    {"name": "search", "label": "Search, trial", "field": "search", "align": "left"},
    {"name": "owner", "label": "Owner", "field": "owner", "align": "left"},
    {"name": "at", "label": "Measured", "field": "at", "align": "right", "orders": True},
    {"name": "use", "label": "", "field": "use", "align": "left"},
]
CELLS = {
    "parent": '<div :title="props.row.parent_name">{{ props.row.parent }}</div>',
    "loss": '<span :class="{soft: props.row.partial}">{{ props.row.loss }}</span>',
    "tokens": '<div>{{ props.row.tokens }}</div><div v-if="props.row.partial" class="soft">ended early</div>',
    "role": '<span class="chip" :style="`--dot: ${props.row.role_colour}`">{{ props.row.role }}</span>',
    "search": '<a class="quiet text-primary" :href="props.row.href">{{ props.row.search }}</a>'
    '<div class="soft mono">trial {{ props.row.trial }}</div>',
    "use": '<a class="quiet text-primary" :href="`/launch?clone=${props.row.search_id}`" '
    ':aria-label="`New search like ${props.row.search_id}`">Use in a new search</a>'
    '<div v-if="props.row.reusable" class="soft" '
    'title="Stands for a trial of the same parent, data, recipe and architecture">reusable</div>',
}
PARENT_CELL = (
    '<a class="quiet font-medium text-primary" :href="props.row.href" :title="props.row.name">'
    "{{ props.row.parent }}</a>"
)


def summary(each: ParentSummary) -> str:
    """Return what was measured of a parent, in one line."""
    return (
        f"{each.num_measurements:,} students of {each.num_searches:,} searches, "
        f"{wording.count(each.num_tokens)} tokens, lowest loss {wording.loss(each.best_loss)}"
    )


def parent_row(each: ParentSummary, now: datetime) -> dict[str, Any]:
    """Return a parent's row."""
    return {
        "key": each.parent_key,
        "name": each.parent,
        "parent": wording.parent(each.parent),
        "href": f"/history?{urlencode({'parent_key': each.parent_key})}",
        "searches": f"{each.num_searches:,}",
        "measurements": f"{each.num_measurements:,}",
        "tokens": wording.count(each.num_tokens),
        "best": wording.loss(each.best_loss),
        "last": wording.ago(each.last_at, now),
    }


def student_row(entry: Entry, now: datetime) -> dict[str, Any]:
    """Return a measurement's row."""
    found = entry.measured
    return {
        "key": f"{found.search_id} {found.trial_number}",
        "parent": wording.parent(found.parent),
        "parent_name": found.parent,
        "architecture": found.architecture.name,
        "parameters": f"{found.num_parameters:,}",
        "before": wording.loss(found.loss_before),
        "loss": wording.loss(found.loss),
        "reusable": found.is_reusable,
        "tokens": f"{found.num_tokens:,}",
        "partial": found.is_partial,
        "role": wording.ROLES[found.role],
        "role_colour": ROLE_COLOURS[found.role],
        "search": entry.search_name or found.search_id,
        "search_id": found.search_id,
        "trial": found.trial_number,
        "href": f"/searches/{found.search_id}?trial={found.trial_number}",
        "owner": entry.owner,
        "at": wording.ago(found.at, now),
    }
