"""Takes a winner to the Hugging Face hub: one commit with its weights, tokenizer and card.

Knows a checkpoint directory and the name of a repository; no search and no server.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minitron.errors import HubError
from minitron.hub import PREFIX, HubName, api, asking, has_token, page, without_token

CARD = "README.md"
WEIGHTS = (".safetensors", ".safetensors.index.json")
"""How the names of weights end: what is there of another model's is removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What is to be put where."""

    directory: Path
    repository: HubName
    is_private: bool

    @property
    def files(self) -> list[tuple[str, int]]:
        """Path and bytes of each file."""
        paths = sorted(path for path in self.directory.rglob("*") if path.is_file())
        return [(path.relative_to(self.directory).as_posix(), path.stat().st_size) for path in paths]


def planned_upload(directory: Path, repository: str, *, is_private: bool) -> Upload:
    """Return what a push would do; asks nobody.

    Raises:
        HubError: ``repository`` is not of the form ORG/NAME, or the directory holds no checkpoint.
    """
    try:
        name = HubName.parse(f"{PREFIX}{repository}")
    except HubError:
        name = None
    if name is None or name != HubName(repository=name.repository):
        raise HubError(f"--repo: found {repository!r}, allowed: ORG/NAME")
    if not (directory / CARD).is_file():
        raise HubError(f"{directory}: holds no {CARD}, allowed: the winner of a search")
    return Upload(directory=directory, repository=name, is_private=is_private)


def require_token() -> None:
    """Raise HubError where this process has no token, before anything is done in vain."""
    if not has_token():
        raise HubError(
            "HF_TOKEN: not set, allowed: a token with write access, from the hub's settings; or: hf auth login"
        )


def owner() -> str:
    """Return whose token it is.

    Raises:
        RefusedByHub, UnreachableHub: The token is not valid, or the hub does not answer.
    """
    with asking(HubName(repository="whoami")):
        name: str = api().whoami()["name"]
    return name


def push(upload: Upload, message: str) -> str:
    """Put the files into the repository, which is made where it is not there, and return its address.

    All files come in one commit: nobody finds half a model there. Weights of another model that the
    repository holds are removed in the same commit.

    Raises:
        HubError: No token, one that may not write there, a card that the hub does not take, a hub that
            does not answer.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    require_token()
    name, hub = upload.repository, api()
    with asking(name):
        try:
            hub.create_repo(name.repository, private=upload.is_private or None, exist_ok=True)
            _require_private(upload)
            ours = {path for path, _ in upload.files}
            stale = [path for path in hub.list_repo_files(name.repository) if path.endswith(WEIGHTS)]
            operations: list[Any] = [
                CommitOperationAdd(path_in_repo=path, path_or_fileobj=upload.directory / path)
                for path in sorted(ours)
            ]
            operations += [CommitOperationDelete(path_in_repo=path) for path in stale if path not in ours]
            hub.create_commit(name.repository, operations, commit_message=message)
        except RuntimeError as error:  # how huggingface_hub wraps what breaks the upload of a file
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise _refused(name, error) from None
        except ValueError as error:  # how it refuses a card
            raise _refused(name, error) from None
    return page(name)


def _refused(name: HubName, error: Exception) -> HubError:
    return HubError(f"{name}: {without_token(' '.join(str(error).split()))}")


def _require_private(upload: Upload) -> None:
    """Refuse a repository that was there before and that everybody can read, where that was not meant."""
    if upload.is_private and not api().model_info(upload.repository.repository).private:
        raise HubError(
            f"--private: {page(upload.repository)} is public, allowed: another or a private repository"
        )
