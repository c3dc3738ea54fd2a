"""Which files the splits of a hub dataset are, as its card says: files of the dataset at its commit, and nothing else.

The card is its author's. ``datasets`` would fetch whatever it names, of any host and of this machine, by clients that
``minitron.hub.confine`` knows nothing of. So names that lead out of the dataset are refused before they are looked for,
and for as long as a dataset is read its process opens no address but those of the hub.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from minitron.hub import HubName, api

CARD = "README.md"
_KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".ndjson": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".txt": ("text", {}),
    ".arrow": ("arrow", {}),
}
"""What reads a suffix, and how; of those that are equally many the first counts. Archives can name files anywhere."""
_OPTIONS: Mapping[str, frozenset[str]] = {
    "json": frozenset({"encoding", "field"}),
    "csv": frozenset(
        {"column_names", "comment", "delimiter", "doublequote", "encoding", "escapechar", "header", "names"}
        | {"quotechar", "quoting", "sep", "skipinitialspace", "skiprows"}
    ),
    "text": frozenset({"encoding", "keep_linebreaks", "sample_by"}),
}
"""What a card may say of how its files are written."""
_OPENED = frozenset({"hf", "file", "local", "gzip", "bz2", "lz4", "xz", "zstd"})
"""What ``datasets`` needs to read them: the hub, compressions, and directories of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The files of a config."""

    kind: str
    """Which reader of ``datasets`` they are for."""
    options: Mapping[str, Any]
    """For that reader."""
    files: Mapping[str, list[str]]
    """Addresses by split, such as ``hf://datasets/ORG/NAME@COMMIT/data/0.jsonl``."""


def configs_of(name: HubName) -> Any:
    """Return the configs that the card of a dataset tells of by name, perhaps none, as ``datasets`` holds them.

    Raises:
        Exception: The card cannot be read, in words of ``datasets`` or of its YAML; use within ``asking``.
    """
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        path = api().hf_hub_download(name.repository, CARD, repo_type="dataset", revision=name.revision)
    except RemoteEntryNotFoundError:
        return MetadataConfigs()
    return MetadataConfigs.from_dataset_card_data(DatasetCard.load(path).data)


def splits_of(name: HubName, config: Mapping[str, Any]) -> Splits:
    """Return the files of a config of a dataset at a commit; use within ``asking``.

    Args:
        name: At a commit.
        config: What the card says of it; nothing where there is no card.

    Raises:
        ValueError: The card names what is not in the dataset, or nothing there is text.
        OSError: What it names is not there.
    """
    from datasets import DownloadConfig
    from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns

    root = f"hf://datasets/{name.repository}@{name.commit}"
    below = config.get("data_dir")
    base = f"{root}/{_inside(below)}" if below else root
    given = config.get("data_files")
    patterns = get_data_patterns(base) if given is None else sanitize_patterns(given)
    found = DataFilesDict.from_patterns(
        {split: [_inside(pattern) for pattern in each] for split, each in patterns.items()},
        base_path=base,
        allowed_extensions=list(_KINDS),
        download_config=DownloadConfig(),
    )
    suffixes = Counter(_suffix(url) for urls in found.values() for url in urls)
    if not suffixes:
        raise ValueError(f"holds no file with a suffix of {', '.join(_KINDS)}")
    kind, options = _KINDS[max(_KINDS, key=lambda suffix: suffixes[suffix])]
    files = {
        split: [_of_dataset(url, root) for url in urls if _KINDS[_suffix(url)][0] == kind]
        for split, urls in found.items()
    }
    said = {key: value for key, value in config.items() if key in _OPTIONS.get(kind, ())}
    return Splits(
        kind=kind, options={**options, **said}, files={split: urls for split, urls in files.items() if urls}
    )


def _inside(pattern: Any) -> str:
    """Return a pattern of a card that can only mean files of its dataset."""
    is_inside = (
        isinstance(pattern, str)
        and not pattern.startswith(("/", "~"))
        and not {":", "\\"} & set(pattern)
        and ".." not in pattern.split("/")
    )
    if not is_inside:
        raise ValueError(f"its card names {pattern!r}, allowed: files of the dataset itself")
    return str(pattern)


def _of_dataset(url: str, root: str) -> str:
    """Return the address of a file, unless what reads it could take it for another."""
    if not url.startswith(f"{root}/") or "::" in url or ".." in url.split("/"):
        raise ValueError(f"found the file {url!r}, allowed: files of the dataset itself, without '::'")
    return url


def _suffix(url: str) -> str:
    """Return the suffix that says what a file holds, compression aside."""
    return next(each for each in reversed(PurePosixPath(url).suffixes) if each in _KINDS)


class _Guard:
    """Keeps ``fsspec`` from opening anything but the hub's for as long as anybody reads, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._before: dict[str, type] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        from fsspec.registry import _registry, known_implementations

        with self._lock:
            self._readers += 1
            if self._readers == 1:
                self._before = dict(_registry)
                refused = _refused()
                _registry.update(dict.fromkeys({*_registry, *known_implementations} - _OPENED, refused))
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    _registry.clear()
                    _registry.update(self._before)


hub_files_only = _Guard()
"""While its context lasts, this process opens addresses of the hub alone; addresses of other kinds cannot be opened."""


def _refused() -> type:
    from fsspec import AbstractFileSystem

    class Refused(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
        """Stands for every file system that a dataset has no business with."""

        protocol = "refused"
        cachable = False

        def __init__(self, *_: Any, **__: Any) -> None:
            raise PermissionError("leads out of the hub, allowed: files of the dataset itself")

    return Refused
