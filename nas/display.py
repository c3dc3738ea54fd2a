"""What the command line prints: a search, the leaderboard and its verdict, and work while it goes on."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from minitron.progress import Progress as Stage
from nas import wording
from nas.choice import Choice, Rival
from nas.clock import utc_now
from nas.disk import Item, Usage
from nas.finals import overtaking
from nas.frontier import Comparison
from nas.leaderboard import leaderboard
from nas.push import Upload
from nas.search import Event, Search, SearchState
from nas.spec import load
from nas.standing import SearchView, TrialRecord
from nas.tables import PLAIN_WIDTH, FittedTable, leaderboard_table, scores_table, state_text
from nas.trial import Trial

LINE_SECONDS = 5.0
"""How often, at most, progress is a line of its own where no terminal can redraw one."""


def terminal() -> Console:
    """Return where the command line prints: NO_COLOR and COLUMNS are heeded, and where it is piped it is plain."""
    width = None if sys.stdout.isatty() else shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns
    return Console(width=width, highlight=False, markup=False, emoji=False)


def disk(console: Console, root: Path, used: Usage, items: Sequence[Item]) -> None:
    """Print what takes space below the artifact root, and what of it may go."""
    table = FittedTable("below the artifact root", ">bytes")
    for name, size in used.shared.items():
        table.add_row(name, wording.in_bytes(size))
    for search_id, size in used.searches.items():
        table.add_row(f"searches/{search_id}", wording.in_bytes(size))
    table.add_row("in all", wording.in_bytes(used.total), style="bold")
    console.print(Text(str(root)), soft_wrap=True)
    console.print(table)
    if not items:
        console.print(Text("nothing of it may go"))
        return
    going = FittedTable("may go", ">bytes", "because")
    for item in items:
        going.add_row(str(item.path.relative_to(root)), wording.in_bytes(item.num_bytes), item.reason)
    going.add_row("in all", wording.in_bytes(sum(item.num_bytes for item in items)), "", style="bold")
    console.print(going)


def report(
    console: Console, view: SearchView, records: Sequence[TrialRecord], comparison: Comparison | None
) -> None:
    """Print a search: what was asked, every trial, and how the best compares."""
    search = view.search
    console.print(heading(search), soft_wrap=True)
    if search.notes:
        console.print(Text(wording.visible(search.notes.rstrip())), soft_wrap=True)
    if search.failure:
        console.print(Text(f"failed: {search.failure.message}", style="red"), soft_wrap=True)
    for line in (*_ordered(search), *wording.taken(search, view.tokens_saved)):
        console.print(Text(line), soft_wrap=True)
    if view.waiting:
        console.print(Text(f"waits: {view.waiting.text}", style="yellow"), soft_wrap=True)
    elif search.progress and not search.state.is_final:
        left = f", {wording.remaining(view.eta_seconds)}" if view.eta_seconds is not None else ""
        console.print(Text(f"{wording.progress(search.progress)}{left}"), soft_wrap=True)
    if records:
        console.print(leaderboard_table(leaderboard(records), view.search.budget))
    if search.evaluated:
        console.print(scores_table(search.evaluated))
    failed = [record.trial for record in records if record.trial.failure]
    for trial in failed:
        assert trial.failure
        console.print(Text(f"trial {trial.number} failed: {trial.failure.message}"), soft_wrap=True)
    if comparison and view.best:
        console.print(Text("\n".join(_verdict(view, comparison))), soft_wrap=True)


def _ordered(search: Search) -> list[str]:
    """Return what people ordered of a search, where its state and its trials do not tell it."""
    killed, limits = wording.killed(search.orders), search.orders.limits
    changed = (f"{name} {value}, asked were {getattr(search.spec, name)}" for name, value in limits.items())
    told = [f"{killed}: what ran then was not waited for"] if killed else []
    return [*told, f"limits by now: {'; '.join(changed)}"] if limits else told


def evidence(console: Console, search: Search) -> None:
    """Print what engineers need of a failed search: the worker's traceback and the end of its log."""
    if search.failure and search.failure.traceback:
        console.print(Text(search.failure.traceback), soft_wrap=True)
    if search.failure and search.failure.log_tail:
        console.print(Text("the end of the worker's log:", style="bold"))
        console.print(Text(search.failure.log_tail), soft_wrap=True)


def heading(search: Search) -> Text:
    """Return what a search is and where it stands, in one line."""
    name = f" ({wording.visible(search.spec.name)})" if search.spec.name else ""
    return Text.assemble(
        (f"search {search.id}{name}", "bold"), ": ", state_text(search.state),
        f"; {wording.visible(search.spec.parent)}, {wording.count(search.parent_parameters)} parameters, "
        f"budget {wording.budget(search.budget)}; {wording.fitting(search)}",
        f"; cloned from {search.cloned_from}" if search.cloned_from else "",
        *(f"; {part}" for part in wording.said(search)),
    )  # fmt: skip


def take_home(console: Console, directory: Path) -> None:
    """Print where the winner lies and how to load it."""
    lines = (
        f"the winner: {directory}",
        "  from transformers import AutoModelForCausalLM",
        f"  model = AutoModelForCausalLM.from_pretrained({str(directory)!r})",
    )
    console.print(Text("\n".join(lines)), soft_wrap=True)


def study(console: Console, search_id: str, url: str, num_trials: int) -> None:
    """Print how to open the Optuna study of a search."""
    lines = (
        f"study {search_id}: {num_trials} trials",
        f"  optuna-dashboard {shlex.quote(url)}",
        f"  optuna.load_study(study_name={search_id!r}, storage={url!r})",
    )
    console.print(Text("\n".join(lines)), soft_wrap=True)


def upload(planned: Upload) -> Text:
    """Return which files go where."""
    files, kind = (
        planned.files,
        "private" if planned.is_private else "public unless its owner's default differs",
    )
    total = sum(size for _, size in files)
    lines = [f"{planned.repository.repository} ({kind}): {len(files)} files, {total:,} bytes"]
    return Text("\n".join([*lines, *(f"  {path}  {size:,}" for path, size in files)]))


class Narrator:
    """Tells a search from its events: a bar on a terminal, elsewhere lines. Use as a context manager."""

    def __init__(self, console: Console, look: Callable[[], SearchView]) -> None:
        self._console = console
        self._look = look
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[left]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=None, left="", visible=False)
        self._state: SearchState | None = None
        self._stage = ""
        self._pace: wording.Pace | None = None
        self._told_at = 0.0
        self._ended: set[int] = set()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, event: Event) -> None:
        """Tell of one event, if it is worth it."""
        if event.kind == "search":
            self._tell_search(event.data)
        elif event.kind == "trial":
            self._tell_trial(load(Trial, event.data))
        elif event.kind == "order":
            whom = f" by {event.data['by']}" if event.data["by"] else ""
            self._say(Text(f"ordered{whom}: {event.data['order'].replace('_', ' ')}"))

    def _tell_search(self, data: Any) -> None:
        state = SearchState(data["state"])
        if state is not self._state:
            self._state = state
            self._say(Text.assemble("state: ", state_text(state)))
            if state is SearchState.RUNNING and data["parent_loss"] is not None:
                self._say(Text(f"parent's held-out loss: {wording.loss(data['parent_loss'])}"))
        if data["progress"] is not None:
            self._tell_progress(load(Stage, data["progress"]))

    def _tell_progress(self, at: Stage) -> None:
        now, is_new = utc_now(), at.stage != self._stage
        if is_new:
            self._stage = at.stage
            self._pace = wording.Pace(stage=at.stage, done=at.done, at=now)
            if at.is_cached or not self._console.is_terminal:
                self._say(Text(wording.progress(at)))
        if at.is_cached:
            self._bar.update(self._task, visible=False)
            return
        pause = 1.0 if self._console.is_terminal else LINE_SECONDS
        if time.monotonic() - self._told_at < pause and not is_new:
            return
        self._told_at = time.monotonic()
        left = self._left(at, now)
        self._bar.update(
            self._task,
            visible=True, description=wording.progress(at), completed=at.done, total=at.total or None, left=left,
        )  # fmt: skip
        if not is_new and not self._console.is_terminal:
            self._say(Text(f"{wording.progress(at)}{', ' if left else ''}{left}"))

    def _left(self, at: Stage, now: datetime) -> str:
        """Say when the search will end, or else this stage; nothing while neither is known."""
        if self._state is not SearchState.PREPARING:
            seconds = self._look().eta_seconds
            if seconds is not None:
                return wording.remaining(seconds)
        assert self._pace
        seconds = self._pace.remaining_seconds(at, now)
        return "" if seconds is None else wording.remaining(seconds)

    def _tell_trial(self, trial: Trial) -> None:
        if not trial.state.is_final or trial.number in self._ended:
            return
        self._ended.add(trial.number)
        parts: list[str | tuple[str, str] | Text] = [
            f"trial {trial.number} {trial.architecture.name}, {wording.ROLES[trial.role]}: ",
            state_text(trial.state),
        ]
        if trial.reused_from:
            parts.append(f", reused from {trial.reused_from}")
        if trial.measurement:
            measured = trial.measurement
            parts.append(f", loss {measured.loss_before_retraining:.4f} -> {measured.loss:.4f}")
        if trial.failure:
            parts.append(f", {trial.failure.message}")
        self._say(Text.assemble(*parts))

    def _say(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


def _verdict(view: SearchView, comparison: Comparison) -> list[str]:
    assert view.best
    assert view.best_loss is not None
    best = view.best
    before, choice = view.before_promotion, view.search.choice
    name = "winner" if view.search.winner else "best" if view.search.state.is_final else "best so far"
    budget = view.search.budget
    share = best.architecture.parameter_count / view.search.parent_parameters
    standing = (
        f"{name}: trial {best.number}, {best.architecture.name}, "
        f"{best.architecture.parameter_count:,} parameters, {share:.1%} of the parent's, "
        + "".join(f"{name} {number}, " for name, number in wording.costs(budget, best.architecture))
        + f"held-out loss {wording.loss(view.best_loss)} after {view.best_tokens or 0:,} tokens"
    )
    lines = [standing]
    if view.search.corrected_loss is not None:
        lines.append(f"  corrected teacher: {view.search.corrected_loss:.4f}")
    if comparison.parent_loss is not None:
        closed = f", {view.gap_closed:.0%} of the gap closed" if view.gap_closed is not None else ""
        lines.append(
            f"  parent: {comparison.parent_loss:.4f}; {name} {_against(comparison.parent_loss, view.best_loss)}{closed}"
        )
    if before and before.measurement:
        name = "best before promotion"
        lines.append(
            f"{name}: trial {before.number}, {before.architecture.name}, held-out loss {comparison.winner_loss:.4f} "
            f"after {before.measurement.num_tokens:,} tokens"
        )
    for label, losses in (
        ("random architectures", comparison.random_architectures),
        ("random indices", comparison.random_indices),
    ):
        if losses:
            mean = wording.mean(losses)
            assert mean is not None
            each = ", ".join(f"{loss:.4f}" for loss in sorted(losses))
            lines.append(
                f"  {label}: mean {mean:.4f}, best {min(losses):.4f}; {name} {_against(mean, comparison.winner_loss)} than the mean; each: {each}"
            )
    if choice:
        lines += ["promoted, the lowest loss first:", *map(partial(_rival, choice), choice.rivals)]
    higher = overtaking(view.search.evaluated, best.number)
    return [*lines, f"  {higher}"] if higher else lines


def _rival(choice: Choice, rival: Rival) -> str:
    """Return how a promoted student stands beside the one of the lowest loss."""
    told = f"  trial {rival.trial_number}, promoted from trial {rival.promoted_from}: loss {rival.loss:.4f}"
    if rival is not choice.rivals[0]:
        error = f" +- {rival.standard_error:.4f}" if rival.standard_error is not None else ""
        told += f", {rival.difference:+.4f}{error}, {'a tie' if rival.is_tied else 'no tie'}"
    return told


def _against(loss: float, ours: float) -> str:
    difference = ours - loss
    return f"{abs(difference):.4f} {'lower' if difference <= 0 else 'higher'}"
