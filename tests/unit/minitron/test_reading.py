"""Sources and the documents in them: every format read lazily, every mistake named with its field."""

import csv
import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from minitron import local_paths, reading, sources
from minitron.documents import PASSAGE_CHARACTERS, Document, document_of, passages, passages_of
from minitron.errors import TooManyFiles, UnreadableData
from minitron.reading import read_documents
from minitron.recipe import DataRecipe, DataSource
from minitron.sources import (
    PYTHON_DOCS,
    check_sources,
    content_digest,
    local_files,
    state_of,
    with_absolute_paths,
)
from tests.checkpoints import sentences

FIELD = "data.source"


def read(source, *, text_field="text", seed=0):
    found = read_documents(FIELD, DataSource(source=str(source), text_field=text_field), seed=seed)
    return [document.text for document in found]


def write_structured(directory, suffix, rows):
    path = directory / f"data{suffix}"
    if suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".txt":
        path.write_text("\n\n".join(row["text"] for row in rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


STRUCTURED = [".json", ".jsonl", ".csv", ".parquet"]


@pytest.mark.parametrize("suffix", STRUCTURED)
def test_structured_files_are_read_by_column(tmp_path, suffix):
    """In their order; rows without text count for nothing."""
    texts = ["one\ntwo", "three", "", " \n", "one\ntwo", "é"]
    path = write_structured(tmp_path, suffix, [{"id": n, "body": text} for n, text in enumerate(texts)])
    assert read(path, text_field="body") == ["one\ntwo", "three", "one\ntwo", "é"]
    with pytest.raises(
        UnreadableData,
        match=r"data.source: .*: text_field: found 'text', allowed: one of its columns: id, body",
    ):
        read(path)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_lists_of_messages_are_chats(tmp_path, suffix):
    """As JSON, the same from every format; columns that a message does not have are left out."""
    chats = [
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "name": "a"}],
        [{"role": "user", "content": "é", "name": None}],
    ]
    path = write_structured(tmp_path, suffix, [{"messages": chat} for chat in [*chats, [], None]])
    found = list(read_documents(FIELD, DataSource(source=str(path), text_field="messages"), seed=0))
    assert all(document.is_chat for document in found)
    assert [json.loads(document.text) for document in found] == [
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "name": "a"}],
        [{"role": "user", "content": "é"}],
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1, "1"),
        ({"a": 1}, r'\{"a": 1\}'),
        (["text"], r'\["text"\]'),
        ([{"from": "human", "value": "hi"}], r'\[\{"from": "human", "value": "hi"\}\]'),
        ([{"role": "user", "content": ["part"]}], r'\[\{"role": "user", "content": \["part"\]\}\]'),
        (["x" * 100], r'\["x+\.\.\.'),
    ],
)
def test_what_is_neither_text_nor_a_chat_is_refused_with_its_row(tmp_path, value, shown):
    path = write_structured(tmp_path, ".jsonl", [{"body": "a"}, {"body": value}])
    with pytest.raises(
        UnreadableData, match=rf"data\.jsonl: row 2: body: found {shown}, allowed: text, or messages"
    ):
        read(path, text_field="body")


@pytest.mark.parametrize(
    ("row", "message"),
    [("[1]", "row 2: found list, allowed: an object"), ("{", "line 2: cannot be read as JSON"),
     ('{"text": "\\ud800"}', "row 2: text: holds text that is not valid Unicode")],
)  # fmt: skip
def test_a_bad_row_is_named_when_it_is_reached(tmp_path, row, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "good"}}\n{row}\n')
    documents = read_documents(FIELD, DataSource(source=str(path), text_field="text"), seed=0)
    assert next(documents).text == "good"
    with pytest.raises(UnreadableData, match=rf"data\.source: .*rows\.jsonl: {message}"):
        next(documents)


def test_columns_that_are_not_read_may_hold_anything(tmp_path):
    """A column of numbers with one word far down."""
    rows = [{"id": n if n < 9_999 else "last", "text": f"text {n}"} for n in range(10_000)]
    assert len(read(write_structured(tmp_path, ".csv", rows))) == 10_000


@pytest.mark.parametrize("suffix", STRUCTURED)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe{garbage"], ids=["empty", "garbage"])
def test_unreadable_structured_files_are_named(tmp_path, suffix, content):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableData, match="data.source: .*data" + suffix):
        read(path)


@pytest.mark.parametrize("compression", [".gz", ".zst"])
@pytest.mark.parametrize("suffix", [".txt", ".json", ".jsonl", ".csv"])
def test_compressed_files_are_read_as_what_they_hold(tmp_path, suffix, compression):
    plain = write_structured(tmp_path, suffix, [{"text": f"text {n} é"} for n in range(3)])
    packed = plain.with_name(plain.name + compression)
    with pa.output_stream(str(packed), compression={".gz": "gzip", ".zst": "zstd"}[compression]) as stream:
        stream.write(plain.read_bytes())
    assert read(packed) == read(plain)
    packed.write_bytes(b"no stream of any kind")
    with pytest.raises(UnreadableData, match=rf"data{suffix}{compression}: cannot be read as {suffix}"):
        read(packed)


def test_a_python_that_wrote_the_gzip_file_makes_no_difference(tmp_path):
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"text": "a"}\n')
    assert read(tmp_path / "a.jsonl.gz") == ["a"]


def test_local_text_is_read_from_a_file_a_directory_or_a_pattern(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "b.md", "sub/c.py", "ignored.bin"):
        (tmp_path / name).write_text(f"text of {name}")
    found = {source: sorted(read(tmp_path / source)) for source in ("a.txt", "", "**/*.[mp]*")}
    assert found == {
        "a.txt": ["text of a.txt"],
        "": ["text of a.txt", "text of b.md", "text of sub/c.py"],
        "**/*.[mp]*": ["text of b.md", "text of sub/c.py"],
    }


def test_the_seed_draws_the_order_of_files_and_keeps_that_of_rows(tmp_path):
    for name in "abcdefgh":
        write_structured(tmp_path, ".jsonl", [{"text": f"{name}{n}"} for n in range(3)]).rename(
            tmp_path / f"{name}.jsonl"
        )
    orders = [read(tmp_path, seed=seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert sorted(order[::3]) == [f"{name}0" for name in "abcdefgh"]
        assert [text[1] for text in order] == ["0", "1", "2"] * 8


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".txt"])
def test_a_reader_that_stops_has_read_little_and_leaves_nothing_open(tmp_path, suffix, monkeypatch):
    """What comes after would be an error if it were read; an open file is one here as it is."""
    monkeypatch.setattr(reading, "LARGEST_FILE_DOCUMENT", 10_000)
    monkeypatch.setattr(reading, "_CSV_BLOCK_BYTES", 10_000)
    rows = [{"text": sentences(20, seed=n % 50)} for n in range(600)]
    path = write_structured(tmp_path, suffix, rows)
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
        begin = parquet.read_metadata(path).row_group(6).column(0).data_page_offset
        content = bytearray(path.read_bytes())
        content[begin : begin + 50] = b"!" * 50
        path.write_bytes(content)
    else:
        path.write_bytes(path.read_bytes() + b"\xff\xff" * 100)
    documents = read_documents(FIELD, DataSource(source=str(path), text_field="text"), seed=0)
    assert [next(documents).text for _ in range(3)]
    documents.close()
    with pytest.raises(UnreadableData):
        read(path)


def test_one_long_file_among_others_becomes_many_documents_too(tmp_path, monkeypatch):
    """Else it would be held whole, and stand on one side of the split."""
    monkeypatch.setattr(reading, "LARGEST_FILE_DOCUMENT", 10_000)
    (tmp_path / "short.txt").write_text("short")
    (tmp_path / "long.txt").write_text(sentences(2_000))
    found = read(tmp_path)
    assert "short" in found
    assert len(found) > 20
    assert "".join(text for text in found if text != "short") == sentences(2_000)


@settings(max_examples=200)
@given(
    pieces=st.lists(
        st.sampled_from(["word ", "x" * 3_000, "\n", "\n\n", "line " * 500 + "\n", " "]), max_size=40
    ),
    size=st.integers(1, 20_000),
)
def test_a_text_in_parts_is_cut_as_it_is_whole(pieces, size):
    text = "".join(pieces)
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    assert list(passages_of(parts)) == passages(text)
    assert all(passages(text))


def test_one_long_file_becomes_many_documents(tmp_path):
    paragraphs = [sentences(10, seed=seed) for seed in range(200)]
    path = tmp_path / "book.txt"
    path.write_text("\n".join(paragraphs))
    documents = read(path, text_field="text")
    assert len(documents) > 5
    assert "".join(documents) == path.read_text()


@pytest.mark.parametrize("between", ["\n\n", "\n", " ", ""])
def test_a_long_text_is_cut_where_it_hurts_least(between):
    """At empty lines, else lines, else words, else anywhere: no passage is far longer than meant."""
    words = [f"word{number:05}" for number in range(5_000)]
    text = between.join(words)
    found = passages(text)
    assert "".join(found) == text
    assert len(found) > 5
    assert all(PASSAGE_CHARACTERS <= len(passage) <= 2 * PASSAGE_CHARACTERS for passage in found[:-1])
    if between:
        assert all(passage.strip().split()[-1] in words for passage in found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "builtin:poems",
            "found 'builtin:poems', allowed: builtin:python-docs, hub:ORG/NAME or a local path",
        ),
        ("hub:", "found 'hub:', allowed: hub:ORG/NAME"),
        ("hub:no/such/name", "found 'hub:no/such/name', allowed: hub:ORG/NAME"),
        ("missing", "missing: no such file, directory or match"),
        ("empty", r"empty: holds no file with a suffix of \.txt"),
        ("picture.png", r"found suffix '\.png', allowed: \.txt"),
        ("table.parquet.gz", r"found suffix '\.gz', allowed: \.txt"),
    ],
)
def test_sources_that_cannot_hold_text_are_refused_when_they_are_checked(tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "table.parquet.gz").write_bytes(b"")
    path = source if ":" in source else str(tmp_path / source)
    good = DataSource(source=PYTHON_DOCS)
    bad = DataSource(source=path)
    for recipe, field in (
        (DataRecipe(source=path), "data.source"),
        (DataRecipe(source=bad), "data.source"),
        (DataRecipe(source=(good, bad)), "data.source.1"),
        (DataRecipe(validation=path), "data.validation"),
    ):
        with pytest.raises(UnreadableData, match=f"^{field}: .*{message}"):
            check_sources(recipe)


def test_a_check_stops_at_the_first_file_and_a_reading_at_more_than_can_be_meant(tmp_path, monkeypatch):
    monkeypatch.setattr(local_paths, "MAX_ENTRIES", 10)
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text("text")
    recipe = DataRecipe(source=str(tmp_path))
    check_sources(recipe)
    for read_all in (content_digest, state_of, local_files):
        with pytest.raises(TooManyFiles, match=rf"^{FIELD}: {tmp_path}: found more than 10 files"):
            read_all(FIELD, DataSource(source=str(tmp_path)))
    for path in tmp_path.iterdir():
        path.rename(path.with_suffix(".png"))
    with pytest.raises(TooManyFiles, match=rf"^{FIELD}: {tmp_path}: found more than 10 files"):
        check_sources(recipe)


def test_only_ordinary_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zeros.txt").symlink_to("/dev/zero")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "none")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    with pytest.raises(UnreadableData, match="holds no file with a suffix"):
        check_sources(DataRecipe(source=str(tmp_path)))
    (tmp_path / "real.txt").write_text("text")
    assert local_files(FIELD, DataSource(source=str(tmp_path))) == [tmp_path / "real.txt"]
    for name in ("pipe.txt", "zeros.txt", "loop.txt"):
        with pytest.raises(UnreadableData, match=f"^{FIELD}: {tmp_path / name}: no such file"):
            check_sources(DataRecipe(source=str(tmp_path / name)))


@pytest.mark.parametrize("source", ["x" * 300, "~nobody-at-all/x.txt", "x" * 300 + "/*.txt"])
def test_a_path_that_no_file_can_have_is_named(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UnreadableData, match=f"^{FIELD}: .*(no such file|cannot be read: .*File name too long)"
    ):
        check_sources(with_absolute_paths(DataRecipe(source=source)))


def test_a_directory_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """Nothing is left out in silence."""
    (tmp_path / "secret").mkdir()

    def refusing(directory):
        if Path(directory).name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied", str(directory))
        return scandir(directory)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(
        UnreadableData, match=rf"^{FIELD}: {tmp_path}: cannot be read: .*denied: '.*/secret'$"
    ):
        check_sources(DataRecipe(source=str(tmp_path)))


@pytest.mark.parametrize(
    ("source", "message"),
    [("blank.txt", r"blank\.txt: holds no text"), ("latin.txt", r"latin\.txt: cannot be read as \.txt")],
)
def test_files_without_text_are_refused_when_they_are_read(tmp_path, source, message):
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    check_sources(DataRecipe(source=str(tmp_path / source)))
    with pytest.raises(UnreadableData, match=message):
        read(tmp_path / source)


@pytest.mark.parametrize(("name", "value"), [("config", "en"), ("split", "test")])
def test_only_datasets_of_the_hub_have_configs_and_splits(name, value):
    fields = {name: value}
    check_sources(DataRecipe(source=DataSource(source="hub:a/b", **fields)))
    recipe = DataRecipe(validation=DataSource(source=PYTHON_DOCS, **fields))
    with pytest.raises(
        UnreadableData, match=rf"data\.validation\.{name}: found '{value}', allowed for builtin"
    ):
        check_sources(recipe)


def test_only_local_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named, local = DataSource(source="hub:a/b@main", weight=2), DataSource(source="x.txt", weight=3)
    moved = DataSource(source=str(tmp_path / "x.txt"), weight=3)
    recipe = DataRecipe(source=(named, local), validation="x.txt")
    assert with_absolute_paths(recipe) == DataRecipe(source=(named, moved), validation=moved.source)
    assert with_absolute_paths(DataRecipe(source=local)).source == moved
    assert with_absolute_paths(DataRecipe()) == DataRecipe()


def test_python_docs_hold_topics_docstrings_and_source():
    documents = read(PYTHON_DOCS)
    assert sum(map(len, documents)) > 3_000_000
    assert any('The "for" statement is used to iterate' in document for document in documents)
    assert any("dict.setdefault\nInsert key with a value of default" in document for document in documents)
    assert any("def dedent(text):" in document for document in documents)
    source = DataSource(source=PYTHON_DOCS)
    assert content_digest(FIELD, source) == content_digest(FIELD, source)


_DIGEST = "import hashlib; from minitron.python_docs import python_docs; import sys; "
_DIGEST += "print(hashlib.sha256(chr(0).join(python_docs()).encode()).hexdigest(), sys.excepthook is sys.__excepthook__)"
_REPLACE = "import sys, threading; hook = lambda *arguments: None; hook.__doc__ = 'Ours.'; "
_REPLACE += "sys.excepthook = sys.displayhook = sys.breakpointhook = sys.unraisablehook = threading.excepthook = hook; "


@pytest.mark.parametrize("before", ["import ray; ", _REPLACE], ids=["ray", "every hook"])
def test_python_docs_are_the_same_whatever_replaced_the_hooks_of_the_process(before):
    def text_of(code):
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    (plain, is_own), (replaced, is_still_own) = text_of(_DIGEST), text_of(before + _DIGEST)
    assert (is_own, is_still_own) == ("True", "False"), "else this tells nothing"
    assert replaced == plain


def test_progress_of_reading_large_files_for_their_key_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_PART_BYTES", 1_000)
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("x" * 1_500)
    told = []
    content_digest(FIELD, DataSource(source=str(tmp_path)), told.append)
    assert [(each.done, each.total, each.unit) for each in told] == [
        (1_000, 3_000, "bytes"), (1_500, 3_000, "bytes"), (2_500, 3_000, "bytes"), (3_000, 3_000, "bytes"),
    ]  # fmt: skip


def test_a_document_is_told_by_its_text():
    assert Document("é", "here").digest == Document("é", "there").digest != Document("e", "here").digest
    assert document_of({"text": None}, "text", "here") is None
