"""Keeps house while a search runs. Knows no Ray and no model."""

import shutil
from functools import cached_property
from pathlib import Path

from minitron.architecture import Architecture
from nas.comparisons import random_draws
from nas.disk import let_go, touch
from nas.layout import states_directory
from nas.space import search_space
from nas.storage.store import SearchStore
from nas.trial import TrialState


class Sweep:
    """Removes the resumable states of trials that are final and will not be gone on from.

    Marks what the search shares with others as in use, too.
    """

    def __init__(self, store: SearchStore, search_id: str, root: Path) -> None:
        self.in_use: tuple[Path, ...] = ()
        self._store = store
        self._search_id = search_id
        self._root = root
        self._swept: set[int] = set()

    def __call__(self) -> None:
        """Sweep once."""
        touch(self.in_use)
        search = self._store.get_search(self._search_id)
        if search.state.is_final:
            let_go(self._root, self._search_id)
        for trial in self._store.trials(self._search_id):
            # A baseline goes on from where the search stopped a trial of its architecture.
            may_go_on = trial.state is TrialState.STOPPED and trial.architecture in self._drawn
            # The student of a reused trial may have to be trained again.
            may_go_on = may_go_on or trial.reused_from is not None
            is_needed = not trial.state.is_final or (may_go_on and not search.state.is_final)
            if not is_needed and trial.number not in self._swept:
                shutil.rmtree(states_directory(self._root, trial), ignore_errors=True)
                self._swept.add(trial.number)

    @cached_property
    def _drawn(self) -> frozenset[Architecture]:
        spec = self._store.get_search(self._search_id).measured_spec
        return frozenset(random_draws(spec, search_space(spec)))
