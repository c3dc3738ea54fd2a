"""What a source of text is: a named one, a dataset of the hub or local files, told without reading a document.

Free of torch and of readers, so that a source is checked when a search is submitted. A source tells its
content's digest without parsing it, so that blocks made from it earlier are found again cheaply.
"""

import glob
import hashlib
import re
from dataclasses import replace
from pathlib import Path

from minitron.errors import UnreadableData
from minitron.python_docs import python_docs
from minitron.recipe import DataRecipe, DataSource

PYTHON_DOCS = "builtin:python-docs"
"""The documentation and library source of the running Python."""
HUB = "hub:"
"""What the names of hub datasets begin with."""

PLAIN = (".txt", ".md", ".py")
STRUCTURED = (".json", ".jsonl", ".csv", ".parquet")
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
"""Suffixes that may follow, by what pyarrow calls them."""

_FILES = f"{', '.join(PLAIN + STRUCTURED)}, also with {' or '.join(COMPRESSED)}"
_HUB_NAME = re.compile(r"hub:(?P<id>[\w.-]+(/[\w.-]+)?)(@(?P<revision>.+))?")


def check_sources(recipe: DataRecipe) -> None:
    """Raise UnreadableData, which begins with the field, for what can be told to fail without a network.

    An unknown or malformed name, a missing path, nothing readable there, and what only hub datasets have.
    """
    for field, source in recipe.all_sources.items():
        if source.source.startswith(HUB):
            hub_name(field, source)
            continue
        for name, unset in (("config", None), ("split", "train")):
            found = getattr(source, name)
            if found != unset:
                raise UnreadableData(
                    f"{field}.{name}: found {found!r}, allowed for {source.source}, which is no hub dataset: "
                    "none"
                )
        if source.source != PYTHON_DOCS:
            local_files(field, source)


def with_absolute_paths(recipe: DataRecipe) -> DataRecipe:
    """Return the recipe with local paths counted from the directory of this process."""

    def located(source: DataSource) -> DataSource:
        return replace(source, source=_absolute(source.source))

    source, held_out = recipe.source, recipe.validation
    if isinstance(source, tuple):
        source = tuple(map(located, source))
    else:
        source = _absolute(source) if isinstance(source, str) else located(source)
    if held_out is not None:
        held_out = _absolute(held_out) if isinstance(held_out, str) else located(held_out)
    return replace(recipe, source=source, validation=held_out)


def hub_name(field: str, source: DataSource) -> tuple[str, str | None]:
    """Return the id and the revision that the name of a hub dataset says.

    Raises:
        UnreadableData: A malformed name.
    """
    name = _HUB_NAME.fullmatch(source.source)
    if name is None:
        raise UnreadableData(
            f"{field}: found {source.source!r}, allowed: hub:ORG/NAME or hub:ORG/NAME@REVISION"
        )
    return name["id"], name["revision"]


def local_digest(field: str, source: DataSource) -> str:
    """Return the SHA-256 of all that a source on this machine holds, independent of where it lies.

    Raises:
        UnreadableData: An unknown name, a missing path, or nothing readable there.
    """
    digest = hashlib.sha256()
    if source.source == PYTHON_DOCS:
        for document in python_docs():
            digest.update(hashlib.sha256(document.encode()).digest())
    else:
        for path in local_files(field, source):
            digest.update("".join(_suffixes(path)).encode() + _file_digest(field, path))
    return digest.hexdigest()


def local_files(field: str, source: DataSource) -> list[Path]:
    """Return the files of a known suffix at a path, below a directory, or matching a pattern; sorted.

    Raises:
        UnreadableData: An unknown name, a missing path, or nothing readable there.
    """
    if source.source.startswith("builtin:"):
        raise UnreadableData(
            f"{field}: found {source.source!r}, allowed: {PYTHON_DOCS}, hub:ORG/NAME or a local path"
        )
    path = Path(source.source).expanduser()
    if path.is_file():
        if not _is_readable(path):
            raise UnreadableData(f"{field}: {path}: found suffix {path.suffix!r}, allowed: {_FILES}")
        return [path]
    if path.is_dir():
        candidates = list(path.rglob("*"))
    else:
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - absolute patterns too
        if not candidates:
            raise UnreadableData(f"{field}: {path}: no such file, directory or match")
    files = sorted(file for file in candidates if _is_readable(file) and file.is_file())
    if not files:
        raise UnreadableData(f"{field}: {path}: holds no file with a suffix of {_FILES}")
    return files


def kind_of(path: Path) -> str:
    """Return the suffix that says what a file holds, compression aside."""
    return _suffixes(path)[0]


def compression_of(path: Path) -> str | None:
    """Return what pyarrow calls the compression of a file, None without."""
    return COMPRESSED.get(path.suffix)


def _absolute(source: str) -> str:
    is_name = source.startswith(("builtin:", HUB))
    return source if is_name else str(Path(source).expanduser().absolute())


def _suffixes(path: Path) -> tuple[str, str]:
    """What a file holds, and how it is compressed."""
    return (path.with_suffix("").suffix, path.suffix) if path.suffix in COMPRESSED else (path.suffix, "")


def _is_readable(path: Path) -> bool:
    kind, compression = _suffixes(path)
    # Parquet is compressed inside, and read from any place in the file.
    return kind in PLAIN + STRUCTURED and not (kind == ".parquet" and compression)


def _file_digest(field: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UnreadableData(f"{field}: {path}: cannot be read: {error}") from error
