"""Reads datasets of the Hugging Face hub as they stream, by ``datasets``, which loads slowly.

``minitron.hub_splits`` says which files a config and a split are, ``datasets`` reads their rows; but for Parquet, see
``minitron.parquet``.
No more of a dataset is fetched than is read, no code of its own is run, and nothing of it is kept on disk but
its card.
"""

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from minitron.documents import Document, document_of, missing_column
from minitron.errors import HubError, UnreachableHub, UnreadableData
from minitron.hub import HubName, asking, check_access, endpoint, without_token
from minitron.hub_splits import configs_of, hub_files_only, splits_of
from minitron.parquet import parquet_rows
from minitron.recipe import DataSource
from minitron.sources import hub_name

Rows = Callable[[], Iterable[Any]]
"""Reads the rows of a file from its beginning."""


def hub_documents(field: str, source: DataSource, *, seed: int) -> Generator[Document, None, None]:
    """Yield the documents of a hub dataset that hold more than white space, as they come, repeated ones too.

    The files of the split come in an order that the seed draws, their rows as they stand there.

    Args:
        field: Of the recipe, which errors begin with.
        source: With its ``text_field``, at a commit.
        seed: Any integer.

    Raises:
        UnreadableData: No such config, split or column, a row without text, or files of another kind.
        RefusedByHub, UnreachableHub: As ``minitron.hub.asking``.
    """
    name = hub_name(field, source.source)
    assert name.commit is not None, f"{name}: may move"
    assert source.text_field is not None
    with _telling(field, name), hub_files_only():
        files = _files(field, source, name)
        random.Random(seed).shuffle(files)  # noqa: S311 - an order, not a secret
        for where, rows in files:
            for number, row in enumerate(rows(), start=1):
                document = document_of(row, source.text_field, f"{where}: row {number}")
                if document is not None:
                    yield document


def _files(field: str, source: DataSource, name: HubName) -> list[tuple[str, Rows]]:
    """Return the files of the split of a config: what errors call each, and what reads its rows."""
    assert source.text_field is not None
    with _without_bars():
        configs = configs_of(name)
        names = list(configs) or ["default"]
        config = source.config or (names[0] if len(names) == 1 else configs.get_default_config_name())
        if config not in names:
            raise _unknown(f"{field}.config", source.config, name, names)
        splits = splits_of(name, configs.get(config, {}))
        if source.split not in splits.files:
            raise _unknown(f"{field}.split", source.split, name, list(splits.files))
        where, urls = f"{field}: {name}", splits.files[source.split]
        if splits.kind == "parquet":
            return [_parquet_file(url, source.text_field, where) for url in urls]
        rows = _rows(splits.kind, urls, splits.options)
        # Some formats tell their columns only by their first row.
        columns = rows.column_names or list(next(iter(rows), {source.text_field: None}))
        if source.text_field not in columns:
            raise missing_column(where, source.text_field, columns)
        rows = rows.select_columns([source.text_field])
        where = f"{where}: {source.split} file"
        number = rows.num_shards
        return [(f"{where} {shard + 1}", partial(rows.shard, number, shard)) for shard in range(number)]


def _rows(kind: str, urls: list[str], options: Mapping[str, Any]) -> Any:
    from datasets import load_dataset_builder
    from datasets.data_files import DataFilesDict, DataFilesList

    # Not as plain lists, which would be looked for once more, as patterns.
    files = DataFilesDict({"train": DataFilesList(urls, [(url,) for url in urls])})
    rows = load_dataset_builder(kind, data_files=files, **options).as_streaming_dataset(split="train")
    # Cells that are called pictures name files and addresses, which decoding would open.
    return rows.decode(False) if rows.features else rows


def _parquet_file(url: str, text_field: str, where: str) -> tuple[str, Rows]:
    from huggingface_hub import HfFileSystem, constants

    def rows() -> Iterator[Any]:
        with HfFileSystem(endpoint=constants.ENDPOINT).open(url, "rb") as file:
            yield from parquet_rows(file, text_field, where)

    where = f"{where}: {url.partition('@')[2].partition('/')[2]}"
    return where, rows


def _unknown(field: str, found: str | None, name: HubName, allowed: list[str]) -> UnreadableData:
    return UnreadableData(f"{field}: found {found!r}, allowed for {name}: {', '.join(allowed)}")


@contextmanager
def _telling(field: str, name: HubName) -> Iterator[None]:
    """Tell what ``datasets`` raises in one line that begins with the field.

    The rest is cut off, as ``asking`` does and for the same reason.
    """
    from datasets.exceptions import DatasetNotFoundError

    try:
        with asking(name):
            try:
                yield
            except DatasetNotFoundError:
                check_access(name, "dataset")  # tells why
                raise
            except ConnectionError as error:
                raise _cause(error) from None
    except UnreadableData:
        raise
    except HubError as error:
        raise type(error)(f"{field}: {error}") from None
    except ConnectionError as error:
        raise UnreachableHub(
            f"{field}: {name}: {endpoint()} does not answer ({type(error).__name__}); allowed: try again"
        ) from None
    except Exception as error:  # of the format, or of whatever reads it
        reason = without_token(" ".join(str(error).split())) or type(error).__name__
        raise UnreadableData(f"{field}: {name}: cannot be read: {reason}") from None


def _cause(error: Exception) -> Exception:
    """Return what the hub answered, where that is why the connection is said to be lost."""
    from httpx2 import HTTPError

    link: BaseException | None = error
    while link is not None and not isinstance(link, HTTPError):
        link = link.__cause__ or link.__context__
    return link or error


@contextmanager
def _without_bars() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
