"""Blocks: an honest split, full, blended by weight, deterministic, found again; too little text is named."""

import errno
import json

import numpy as np
import pytest

from minitron.block_file import BlockFile
from minitron.checkpoint import load_tokenizer
from minitron.data import open_blocks, prepare_blocks
from minitron.errors import ArtifactMismatch, DatasetTooSmall, OutOfSpace, UnreadableData
from minitron.reading import read_documents
from minitron.recipe import DataRecipe, DataSource
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
    source = source if isinstance(source, tuple) else str(source)
    return DataRecipe(**({"source": source, "sequence_length": T, "validation_tokens": 10 * T} | fields))


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
        tuple(word_tokenizer()(document.text)["input_ids"])
        for document in read_documents("data.source", DataSource(source=str(source), text_field=""), seed=0)
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


def rows(path, number, *, prefix="", lines=1):
    """A file of documents, no two alike, each of one word of its own and some sentences."""
    path.write_text(
        "".join(json.dumps({"text": f"{prefix}{n} {sentences(lines, seed=n)}"}) + "\n" for n in range(number))
    )
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two sources and a tokenizer that knows the words which tell them apart."""
    place = tmp_path_factory.mktemp("two")
    for name, word in (("a", "doubts"), ("b", "forgets")):
        lines = [json.dumps({"text": f"{word} " * 20 + f"{name}{n}"}) for n in range(2_000)]
        (place / f"{name}.jsonl").write_text("\n".join(lines))
    return place


def blend(place, *weights):
    names = ("a.jsonl", "b.jsonl")
    return tuple(
        DataSource(source=str(place / name), weight=each) for name, each in zip(names, weights, strict=True)
    )


def shares_of(blocks_NT):
    """How many blocks are of each source; none is of both."""
    doubts, forgets = (word_tokenizer()(word)["input_ids"][0] for word in ("doubts", "forgets"))
    kinds = [(doubts in block, forgets in block) for block in blocks_NT]
    assert set(kinds) <= {(True, False), (False, True)}
    return kinds.count((True, False)), kinds.count((False, True))


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.3, 0.7), (1, 2), (1, 0), (1e-9, 1)])
def test_a_blend_is_in_proportion_to_the_weights_on_every_side(two, tokenizer_dir, tmp_path, weights):
    """To less than one block, which is of one source whole."""
    blocks = prepared(recipe(blend(two, *weights)), tokenizer_dir, tmp_path)
    for blocks_NT in (blocks.validation_NT, blocks.calibration_NT, blocks.training_NT):
        for found, weight in zip(shares_of(blocks_NT), weights, strict=True):
            assert abs(found - len(blocks_NT) * weight / sum(weights)) < 1


def test_only_the_proportion_of_weights_counts(two, tokenizer_dir, tmp_path):
    first, again, other = (
        prepared(recipe(blend(two, *weights)), tokenizer_dir, tmp_path).fingerprint
        for weights in ((1, 3), (0.5, 1.5), (3, 1))
    )
    assert first == again != other


def test_the_blocks_of_a_blend_are_mixed(two, tokenizer_dir, tmp_path):
    blocks = prepared(recipe(blend(two, 1, 1)), tokenizer_dir, tmp_path)
    begin = [shares_of(blocks.training_NT[start : start + 10]) for start in range(0, 40, 10)]
    assert all(0 < found < 10 for found, _ in begin)


def test_a_source_that_runs_dry_names_its_share_and_what_to_lower(two, tokenizer_dir, tmp_path):
    few = rows(tmp_path / "few.jsonl", 3)
    sources = (*blend(two, 1, 1), DataSource(source=str(few), weight=2))
    message = (
        r"data\.source\.2: .*few\.jsonl: validation: found \d+ tokens, needed 80; "
        r"lower data\.validation_tokens or data\.source\.2\.weight, or give more text"
    )
    with pytest.raises(DatasetTooSmall, match=message):
        prepared(recipe(sources), tokenizer_dir, tmp_path, calibration=0)


def documents_of(blocks_NT):
    tokens = blocks_NT.ravel()
    return {tuple(part) for part in np.split(tokens, np.flatnonzero(tokens == END) + 1)[:-1]}


def test_a_document_of_two_sources_is_taken_once(tokenizer_dir, tmp_path):
    """The first source is read to its end, because its validation must borrow."""
    source = write_documents(tmp_path / "text", documents=150, lines=1)
    (tmp_path / "again").mkdir()
    for path in source.iterdir():
        (tmp_path / "again" / f"renamed-{path.name}").write_text(path.read_text())
    sources = (DataSource(source=str(source)), DataSource(source=str(tmp_path / "again"), weight=0.1))
    with pytest.raises(DatasetTooSmall, match=r"data\.source\.1: .*: found 0 tokens"):
        prepared(
            recipe(sources, validation_tokens=60 * T), tokenizer_dir, tmp_path, calibration=10, training=20
        )


def test_a_validation_source_is_held_out_whole(tokenizer_dir, tmp_path):
    """All its documents may be held out, and none that it holds is trained on, measured on or not."""
    held_out = write_documents(tmp_path / "held-out", documents=60, lines=1)
    source = write_documents(tmp_path / "text", documents=150, lines=1)
    blocks = prepared(
        recipe(source, validation=str(held_out)), tokenizer_dir, tmp_path, calibration=20, training=40
    )
    known = {(*word_tokenizer()(path.read_text())["input_ids"], END) for path in held_out.iterdir()}
    assert documents_of(blocks.validation_NT) <= known
    assert len(blocks.validation_NT) == 10
    for blocks_NT in (blocks.calibration_NT, blocks.training_NT):
        assert len(documents_of(blocks_NT)) > 10
        assert not documents_of(blocks_NT) & known


def test_a_small_validation_source_is_named(text, tokenizer_dir, tmp_path):
    held_out = rows(tmp_path / "few.jsonl", 3)
    message = r"data\.validation: .*few\.jsonl: validation: found \d+ tokens, needed 160; lower data\.validation_tokens, or"
    with pytest.raises(DatasetTooSmall, match=message):
        prepared(recipe(text, validation=str(held_out)), tokenizer_dir, tmp_path)


def test_held_out_blocks_are_the_same_however_long_the_training(text, tokenizer_dir, tmp_path):
    short, long = (
        prepared(
            recipe(text, validation_tokens=2 * T),
            tokenizer_dir,
            tmp_path,
            training=training,
            calibration=training,
        )
        for training in (1, 40)
    )
    assert short.fingerprint != long.fingerprint
    assert np.array_equal(short.validation_NT, long.validation_NT)


def test_what_was_read_is_recorded_beside_the_blocks(two, tokenizer_dir, tmp_path):
    blocks = prepared(recipe(blend(two, 1, 3)), tokenizer_dir, tmp_path)
    meta = json.loads((tmp_path / "blocks" / blocks.fingerprint / "blocks.json").read_text())
    assert [(each["weight"], len(each["content"])) for each in meta["sources"]] == [(1, 64), (3, 64)]


def test_chats_are_packed_by_the_tokenizer_and_its_template_is_part_of_the_key(tmp_path):
    lines = [
        {
            "messages": [
                {"role": "user", "content": sentences(1, seed=n)},
                {"role": "assistant", "content": "the end"},
            ]
        }
        for n in range(200)
    ]
    source = tmp_path / "chats.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    data = recipe(source, text_field="messages")
    keys = set()
    for word in ("doubts", "forgets"):
        tokenizer = word_tokenizer()
        tokenizer.chat_template = "{% for each in messages %}" + word + " {{ each.content }} {% endfor %}"
        tokenizer.save_pretrained(tmp_path / word)
        blocks = prepared(data, tmp_path / word, tmp_path)
        keys.add(blocks.fingerprint)
        marks = (blocks.training_NT == tokenizer(word)["input_ids"][0]).sum()
        assert marks > blocks.training_NT.size / 20
    assert len(keys) == 2
    word_tokenizer().save_pretrained(tmp_path / "plain")
    with pytest.raises(
        UnreadableData, match=r"chats\.jsonl: row \d+: found a chat, allowed for this tokenizer"
    ):
        prepared(data, tmp_path / "plain", tmp_path)


def test_text_that_is_written_to_meanwhile_makes_no_blocks(tokenizer_dir, tmp_path):
    """Else they would be kept under the key of another text."""
    source = write_documents(tmp_path / "text")

    def append(progress):
        if progress.stage == "token blocks":
            with (source / "000.txt").open("a") as file:
                file.write("more")

    with pytest.raises(UnreadableData, match=r"data\.source: .*text: was written to while it was read"):
        prepared(recipe(source), tokenizer_dir, tmp_path, report=append)
    assert list((tmp_path / "blocks").iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(text, tokenizer_dir, tmp_path, monkeypatch):
    def write(self, num_blocks):
        def full(tokens):
            raise OSError(errno.ENOSPC, "No space left on device")

        return full

    monkeypatch.setattr(BlockFile, "writer", write)
    with pytest.raises(OutOfSpace):
        prepared(recipe(text), tokenizer_dir, tmp_path)
    assert list((tmp_path / "blocks").iterdir()) == []


def test_sides_share_no_document_even_when_one_borrows(tokenizer_dir, tmp_path):
    """Validation is asked for far more than its share."""
    source = write_documents(tmp_path / "text", documents=150, lines=1)
    blocks = prepared(
        recipe(source, validation_tokens=50 * T), tokenizer_dir, tmp_path, calibration=10, training=30
    )

    sides = [
        documents_of(array) for array in (blocks.validation_NT, blocks.calibration_NT, blocks.training_NT)
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
            "calibration: found .* tokens, needed 1600000; lower calibration.num_tokens",
        ),
        ({"training": 10**5}, "training: found .* tokens, needed 1600000; lower training.num_tokens"),
    ],
    ids=["validation", "calibration", "training"],
)
def test_too_little_text_names_the_side_and_the_field(text, tokenizer_dir, tmp_path, sizes, message):
    fields = {name: sizes.pop(name) for name in ("validation_tokens",) if name in sizes}
    with pytest.raises(DatasetTooSmall, match=message):
        prepared(recipe(text, **fields), tokenizer_dir, tmp_path, **sizes)


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
