"""Blocks: an honest split, full, deterministic, found again; data that will not do is refused by name."""

import csv
import json
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from minitron.checkpoint import load_tokenizer
from minitron.data import open_blocks, prepare_blocks, split_documents
from minitron.documents import PASSAGE_CHARACTERS, passages, read_documents
from minitron.errors import ArtifactMismatch, DatasetTooSmall, UnreadableData
from minitron.recipe import DataRecipe
from minitron.sources import PYTHON_DOCS, source_digest
from tests.checkpoints import WORDS, sentences, word_tokenizer, write_documents

T = 16
END = 1


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    word_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_documents(tmp_path_factory.mktemp("text"))


def recipe(source, **fields):
    return DataRecipe(**({"source": str(source), "sequence_length": T, "validation_tokens": 10 * T} | fields))


def prepared(data, tokenizer_dir, root, *, calibration=8, training=40, report=lambda _: None):
    return prepare_blocks(
        data,
        tokenizer_dir,
        calibration_blocks=calibration,
        training_blocks=training,
        root=root,
        report=report,
    )


def test_blocks_have_the_sizes_asked_for(text, tokenizer_dir, tmp_path):
    blocks = prepared(recipe(text), tokenizer_dir, tmp_path)
    for array, number in ((blocks.validation_NT, 10), (blocks.calibration_NT, 8), (blocks.training_NT, 40)):
        assert array.shape == (number, T)
        assert array.dtype == np.int32
        assert isinstance(array, np.memmap)


def test_a_side_may_be_empty(text, tokenizer_dir, tmp_path):
    blocks = prepared(recipe(text), tokenizer_dir, tmp_path, calibration=0, training=0)
    assert blocks.calibration_NT.shape == blocks.training_NT.shape == (0, T)


def test_blocks_are_documents_end_to_end(tokenizer_dir, tmp_path):
    """No padding, one end-of-text after each document, nothing lost between."""
    source = write_documents(tmp_path / "text", documents=60, lines=1)
    per_document = len(word_tokenizer()(sentences(1))["input_ids"]) + 1
    blocks = prepared(
        recipe(source, validation_tokens=T), tokenizer_dir, tmp_path, calibration=0, training=20
    )
    tokens = blocks.training_NT.ravel()
    assert set(tokens[per_document - 1 :: per_document]) == {END}
    assert (tokens == END).sum() == len(tokens) // per_document
    known = {
        tuple(word_tokenizer()(document)["input_ids"])
        for document in read_documents(str(source), text_field="")
    }
    documents = [tuple(part) for part in np.split(tokens, np.flatnonzero(tokens == END) + 1)]
    assert {document[:-1] for document in documents[:-1]} <= known


def test_validation_bytes_are_those_of_its_text(text, tokenizer_dir, tmp_path):
    blocks = prepared(recipe(text), tokenizer_dir, tmp_path)
    texts = load_tokenizer(tokenizer_dir).batch_decode(
        blocks.validation_NT.tolist(), skip_special_tokens=True
    )
    assert blocks.validation_bytes == sum(len(part.encode()) for part in texts) > 0


def test_the_same_request_is_found_again(text, tokenizer_dir, tmp_path):
    first = prepared(recipe(text), tokenizer_dir, tmp_path)
    told = []
    again = prepared(recipe(text), tokenizer_dir, tmp_path, report=told.append)
    assert [progress.is_cached for progress in told] == [True]
    assert again.fingerprint == first.fingerprint
    reopened = open_blocks(tmp_path / "blocks" / first.fingerprint)
    for side in ("calibration_NT", "training_NT", "validation_NT"):
        assert np.array_equal(getattr(first, side), getattr(again, side))
        assert np.array_equal(getattr(first, side), getattr(reopened, side))
    assert reopened.validation_bytes == first.validation_bytes


def test_a_fingerprint_holds_all_that_blocks_are_made_from(text, tokenizer_dir, tmp_path):
    """And not where the text lies."""
    base = recipe(text)
    other_tokenizer = tmp_path / "tokenizer"
    word_tokenizer().save_pretrained(other_tokenizer)
    path = other_tokenizer / "tokenizer.json"
    path.write_text(path.read_text().replace('"doubts"', '"denies"'))
    moved = write_documents(tmp_path / "moved")
    changed = write_documents(tmp_path / "changed")
    (changed / "000.txt").write_text("another text")
    requests = [
        (base, tokenizer_dir, {}),
        (recipe(text, seed=1), tokenizer_dir, {}),
        (recipe(text, sequence_length=8), tokenizer_dir, {}),
        (recipe(changed), tokenizer_dir, {}),
        (base, other_tokenizer, {}),
        (base, tokenizer_dir, {"training": 41}),
    ]
    root = tmp_path / "root"
    fingerprints = [prepared(data, directory, root, **more).fingerprint for data, directory, more in requests]
    assert len(set(fingerprints)) == len(requests)
    assert prepared(recipe(moved), tokenizer_dir, root).fingerprint == fingerprints[0]


def test_a_failure_leaves_no_blocks(text, tokenizer_dir, tmp_path):
    def interrupt(progress):
        if progress.done > 20 * T:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(recipe(text), tokenizer_dir, tmp_path, report=interrupt)
    assert list((tmp_path / "blocks").iterdir()) == []


def test_damaged_blocks_are_named(text, tokenizer_dir, tmp_path):
    blocks = prepared(recipe(text), tokenizer_dir, tmp_path)
    directory = tmp_path / "blocks" / blocks.fingerprint
    (directory / "training.npy").write_bytes(b"")
    with pytest.raises(ArtifactMismatch, match=blocks.fingerprint):
        open_blocks(directory)


documents = st.lists(st.text(min_size=1), unique=True, max_size=200)


@given(documents=documents, seed=st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_every_document_is_on_one_side_whatever_the_seed_and_the_others(documents, seed):
    sides = split_documents(documents, seed=seed)
    assert sorted(chain.from_iterable(sides.values())) == sorted(documents)
    alone = {
        document: side
        for document in documents
        for side, found in split_documents([document], seed=0).items()
        if found
    }
    assert all(alone[document] == side for side, found in sides.items() for document in found)


def test_few_blocks_come_from_many_documents(tokenizer_dir, tmp_path):
    """Documents are long, each about its own number; passages of several are drawn."""
    source = tmp_path / "text"
    source.mkdir()
    for number in range(40):
        paragraph = f"{WORDS[number % 20 + 4]} " * 400 + "\n\n"
        (source / f"{number}.txt").write_text(f"{number}\n" + paragraph * 20)
    blocks = prepared(
        recipe(source, validation_tokens=T), tokenizer_dir, tmp_path, calibration=0, training=1_500
    )
    assert len(set(blocks.training_NT.ravel()) - {0, END}) > 8


def test_the_seed_shuffles_and_the_order_of_files_does_not_matter():
    texts = [f"text {number}" for number in range(200)]
    first, other = split_documents(texts, seed=0), split_documents(texts, seed=1)
    assert first["training"] != other["training"]
    assert sorted(first["training"]) == sorted(other["training"])
    assert split_documents(texts[::-1], seed=0) == first


def test_sides_share_no_document_even_when_one_borrows(tokenizer_dir, tmp_path):
    """Validation is asked for far more than its share."""
    source = write_documents(tmp_path / "text", documents=150, lines=1)
    blocks = prepared(
        recipe(source, validation_tokens=50 * T), tokenizer_dir, tmp_path, calibration=10, training=30
    )

    def whole_documents(array):
        tokens = array.ravel()
        parts = np.split(tokens, np.flatnonzero(tokens == END) + 1)[:-1]
        return {tuple(part) for part in parts}

    sides = [
        whole_documents(array) for array in (blocks.validation_NT, blocks.calibration_NT, blocks.training_NT)
    ]
    assert all(sides)
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"validation_tokens": 10**6},
            "validation: found .* tokens, needed 1000000; lower data.validation_tokens",
        ),
        (
            {"calibration": 10**5},
            "calibration: found .* tokens, needed 1600000; lower calibration.num_samples",
        ),
        ({"training": 10**5}, "training: found .* tokens, needed 1600000; lower training.num_tokens"),
    ],
    ids=["validation", "calibration", "training"],
)
def test_too_little_text_names_the_side_and_the_field(text, tokenizer_dir, tmp_path, sizes, message):
    fields = {name: sizes.pop(name) for name in ("validation_tokens",) if name in sizes}
    with pytest.raises(DatasetTooSmall, match=message):
        prepared(recipe(text, **fields), tokenizer_dir, tmp_path, **sizes)


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
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_structured_files_are_read_by_column(tmp_path, suffix):
    """Once for each text; rows without text count for nothing."""
    texts = ["one\ntwo", "three", "", "one\ntwo", "é"]
    path = write_structured(tmp_path, suffix, [{"id": n, "body": text} for n, text in enumerate(texts)])
    assert read_documents(str(path), text_field="body") == ["one\ntwo", "three", "é"]
    with pytest.raises(
        UnreadableData, match=r"data.text_field: found 'text', allowed: a column of .*: id, body"
    ):
        read_documents(str(path), text_field="text")


def test_a_column_without_text_is_refused(tmp_path):
    path = write_structured(tmp_path, ".jsonl", [{"body": "a"}, {"body": "b"}])
    path.write_text('{"body": 1}\n')
    with pytest.raises(UnreadableData, match="row 1: body: found int, allowed: text"):
        read_documents(str(path), text_field="body")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe{garbage"], ids=["empty", "garbage"])
def test_unreadable_structured_files_are_named(tmp_path, suffix, content):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableData, match="data.*: .*data" + suffix):
        read_documents(str(path), text_field="text")


def test_local_text_is_read_from_a_file_a_directory_or_a_pattern(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "b.md", "sub/c.py", "ignored.bin"):
        (tmp_path / name).write_text(f"text of {name}")
    read = {
        source: read_documents(str(tmp_path / source), text_field="text")
        for source in ("a.txt", "", "**/*.[mp]*")
    }
    assert read == {
        "a.txt": ["text of a.txt"],
        "": ["text of a.txt", "text of b.md", "text of sub/c.py"],
        "**/*.[mp]*": ["text of b.md", "text of sub/c.py"],
    }


def test_one_long_file_becomes_many_documents(tmp_path):
    paragraphs = [sentences(10, seed=seed) for seed in range(200)]
    path = tmp_path / "book.txt"
    path.write_text("\n".join(paragraphs))
    documents = read_documents(str(path), text_field="text")
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


def test_a_file_of_one_line_feeds_every_side_of_the_split(tmp_path):
    (tmp_path / "line.txt").write_text(" ".join(sentences(3_000).split()))
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    recipe = DataRecipe(source=str(tmp_path / "line.txt"), sequence_length=T, validation_tokens=4 * T)
    blocks = prepare_blocks(
        recipe, tmp_path / "tokenizer", calibration_blocks=4, training_blocks=8, root=tmp_path / "root"
    )
    assert [len(side) for side in (blocks.calibration_NT, blocks.training_NT, blocks.validation_NT)] == [
        4,
        8,
        4,
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("builtin:poems", "found 'builtin:poems', allowed: builtin:python-docs or a local path"),
        ("missing", "missing: no such file, directory or match"),
        ("empty", r"empty: holds no file with a suffix of \.txt"),
        ("blank.txt", r"blank\.txt: holds no text"),
        ("picture.png", r"found suffix '\.png', allowed: \.txt"),
        ("latin.txt", r"latin\.txt: cannot be read as UTF-8"),
    ],
)
def test_sources_without_text_are_refused_by_name(tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    path = source if source.startswith("builtin:") else str(tmp_path / source)
    with pytest.raises(UnreadableData, match=message):
        read_documents(path, text_field="text")


def test_python_docs_hold_topics_docstrings_and_source():
    documents = read_documents(PYTHON_DOCS, text_field="text")
    assert sum(map(len, documents)) > 3_000_000
    assert any('The "for" statement is used to iterate' in document for document in documents)
    assert any("dict.setdefault\nInsert key with a value of default" in document for document in documents)
    assert any("def dedent(text):" in document for document in documents)
    assert source_digest(PYTHON_DOCS) == source_digest(PYTHON_DOCS)
