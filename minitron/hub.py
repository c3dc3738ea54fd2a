"""The Hugging Face hub: what a name there means, what a repository holds, and what a refusal says.

Asked only through ``huggingface_hub``, which finds address and token itself (``HF_ENDPOINT``; ``HF_TOKEN``
or ``hf auth login``), so that no token ever passes through this project. Knows neither models nor data;
free of torch, and loads ``huggingface_hub`` when the hub is first asked.
"""

import hashlib
import io
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from minitron.errors import HubError, RefusedByHub, UnreachableHub
from minitron.files import ChunkStream

PREFIX = "hub:"
FORM = "hub:ORG/NAME[@REVISION][#FILE]"
LIBRARY = "minitron-nas"
"""What we call ourselves there."""
TIMEOUT_SECONDS = 30.0

Kind = Literal["model", "dataset"]

_NAME = re.compile(
    rf"{PREFIX}(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^\s#@]+))?(?:#(?P<file>[^\s#]+))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WHOAMI = "/api/whoami"
_RETRYABLE = (408, 429)
_SHOWN_CHARACTERS = 48
"""Of a file's name in that of a directory, which file systems end at 255 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """A repository on the hub, perhaps at a revision, perhaps one file of it."""

    repository: str
    """``ORG/NAME``."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the main branch."""
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``text`` names.

        Raises:
            HubError: It is not of the form ``hub:ORG/NAME[@REVISION][#FILE]``.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise HubError(f"found {text!r}, allowed: {FORM}")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        file = f"#{self.file}" if self.file else ""
        return f"{PREFIX}{self.repository}{revision}{file}"

    @property
    def commit(self) -> str | None:
        """The revision where it is a whole commit hash, which never moves."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None

    @property
    def directory(self) -> str:
        """The name of a directory for what this names, by content.

        Call it only where the revision is a commit. Of a file it holds a hash of the whole path, which no
        two share however they are written, and the end of its name for people.
        """
        assert self.commit is not None, f"{self}: may move"
        parts = [*self.repository.split("/"), self.commit]
        if self.file:
            digest = hashlib.sha256(self.file.encode()).hexdigest()[:16]
            parts += [digest, self.file.rpartition("/")[2][-_SHOWN_CHARACTERS:]]
        return "--".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a repository."""

    path: str
    size: int
    """Bytes."""
    sha256: str | None
    """None for small files, whose content the hub names otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a repository holds at one commit."""

    name: HubName
    """Its revision is the commit."""
    kind: Kind
    files: tuple[HubFile, ...]
    """By path."""


def look_up(name: HubName, kind: Kind = "model") -> Snapshot:
    """Ask the hub what a repository holds, and which commit its revision is now.

    Raises:
        RefusedByHub, UnreachableHub: As ``asking``.
    """
    with asking(name):
        info = api().repo_info(
            name.repository,
            repo_type=kind,
            revision=name.revision,
            timeout=TIMEOUT_SECONDS,
            files_metadata=True,
        )
    files = [
        HubFile(path=each.rfilename, size=each.size or 0, sha256=each.lfs.sha256 if each.lfs else None)
        for each in info.siblings or ()
    ]
    return Snapshot(
        name=replace(name, revision=info.sha),
        kind=kind,
        files=tuple(sorted(files, key=lambda file: file.path)),
    )


def at_its_commit(name: HubName, kind: Kind = "model") -> HubName:
    """Return the name with the commit that its revision is now; cheap also where there are many files.

    Raises:
        RefusedByHub, UnreachableHub: As ``asking``; also where the content may not be read.
    """
    with asking(name):
        info = api().repo_info(
            name.repository, repo_type=kind, revision=name.revision, timeout=TIMEOUT_SECONDS, expand=["sha"]
        )
    check_access(name, kind)
    return replace(name, revision=info.sha)


def check_access(name: HubName, kind: Kind = "model") -> None:
    """Raise RefusedByHub where the content of a repository may not be read, or UnreachableHub."""
    with asking(name):
        api().auth_check(name.repository, repo_type=kind)


@contextmanager
def reading(snapshot: Snapshot, path: str) -> Iterator[io.RawIOBase]:
    """Give the content of a file as a stream that fetches no more than is read, more or less.

    Raises:
        RefusedByHub, UnreachableHub: As ``asking``.
    """
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, lazily
        build_hf_headers,
        hf_raise_for_status,
        http_stream_backoff,
    )

    name = snapshot.name
    with asking(name):
        url = hf_hub_url(
            name.repository,
            path,
            repo_type=snapshot.kind,
            revision=name.revision,
            endpoint=constants.ENDPOINT,
        )
        headers = build_hf_headers(library_name=LIBRARY)
        with http_stream_backoff(
            "GET", url, headers=headers, timeout=TIMEOUT_SECONDS, max_retries=2
        ) as response:
            hf_raise_for_status(response)
            yield ChunkStream(response.iter_bytes())


def confine(hosts: Collection[str]) -> None:
    """Let this process ask only these hosts for what is on the hub, redirects included; none of them lets it ask any.

    Xet, which fetches by a client of its own, is not used then.
    """
    if not hosts:
        return
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    allowed = frozenset(host.lower() for host in hosts)

    def require(request: Any) -> None:
        if request.url.host.lower() not in allowed:
            found = f"{request.url.host}, which the hub was to be asked at or led to"
            raise RefusedByHub(f"hub: found {found}, allowed: {', '.join(sorted(allowed))} (NAS_HUB_HOSTS)")

    def confined() -> Any:
        client = default_client_factory()
        # Asked of each request that is sent, those after redirects too.
        client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], require]}
        return client

    constants.HF_HUB_DISABLE_XET = True
    set_client_factory(confined)


def api() -> Any:
    """Return the interface to the hub; use it within ``asking``."""
    from huggingface_hub import HfApi

    return HfApi(library_name=LIBRARY)


def has_token() -> bool:
    """Return whether this process has a token for the hub."""
    from huggingface_hub import get_token

    return bool(get_token())


def without_token(text: str) -> str:
    """Return a text of others that may quote the token, with the token struck out."""
    from huggingface_hub import get_token

    token = get_token()
    return text.replace(token, "***") if token else text


def page(name: HubName, kind: Kind = "model") -> str:
    """Return the address of a repository for people."""
    return f"{endpoint()}/{'datasets/' if kind == 'dataset' else ''}{name.repository}"


def endpoint() -> str:
    """Return where the hub is, without what ``HF_ENDPOINT`` may say of user and password."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def asking(name: HubName) -> Iterator[None]:
    """Tell in one line what the hub refuses while the context lasts.

    What ``huggingface_hub`` raised is cut off: it may quote signed addresses and headers.

    Raises:
        RefusedByHub: No such repository, revision or file, or no access.
        UnreachableHub: No network, ``HF_HUB_OFFLINE``, or a hub that is down.
    """
    from httpx2 import HTTPError, InvalidURL
    from huggingface_hub import errors

    _check_token()
    try:
        yield
    except (
        HTTPError, InvalidURL, errors.FileMetadataError, errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled, errors.HFValidationError,
    ) as error:  # fmt: skip
        raise _refusal(name, _cause(error)) from None


def _check_token() -> None:
    """Refuse a token that cannot be sent: libraries quote it in their errors."""
    from huggingface_hub import get_token

    token = get_token() or ""
    if not re.fullmatch(r"[!-~]*", token):
        raise HubError("HF_TOKEN: found characters that no token has, allowed: letters, digits and signs")


def _cause(error: Exception) -> Exception:
    """Return why a file that is not here could not be asked for either."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    is_consequence = isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception)
    return error.__cause__ if is_consequence else error  # type: ignore[return-value]  # checked above


def _refusal(name: HubName, error: Exception) -> HubError:
    from huggingface_hub import errors

    where = endpoint()
    access = "the token has no access" if has_token() else "set HF_TOKEN to a token that has access"
    refused = {
        errors.GatedRepoError: f"is gated: {access}; access is asked for at {where}/{name.repository}",
        errors.RevisionNotFoundError: f"no such revision of {name.repository}: {name.revision!r}",
        errors.RemoteEntryNotFoundError: "holds no such file",
        errors.DisabledRepoError: "was disabled by its author or the hub",
        errors.HFValidationError: f"is no name of the hub's: {error}",
        errors.FileMetadataError: f"{where} does not answer like a hub; is HF_ENDPOINT right?",
    }
    for kind, reason in refused.items():
        if isinstance(error, kind):
            return RefusedByHub(f"{name}: {reason}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return UnreachableHub(f"{name}: HF_HUB_OFFLINE is set; allowed: unset it, or take a local directory")
    response = getattr(error, "response", None)
    if response is None:
        reason = f"does not answer ({type(error).__name__})"
    elif response.status_code < 500 and response.status_code not in _RETRYABLE:
        return _denial(name, response)
    else:
        reason = f"answered {response.status_code}"
    return UnreachableHub(f"{name}: {where} {reason}; allowed: try again, or take a local directory")


def _denial(name: HubName, response: Any) -> RefusedByHub:
    """Return what a status below 500 means where the hub gave no code of its own."""
    if response.request.url.path.startswith(_WHOAMI):
        return RefusedByHub(f"HF_TOKEN: {endpoint()} does not accept the token, allowed: a valid one")
    is_read = response.request.method in ("GET", "HEAD")
    if response.status_code in (401, 403) and not is_read:
        return RefusedByHub(
            f"{name}: the token may not write there; allowed: one with write access in HF_TOKEN"
        )
    if response.status_code in (401, 403, 404):
        why = "that its token may not read" if has_token() else "that needs a token in HF_TOKEN"
        return RefusedByHub(f"{name}: {endpoint()} has no such repository, or one {why}")
    return RefusedByHub(f"{name}: {endpoint()} answered {response.status_code}")
