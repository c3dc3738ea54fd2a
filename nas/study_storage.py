"""Writes searches as studies into an Optuna storage of their own: a projection, made anew from the store at any time.

What stands there is compared with what the store holds, and only what differs is written, so that a write
that was cut short is completed by the next and a second one changes nothing. A trial appears whole or not
at all, under its own number. Optuna never changes a trial that has ended; a study that contradicts its
search all the same, because somebody else wrote into it, is written anew.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

from filelock import FileLock
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState

from minitron.files import new_file
from nas.errors import Conflict, InvalidSettings, StudiesUnavailable
from nas.private import make_private
from nas.search import Search, SearchState
from nas.storage.store import SearchStore
from nas.study import study_attributes, study_directions, study_trials

logger = logging.getLogger(__name__)

WAIT_SECONDS = 30.0
"""How long a writer of a SQLite file waits for another."""
NEAR = timedelta(seconds=1)
"""Databases may keep times in whole seconds."""
_FINAL = {state.value for state in SearchState if state.is_final}
_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<file>[^?]+)")
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^/]*@")


def shown(url: str) -> str:
    """Return the address of a storage without its password."""
    return _PASSWORD.sub(r"\1:***@", url)


class StudyStorage:
    """An Optuna storage, open from entry to exit, in one thread. Of one file, one process writes at a time.

    Args:
        url: An SQLite file, or a database of any other kind that Optuna can use.

    Raises:
        InvalidSettings: That is no such address.
        StudiesUnavailable: It cannot be opened, now or, from any method, later.
    """

    def __init__(self, url: str) -> None:
        if not re.match(r"\w+(\+\w+)?://.", url) or url.endswith(":memory:"):
            raise InvalidSettings(
                f"NAS_OPTUNA_STORAGE: found {shown(url)!r}, allowed: sqlite:///FILE, "
                "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE or another database that Optuna can use"
            )
        self._url = url
        found = _SQLITE.fullmatch(url.partition("?")[0])
        self._file = Path(unquote(found["file"])) if found else None

    def __enter__(self) -> Self:
        # Its own logger, since the proposer sets the level of all of Optuna beside us.
        logging.getLogger("optuna.storages").setLevel(logging.WARNING)
        try:
            if self._file:
                make_private(self._file.parent)
            with self._alone():
                if self._file and not self._file.exists():
                    _make(self._file)
                self._database = self._opened()
        except Exception as error:
            raise StudiesUnavailable(f"{shown(self._url)}: {_first_line(error)}") from error
        self._storage: BaseStorage = get_storage(self._database)  # which reads ended trials once
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.remove_session()
        self._database.engine.dispose()

    def write(self, store: SearchStore, search_id: str) -> int:
        """Make the study of a search say what the store says, and return how many trials it has.

        Raises:
            NotFound: There is no such search.
            Conflict: There is a study of that name that is not the search's.
        """
        with self._named_errors(), self._alone():
            search = store.get_search(search_id)
            trials = store.trials(search_id)  # before the points, which a trial that has ended has all
            wanted = study_trials(search, trials, store.points(search_id))
            attributes = study_attributes(search)
            study = self._study(search)
            found = self._storage.get_all_trials(study, deepcopy=False)
            if _contradicts(found, wanted):
                logger.warning(
                    "the study %s in %s is not its search's: written anew", search_id, shown(self._url)
                )
                self._storage.delete_study(study)
                study, found = self._create(search), []
            self._tell(study, {name: attributes[name] for name in attributes if name != "state"})
            for trial in wanted[len(found) :]:
                self._storage.create_new_trial(study, template_trial=trial)
            for written, trial in zip(found, wanted, strict=False):
                self._complete(study, written, trial)
            self._tell(study, attributes)  # its state last: one that is final has nothing to come
            return len(wanted)

    def unfinished(self) -> list[str]:
        """Return the ids of the searches whose studies, written by us, are not at their end."""
        with self._named_errors():
            studies = self._storage.get_all_studies()
        return [
            study.study_name
            for study in studies
            if study.user_attrs.get("search_id") == study.study_name
            and study.user_attrs.get("state") not in _FINAL
        ]

    def _study(self, search: Search) -> int:
        search_id = search.id
        try:
            study = self._storage.get_study_id_from_name(search_id)
        except KeyError:
            return self._create(search)
        owner = self._storage.get_study_user_attrs(study).get("search_id")
        if owner != search_id and self._storage.get_n_trials(study):
            raise Conflict(
                f"study {search_id}: found one in {shown(self._url)} that was not made from the search, allowed: none; "
                "rename or delete it, or name another storage"
            )
        return study

    def _create(self, search: Search) -> int:
        study = self._storage.create_new_study(study_directions(search.spec), search.id)
        self._storage.set_study_user_attr(study, "search_id", search.id)
        return study

    def _tell(self, study: int, attributes: dict[str, Any]) -> None:
        found = self._storage.get_study_user_attrs(study)
        for name, value in attributes.items():
            if found.get(name) != value:
                self._storage.set_study_user_attr(study, name, value)

    def _complete(self, study: int, written: FrozenTrial, wanted: FrozenTrial) -> None:
        """Bring a trial up to date that does not contradict what is wanted."""
        trial = self._storage.get_trial_id_from_study_id_trial_number(study, written.number)
        has_ended = written.state.is_finished()
        if not has_ended:
            for step, loss in wanted.intermediate_values.items():
                if written.intermediate_values.get(step) != loss:
                    self._storage.set_trial_intermediate_value(trial, step, loss)
            for name, value in wanted.user_attrs.items():
                if written.user_attrs.get(name) != value:
                    self._storage.set_trial_user_attr(trial, name, value)
            if wanted.state.is_finished():
                self._storage.set_trial_state_values(trial, wanted.state, wanted.values)
        is_ending = wanted.state is not written.state
        if is_ending or not _are_near(written, wanted):
            self._set_times(trial, wanted)
        if has_ended and not _are_near(written, wanted):
            self._storage = get_storage(self._database)  # which remembers the other times

    def _set_times(self, trial: int, wanted: FrozenTrial) -> None:
        """Store when a trial began and ended, which Optuna takes to be when it is told so."""
        from optuna.storages._rdb.models import TrialModel

        session = self._database.scoped_session()
        try:
            row = TrialModel.find_or_raise_by_id(trial, session)
            row.datetime_start, row.datetime_complete = wanted.datetime_start, wanted.datetime_complete
            session.commit()
        except Exception as error:
            session.rollback()
            raise StudiesUnavailable(f"{shown(self._url)}: {_first_line(error)}") from error
        finally:
            session.close()

    def _opened(self) -> RDBStorage:
        if self._file is None:
            return RDBStorage(self._url, engine_kwargs={"pool_pre_ping": True})
        database = RDBStorage(self._url, engine_kwargs={"connect_args": {"timeout": WAIT_SECONDS}})
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # a dashboard and the writer do not wait
        return database

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from writing the file."""
        lock = FileLock(f"{self._file}.lock", timeout=WAIT_SECONDS) if self._file else nullcontext()
        with lock:
            yield

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OptunaError, OSError) as error:
            raise StudiesUnavailable(f"{shown(self._url)}: {_first_line(error)}") from error


def _make(file: Path) -> None:
    """Make an empty storage beside ``file`` and move it there whole: who reads meanwhile would break a half-made one."""
    with new_file(file) as scratch:
        RDBStorage(f"sqlite:///{quote(str(scratch))}").engine.dispose()


def _contradicts(found: Sequence[FrozenTrial], wanted: Sequence[FrozenTrial]) -> bool:
    """Return whether the trials of a study cannot become those that are wanted."""
    if len(found) > len(wanted):
        return True
    return any(not _can_become(*pair) for pair in zip(found, wanted, strict=False))


def _can_become(found: FrozenTrial, wanted: FrozenTrial) -> bool:
    if (found.params, found.distributions) != (wanted.params, wanted.distributions):
        return False
    if found.system_attrs != wanted.system_attrs:
        return False
    if not found.state.is_finished():
        steps = found.intermediate_values.keys() <= wanted.intermediate_values.keys()
        return steps and found.state is TrialState.RUNNING
    is_same = (found.state, found.values, found.intermediate_values) == (
        wanted.state,
        wanted.values,
        wanted.intermediate_values,
    )
    return is_same and wanted.user_attrs.items() <= found.user_attrs.items()


def _are_near(found: FrozenTrial, wanted: FrozenTrial) -> bool:
    times = (
        (found.datetime_start, wanted.datetime_start),
        (found.datetime_complete, wanted.datetime_complete),
    )
    return all(_is_near(*pair) for pair in times)


def _is_near(found: datetime | None, wanted: datetime | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return abs(found - wanted) < NEAR


def _first_line(error: Exception) -> str:
    """Return what went wrong, of what was raised first, in one line."""
    cause = error.__cause__ or error
    return " ".join(str(getattr(cause, "orig", cause)).split()) or type(cause).__name__
