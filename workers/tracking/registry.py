"""Winners in MLflow's model registry: a registered model for searches of one name, a version for each winner.

A version is found again by the run that holds its files, so that telling of a winner twice makes no second one.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath

from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from minitron.gguf_header import SUFFIX
from minitron.parents import BUILTIN_PREFIX, hub_name
from nas.accounts import DEFAULT_WORKSPACE
from nas.outbox import RegisteredVersion
from nas.search import Search
from nas.trial import Trial
from workers.tracking import values
from workers.tracking.target import Refused, Target, named_errors

CHAMPION = "champion"
"""Alias of the newest winner; people may move it, and the next winner takes it."""
WORKSPACE = "nas.workspace"
"""Tag of a registered model: whose winners it is of. One without it is somebody else's."""
REGISTERED = "nas.registered"
"""Tag of a run whose files are a version: its model and number."""
MAX_NAME_LENGTH = 250
DIGITS = 8
"""Of the digest at the end of a name that is too long."""
CLOSED = frozenset(
    {"PERMISSION_DENIED", "UNAUTHENTICATED", "FEATURE_DISABLED", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED"}
)
"""Codes of a registry that is closed, or none, beside a tracking server that takes runs."""
_UNNAMED = re.compile(r"[^\w.+-]+")


class Registry:
    """The model registry of one MLflow; raises Away and Refused.

    Args:
        target: What holds the runs that versions are made from.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client = target.client

    def register(
        self, search: Search, winner: Trial, run_id: str, artifact: str, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """Make a version of a winner's files and have it be the champion, unless that was done.

        Args:
            search: Its search.
            winner: The trial.
            run_id: Of the run that holds the files.
            artifact: Their folder in it.
            tags: Of the version, beside those that follow from search and trial.
        """
        known, location = self._target.tags_and_location(run_id)
        done = known.get(REGISTERED)
        if done is None:
            name = model_name(search)
            with _refusing(name), named_errors(CLOSED):
                found = self._found_or_made(name, search.workspace)
                number = self._number(name, run_id)
                if number is None:
                    made = self._client.create_model_version(
                        name,
                        f"{location.rstrip('/')}/{artifact}",
                        run_id,
                        tags={**values.version_tags(search, winner), **tags},
                        description=values.version_description(search, winner),
                        await_creation_for=0,
                    )
                    number = int(made.version)
                champion = found.aliases.get(CHAMPION)
                if champion is None or int(champion) < number:
                    self._client.set_registered_model_alias(name, CHAMPION, str(number))
            # Last, so that what was cut short is done again.
            done = f"{name}/{number}"
            self._target.tag(run_id, {REGISTERED: done})
        name, _, version = done.rpartition("/")
        return RegisteredVersion(
            search_id=search.id, trial_number=winner.number, name=name, version=int(version)
        )

    def _found_or_made(self, name: str, workspace: str) -> RegisteredModel:
        try:
            found = self._client.create_registered_model(
                name, tags={WORKSPACE: workspace}, description="Winners of searches for smaller students."
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = self._client.get_registered_model(name)
        if found.tags.get(WORKSPACE) != workspace:
            raise Refused(f"it is there already, and not of searches of the workspace {workspace}")
        return found

    def _number(self, name: str, run_id: str) -> int | None:
        versions = self._client.search_model_versions(f"run_id = '{run_id}'")
        return next((int(each.version) for each in versions if each.name == name), None)


def model_name(search: Search) -> str:
    """Return the registered model that a search's winner is a version of: ``PARENT-NAME``, without a name its id.

    Outside the default workspace, the workspace comes first. One that is too long ends in a digest, so that searches of other
    names have other models.
    """
    parts = [_word(_short(search.spec.parent)), _word(search.spec.name) or search.id]
    if search.workspace != DEFAULT_WORKSPACE:
        parts.insert(0, _word(search.workspace))
    name = "-".join(filter(None, parts))
    if len(name) <= MAX_NAME_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGITS]
    return f"{name[: MAX_NAME_LENGTH - DIGITS - 1].rstrip('-.')}-{digest}"


def _word(text: str) -> str:
    return _UNNAMED.sub("-", text).strip("-.")


def _short(parent: str) -> str:
    hub = hub_name(parent)
    if hub is not None:
        parent = hub.file or hub.repository
    return PurePath(parent.removeprefix(BUILTIN_PREFIX)).name.removesuffix(SUFFIX)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Say which model it is that MLflow refuses."""
    try:
        yield
    except Refused as error:
        raise Refused(f"registering its winner as {name}: {error}") from error
