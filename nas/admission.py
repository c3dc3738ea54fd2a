"""Whether a search can run, as far as can be told without loading a model. Knows no store.

What is told of the parent and of the data on the hub is kept in the spec, so that the search stays with it.
"""

from dataclasses import replace
from pathlib import Path

from minitron.checkpoint_files import has_chat_template
from minitron.errors import HubError, InvalidRecipe, MinitronError, UnreachableHub, UnreadableCheckpoint
from minitron.hub import PREFIX
from minitron.local_paths import expanded
from minitron.narrowing import shapes_between
from minitron.parents import BUILTIN_PREFIX, is_gguf
from minitron.sources import pinned, with_absolute_paths
from nas.errors import HubUnavailable, InvalidSpec, SearchError
from nas.estimate import estimate
from nas.finals import Evaluation
from nas.latency_admission import timed_space
from nas.parent import described
from nas.room import require_memory
from nas.search import SearchSpec
from nas.space import SearchSpace

FIELDS = ("parent: ", "data.")
"""How errors begin that name a field of a spec; all others are about the parent."""


def resolved(spec: SearchSpec) -> SearchSpec:
    """Return a spec whose local paths, counted from the directory of this process, are absolute."""
    is_named = spec.parent.startswith((BUILTIN_PREFIX, PREFIX))
    parent = spec.parent if is_named else str(expanded(spec.parent).absolute())
    return replace(
        spec, parent=parent, data=with_absolute_paths(spec.data), evaluation=_placed(spec.evaluation)
    )


def _placed(evaluation: Evaluation | None) -> Evaluation | None:
    """Return an evaluation whose directory of tasks is absolute."""
    if evaluation is None or evaluation.task_path is None:
        return evaluation
    return replace(evaluation, task_path=str(expanded(evaluation.task_path).absolute()))


def admitted(spec: SearchSpec, artifact_root: Path) -> tuple[SearchSpec, SearchSpace]:
    """Return the spec with all that is known of its parent and data, and its space.

    Args:
        spec: With absolute paths.
        artifact_root: Where parents of the hub lie once they are fetched.

    Raises:
        InvalidSpec: The parent, the hub, the data, the tasks or the sizes rule the search out.
        HubUnavailable: The hub does not answer.
    """
    try:
        spec = described(spec, artifact_root)
        space, _ = _sized(spec, artifact_root)
        return replace(spec, data=pinned(spec.data)), space
    except MinitronError as error:
        raise _refusal(error) from error


def planned(spec: SearchSpec, artifact_root: Path) -> tuple[SearchSpec, SearchSpace, tuple[str, ...]]:
    """Return as ``admitted`` does, and what could not be looked at.

    A hub that does not answer, and a parent that is not here yet, are passed over where ``parent_config``
    says what a plan needs.

    Raises:
        InvalidSpec, HubUnavailable: As ``admitted``.
    """
    unchecked: list[str] = []
    try:
        try:
            spec = described(spec, artifact_root)
        except (UnreadableCheckpoint, HubError) as error:
            if spec.parent_config is None:
                raise
            unchecked.append(_told(error))
        space, untimed = _sized(spec, artifact_root)
        unchecked += untimed
        try:
            spec = replace(spec, data=pinned(spec.data))
        except UnreachableHub as error:
            unchecked.append(_told(error))
    except MinitronError as error:
        raise _refusal(error) from error
    return spec, space, tuple(unchecked)


def _sized(spec: SearchSpec, artifact_root: Path) -> tuple[SearchSpace, list[str]]:
    """Return the space, once what its trials take is there, and what is known only when the search has begun."""
    spec.training.require_a_step(spec.data.sequence_length)
    if spec.correction is not None:
        correction = spec.correction.training(spec.training)
        correction.require_a_step(spec.data.sequence_length, field="correction.num_tokens")
    _require_chats(spec)
    path = spec.evaluation.task_path if spec.evaluation else None
    if path is not None and not Path(path).is_dir():
        raise InvalidSpec(
            (("evaluation.task_path", f"{path}: no such directory, allowed: one of task files"),)
        )
    space, untimed = timed_space(spec, artifact_root)
    shapes_between(space.parent, space.least, spec.calibration.steps)
    found = estimate(spec, space)
    needed = [(found.trial, spec.resources, "resources.memory_bytes")]
    if spec.promotion is not None and found.promotion is not None:
        resources = spec.promotion.resources or spec.resources
        needed.append((found.promotion.trial, resources, "promotion.resources.memory_bytes"))
    for trial, resources, field in needed:
        if resources.memory_bytes is not None:
            require_memory(trial, resources.memory_bytes, field=field, what="memory stated")
    return space, untimed


def _require_chats(spec: SearchSpec) -> None:
    """Refuse to ask through a chat template that a local parent's tokenizer does not have."""
    is_local = not spec.parent.startswith((BUILTIN_PREFIX, PREFIX)) and not is_gguf(spec.parent)
    if spec.evaluation is None or not spec.evaluation.chat or not is_local:
        return
    if not has_chat_template(expanded(spec.parent)):
        reason = f"found true, allowed for {spec.parent}, whose tokenizer has no chat template: false"
        raise InvalidRecipe("evaluation.chat", reason)


def _told(error: MinitronError) -> str:
    text = str(error)
    return text if text.startswith(FIELDS) else f"parent: {text}"


def _refusal(error: MinitronError) -> SearchError:
    if isinstance(error, UnreachableHub):
        return HubUnavailable(_told(error))
    if isinstance(error, InvalidRecipe):
        return InvalidSpec(((error.field, error.reason),))
    field, _, reason = _told(error).partition(": ")
    return InvalidSpec(((field, reason),))
