"""The rows of the list: what is to be known of a search at a glance, in words. Knows no store and no page."""

from datetime import datetime, timedelta
from typing import Any

from api.dashboard.said_panel import listed
from api.dashboard.theme import STATE_COLOURS, state_words
from nas import wording
from nas.leaderboard import num_planned
from nas.search import SearchState
from nas.standing import SearchView
from nas.trial import TrialState

COLUMNS = [
    {"name": "search", "label": "Search", "field": "name", "align": "left"},
    {"name": "state", "label": "State and why", "field": "state", "align": "left"},
    {"name": "best", "label": "Best loss", "field": "best", "align": "right"},
    {"name": "gap", "label": "Gap closed", "field": "gap", "align": "right"},
    {"name": "trials", "label": "Trials", "field": "trials", "align": "left"},
    {"name": "time", "label": "Compute, time left", "field": "compute", "align": "left"},
    {"name": "progressed", "label": "Last progress", "field": "progressed", "align": "left"},
    {"name": "owner", "label": "Owner", "field": "owner", "align": "left"},
]
CELLS = {
    "search": '<a class="quiet font-medium text-primary" :href="`/searches/${props.row.id}`">'
    '{{ props.row.name }}</a><div class="soft">{{ props.row.parent }}, {{ props.row.budget }}</div>'
    '<div class="soft mono">{{ props.row.id }}</div>'
    '<a v-for="tag in props.row.tags" class="tag" :href="tag.href">{{ tag.name }}</a>',
    "state": '<span class="chip" :class="{live: props.row.live}" :style="`--dot: ${props.row.colour}`">'
    '{{ props.row.state }}</span><span v-if="props.row.archived" class="soft"> archived</span>'
    '<div class="soft reason" :title="props.row.reason">{{ props.row.reason }}</div>',
    "best": '<div class="font-semibold">{{ props.row.best }}</div>'
    '<div v-if="props.row.before" class="soft">{{ props.row.before }} before promotion</div>'
    '<div class="soft">parent {{ props.row.parent_loss }}</div>',
    "gap": "{{ props.row.gap }}",
    "trials": '<div>{{ props.row.trials }}</div><q-linear-progress v-if="props.row.share !== null" '
    ':value="props.row.share" size="4px" rounded :style="`color: ${props.row.colour}`" class="q-my-xs" '
    ':aria-label="`${Math.round(100 * props.row.share)} % of the tokens`" />'
    '<div v-if="props.row.counts" class="soft">{{ props.row.counts }}</div>',
    "time": '<div>{{ props.row.compute }}</div><div class="soft">{{ props.row.left }}</div>',
    "progressed": "{{ props.row.progressed }}",
    "owner": '<a v-if="props.row.owner" class="quiet owner" :href="props.row.owner_href" :title="props.row.owner">'
    "{{ props.row.owner }}</a>",
}
COUNTED = (
    (TrialState.RUNNING, "running"),
    (TrialState.WAITING, "waiting"),
    (TrialState.PROPOSED, "proposed"),
    (TrialState.STOPPED, "stopped"),
    (TrialState.FAILED, "failed"),
    (TrialState.CANCELLED, "cancelled"),
)
"""What of the trials is told beside how many are done; states without any are left out."""


def row_of(view: SearchView, now: datetime) -> dict[str, Any]:
    """Return the row of a search."""
    search, before = view.search, view.before_promotion
    done = sum(number for state, number in view.counts.items() if state.is_final)
    is_final = search.state.is_final
    return {
        "id": search.id,
        "name": search.spec.name or f"Search of {wording.parent(search.spec.parent)}",
        "state": state_words(search),
        "reason": reason(view),
        "colour": STATE_COLOURS[search.state],
        "live": not is_final and search.state not in {SearchState.QUEUED, SearchState.PAUSED},
        "archived": search.archived,
        "owner": search.owner,
        "owner_href": listed(owner=search.owner),
        "tags": [{"name": tag, "href": listed(tag=tag)} for tag in search.tags],
        "parent": wording.parent(search.spec.parent),
        "budget": wording.budget(search.spec.budget),
        "best": wording.loss(view.best_loss),
        "before": wording.loss(before.measurement.loss) if before and before.measurement else "",
        "parent_loss": wording.loss(search.parent_loss),
        "gap": wording.percent(view.gap_closed),
        "trials": f"{done} ended" if is_final else f"{done} of about {num_planned(view)} ended",
        "counts": ", ".join(
            f"{view.counts[state]} {word}" for state, word in COUNTED if view.counts.get(state)
        ),
        "share": None if is_final else view.tokens_done / max(1, view.tokens_total),
        "compute": f"{wording.duration(timedelta(seconds=view.compute_seconds))} of compute",
        "left": _left(view, now),
        "progressed": wording.ago(view.progressed_at, now) if view.progressed_at else wording.NOTHING,
    }


def reason(view: SearchView) -> str:
    """Return in one line why a search is in its state, or what it does there; empty where there is nothing to say."""
    search = view.search
    if search.failure:
        return search.failure.message.partition("\n")[0]
    if view.waiting:
        return view.waiting.text
    return wording.progress(search.progress) if search.progress else ""


def _left(view: SearchView, now: datetime) -> str:
    search = view.search
    if search.state.is_final:
        return f"ended {wording.ago(search.finished_at, now)}" if search.finished_at else ""
    if view.eta_seconds is None:
        return f"submitted {wording.ago(search.created_at, now)}"
    return wording.remaining(view.eta_seconds)
