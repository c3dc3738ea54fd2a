"""Where a search stands: how far it is, how long it takes yet, and the four numbers that matter."""

from nicegui import ui

from api.dashboard.snapshot import Snapshot
from api.dashboard.theme import panel
from nas import wording
from nas.clock import utc_now
from nas.leaderboard import num_planned
from nas.search import SearchState
from nas.standing import SearchView


class StandingPanel:
    """Progress and tiles of one visitor."""

    def __init__(self) -> None:
        self._pace: wording.Pace | None = None
        with ui.element("div").classes("tiles"):
            self._best = _Tile("Best held-out loss")
            self._gap = _Tile("Gap to the parent closed")
            self._size = _Tile("Parameters of the best")
            self._trials = _Tile("Trials ended")
        with panel().style("padding: 10px 18px"):
            with ui.row().classes("w-full justify-between gap-2"):
                self._stage = ui.label().classes("font-medium")
                self._left = ui.label().classes("soft")
            self._taken = ui.label().classes("soft")
            self._bar = ui.linear_progress(show_value=False, size="8px").props("rounded instant-feedback")

    def show(self, snapshot: Snapshot) -> None:
        """Bring the panel up to date."""
        self._show_tiles(snapshot.view)
        self._show_progress(snapshot)
        taken = wording.taken(snapshot.view.search, snapshot.view.tokens_saved)
        self._taken.text, self._taken.visible = "; ".join(taken), bool(taken)

    def _show_progress(self, snapshot: Snapshot) -> None:
        view = snapshot.view
        search, at = view.search, view.search.progress
        self._bar.visible = not search.state.is_final
        if search.state.is_final:
            ended = search.finished_at or search.created_at
            took = wording.duration(ended - (search.started_at or search.created_at))
            self._stage.text = f"Took {took}; its files take {wording.in_bytes(snapshot.disk_bytes)}"
            self._left.text = f"ended {ended:%d %B %Y, %H:%M} UTC"
            return
        if search.state in {
            SearchState.QUEUED,
            SearchState.PAUSED,
        }:  # why stands with what can be done about it
            self._stage.text, self._left.text = "Nothing of it runs now", ""
            self._bar.value = 0
            return
        done, total = (at.done, at.total) if at and at.total else (view.tokens_done, view.tokens_total)
        self._stage.text = wording.progress(at) if at else "Starting"
        self._stage.text = self._stage.text[:1].upper() + self._stage.text[1:]
        self._left.text = self._time_left(view)
        self._bar.value = min(1.0, done / total) if total else 0

    def _time_left(self, view: SearchView) -> str:
        """Say when the search will end, or else the stage that it is in."""
        at = view.search.progress
        if view.eta_seconds is not None or at is None:
            return wording.remaining(view.eta_seconds)
        if self._pace is None or self._pace.stage != at.stage:
            self._pace = wording.Pace(stage=at.stage, done=at.done, at=utc_now())
        left = self._pace.remaining_seconds(at, utc_now())
        return f"{wording.remaining(left)}{' of this stage' if left is not None else ''}"

    def _show_tiles(self, view: SearchView) -> None:
        search, best, before = view.search, view.best, view.before_promotion
        beside = (
            f"parent {wording.loss(search.parent_loss)}" if search.parent_loss else "parent not measured yet"
        )
        if before and before.measurement:
            beside += f"; before promotion {wording.loss(before.measurement.loss)}"
        self._best.show(wording.loss(view.best_loss), beside)
        tokens = f", after {wording.count(view.best_tokens)} tokens" if view.best_tokens else ""
        self._gap.show(wording.percent(view.gap_closed), f"of the loss that pruning added{tokens}")
        if best:
            count = best.architecture.parameter_count
            share = count / search.parent_parameters
            source = f", the student of trial {best.promoted_from}" if best.promotion else ""
            self._size.show(wording.count(count), f"{share:.0%} of the parent's, trial {best.number}{source}")
        else:
            self._size.show(wording.NOTHING, "no trial has completed")
        done = sum(number for state, number in view.counts.items() if state.is_final)
        parts = ", ".join(f"{number} {state.lower()}" for state, number in sorted(view.counts.items()))
        number = str(done) if search.state.is_final else f"{done} of about {num_planned(view)}"
        self._trials.show(number, parts or "none has begun")


class _Tile:
    """One number with what it means."""

    def __init__(self, title: str) -> None:
        with panel(title).style("gap: 2px; padding: 10px 18px"):
            self._number = ui.label().classes("number")
            self._note = ui.label().classes("soft")

    def show(self, number: str, note: str) -> None:
        """Bring the tile up to date."""
        self._number.text, self._note.text = number, note
