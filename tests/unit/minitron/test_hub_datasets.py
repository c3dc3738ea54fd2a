"""Datasets of a hub over a real socket: which are read, how much of them, and what is told of the others."""

import io
import json
import os
import subprocess
import sys
import traceback

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from minitron.data import prepare_blocks
from minitron.errors import HubError, RefusedByHub, UnreachableHub, UnreadableData
from minitron.reading import read_documents
from minitron.recipe import DataRecipe, DataSource
from minitron.sources import content_digest, pinned
from tests.checkpoints import sentences, word_tokenizer
from tests.hub import FakeHub, asked_here, serving

TOKEN = "hf_canaryCANARYcanary"
T = 16
CARD = b"""---
configs:
- config_name: en
  data_files:
  - {split: train, path: en/*.parquet}
  - {split: test, path: en/test/*.parquet}
- config_name: fr
  data_files:
  - {split: train, path: fr/*.parquet}
---
# Two languages
"""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from datasets import config

    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path):
        monkeypatch.setattr(config, "HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            config, "HUB_DATASETS_URL", hub.endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}"
        )
        monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(config, "STREAMING_READ_MAX_RETRIES", 1)
        monkeypatch.setattr(config, "STREAMING_READ_RETRY_INTERVAL", 0)
        monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "datasets")
        monkeypatch.setattr(config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
        yield hub


def texts(prefix, number, lines=1):
    return [f"{prefix}{n} {sentences(lines, seed=n)}" for n in range(number)]


def json_lines(found, column="text"):
    return "".join(json.dumps({"id": n, column: text}) + "\n" for n, text in enumerate(found)).encode()


def parquet_file(found, **columns):
    file = io.BytesIO()
    parquet.write_table(pa.table({"text": found, **columns}), file, row_group_size=1_000)
    return file.getvalue()


@pytest.fixture
def languages(hub):
    """A dataset of two configs, one with two splits; its name."""
    hub.add(
        "org/languages",
        {
            "README.md": CARD,
            "en/0.parquet": parquet_file(texts("a", 30)),
            "en/1.parquet": parquet_file(texts("b", 30)),
            "en/test/0.parquet": parquet_file(texts("t", 10)),
            "fr/0.parquet": parquet_file(texts("f", 20), id=range(20)),
        },
        kind="dataset",
    )
    return "hub:org/languages"


def read(name, *, seed=0, text_field="text", **fields):
    recipe = pinned(DataRecipe(source=DataSource(source=name, text_field=text_field, **fields)))
    return read_documents("data.source", recipe.sources["data.source"], seed=seed)


def read_texts(name, **fields):
    return [document.text for document in read(name, **fields)]


def test_a_config_and_a_split_are_read(languages):
    assert sorted(read_texts(languages, config="en")) == sorted([*texts("a", 30), *texts("b", 30)])
    assert read_texts(languages, config="en", split="test") == texts("t", 10)
    assert read_texts(languages, config="fr") == texts("f", 20)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".txt", ".jsonl.gz"])
def test_files_without_a_card_are_read_by_what_they_are(hub, suffix):
    import gzip

    found = [text.strip() for text in texts("a", 20)]
    content = {
        ".jsonl": json_lines(found),
        ".csv": "\n".join(["text", *found]).encode(),
        ".txt": "\n".join(found).encode(),
        ".jsonl.gz": gzip.compress(json_lines(found)),
    }[suffix]
    hub.add("org/plain", {f"data/train{suffix}": content}, kind="dataset")
    assert read_texts("hub:org/plain") == found


def test_the_seed_draws_the_order_of_files_and_keeps_that_of_rows(hub):
    files = {f"data/train-{name}.jsonl": json_lines([f"{name}{n}" for n in range(3)]) for name in "abcdefgh"}
    hub.add("org/files", files, kind="dataset")
    orders = [read_texts("hub:org/files", seed=seed) for seed in (0, 0, -1)]
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert sorted(order[::3]) == [f"{name}0" for name in "abcdefgh"]
        assert [text[1] for text in order] == ["0", "1", "2"] * 8


def test_chats_are_read(hub):
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    hub.add("org/chats", {"train.parquet": parquet_file(["x"] * 3, messages=[chat] * 3)}, kind="dataset")
    (first, *_) = read("hub:org/chats", text_field="messages")
    assert first.is_chat
    assert json.loads(first.text) == chat


def test_little_of_a_large_dataset_is_fetched(hub, monkeypatch):
    """Of many files few are opened; of the columns and row groups of one a part is fetched."""
    number = 3_000
    noise = [os.urandom(4_000).hex() for _ in range(number)]
    file = parquet_file([f"{n} {os.urandom(200).hex()}" for n in range(number)], image=noise)
    hub.add("org/large", {f"data/train-{n:04}.parquet": file for n in range(3)}, kind="dataset")
    fetched = []
    count_fetched(monkeypatch, fetched)
    documents = read("hub:org/large")
    assert next(documents).text
    documents.close()
    assert len({path for path, _ in fetched}) == 1
    assert sum(size for _, size in fetched) < len(file) / 3


def count_fetched(monkeypatch, fetched):
    from tests import hub as module

    send = module._Handler._content

    def counted(self, path, content, headers):
        asked = self.headers.get("Range")
        first, last = asked.removeprefix("bytes=").split("-") if asked else (0, len(content) - 1)
        if self.command == "GET":
            fetched.append((path, min(int(last), len(content) - 1) - int(first) + 1))
        send(self, path, content, headers)

    monkeypatch.setattr(module._Handler, "_content", counted)


def test_a_dataset_is_pinned_once_and_its_blocks_are_found_without_the_hub(hub, tmp_path):
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    commit = hub.add("org/text", {"train.jsonl": json_lines(texts("a", 400))}, kind="dataset")
    recipe = DataRecipe(source="hub:org/text", sequence_length=T, validation_tokens=4 * T)
    fixed = pinned(recipe)
    assert fixed.source == f"hub:org/text@{commit}"

    def blocks(data):
        return prepare_blocks(
            data, tmp_path / "tokenizer", calibration_blocks=4, training_blocks=20, root=tmp_path / "root"
        )

    first = blocks(recipe)
    later = hub.add("org/text", {"train.jsonl": json_lines(texts("b", 400))}, kind="dataset")
    hub.is_down = True
    assert pinned(fixed) == fixed
    assert blocks(fixed).fingerprint == first.fingerprint
    hub.is_down = False
    second = blocks(recipe)
    assert second.fingerprint != first.fingerprint
    meta = json.loads((tmp_path / "root" / "blocks" / second.fingerprint / "blocks.json").read_text())
    assert [each["source"] for each in meta["sources"]] == [f"hub:org/text@{later}"]
    # What was made from the first commit can be made again.
    again = prepare_blocks(
        fixed, tmp_path / "tokenizer", calibration_blocks=4, training_blocks=20, root=tmp_path / "other"
    )
    assert np.array_equal(again.training_NT, first.training_NT)


def test_a_blend_of_hub_and_local_text_with_a_validation_source_of_the_hub(languages, tmp_path):
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "local.jsonl").write_bytes(json_lines(texts("l", 200)))
    english = DataSource(source=languages, config="en")
    recipe = DataRecipe(
        source=(english, DataSource(source=str(tmp_path / "local.jsonl"))),
        validation=DataSource(source=languages, config="fr"),
        sequence_length=T,
        validation_tokens=4 * T,
    )
    blocks = prepare_blocks(
        recipe, tmp_path / "tokenizer", calibration_blocks=2, training_blocks=20, root=tmp_path / "root"
    )
    assert [len(side) for side in (blocks.validation_NT, blocks.calibration_NT, blocks.training_NT)] == [
        4,
        2,
        20,
    ]


def test_a_key_holds_commit_config_and_split():
    name = f"hub:a/b@{'0' * 40}"
    sources = [
        DataSource(source=name),
        DataSource(source=f"hub:a/b@{'1' * 40}"),
        DataSource(source=f"hub:a/c@{'0' * 40}"),
        DataSource(source=name, config="en"),
        DataSource(source=name, split="test"),
    ]
    assert len({content_digest("data.source", source) for source in sources}) == len(sources)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"config": "de"}, r"data\.source\.config: found 'de', allowed for hub:org/languages@\w+: en, fr"),
        ({}, r"data\.source\.config: found None, allowed for hub:org/languages@\w+: en, fr"),
        ({"config": "en", "split": "dev"}, r"data\.source\.split: found 'dev', allowed for .*: train, test"),
        ({"config": "fr", "split": "test"}, r"data\.source\.split: found 'test', allowed for .*: train"),
        (
            {"config": "fr", "text_field": "body"},
            r"data\.source: hub:org/languages@\w+: fr/0\.parquet: text_field: found 'body', allowed: one of its columns: text, id",
        ),
        (
            {"config": "fr", "text_field": "id"},
            r"data\.source: hub:org/languages@\w+: fr/0\.parquet: row 1: id: found 0, allowed: text, or messages",
        ),
    ],
)
def test_what_a_dataset_does_not_have_is_told_with_what_it_has(languages, fields, message):
    with pytest.raises(UnreadableData, match=f"^{message}"):
        read_texts(languages, **fields)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": b"# empty"}, "cannot be read: "),
        ({"a.py": b"import datasets"}, "cannot be read: "),
        ({"train.jsonl": b'{"text": "a"}\n{"text": '}, "cannot be read: "),
        ({"train.jsonl": b"\xff\xfe"}, "cannot be read: "),
        ({"train.parquet": b"PAR1 and no more"}, "cannot be read: "),
        ({"train.jsonl": b""}, "(cannot be read: |holds no text)"),
        ({"train.jsonl": b'{"text": " "}'}, "holds no text"),
    ],
    ids=["nothing", "script", "half-a-row", "no-utf8", "no-parquet", "empty", "blank"],
)
def test_a_dataset_that_cannot_be_read_is_named(hub, files, message):
    hub.add("org/bad", files, kind="dataset")
    with pytest.raises(UnreadableData, match=rf"^data\.source: hub:org/bad@\w+: {message}") as error:
        read_texts("hub:org/bad")
    assert "\n" not in str(error.value)


def test_a_dataset_that_is_not_there_is_told_before_anything_is_read(hub):
    hub.add("org/text", {"train.jsonl": json_lines(["a"])}, kind="dataset")
    for name, message in (
        ("hub:org/none", "hub:org/none: http.* has no such repository"),
        ("hub:org/text@v9", "hub:org/text@v9: no such revision of org/text: 'v9'"),
    ):
        with pytest.raises(RefusedByHub, match=rf"^data\.source: {message}"):
            pinned(DataRecipe(source=name))
        with pytest.raises(RefusedByHub, match=rf"^data\.source\.1: {message}"):
            pinned(DataRecipe(source=(DataSource(source="builtin:python-docs"), DataSource(source=name))))


def test_a_hub_that_does_not_answer_is_told(hub):
    hub.is_down = True
    with pytest.raises(UnreachableHub, match=r"^data\.validation: hub:org/text: http.* answered 503"):
        pinned(DataRecipe(validation="hub:org/text"))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_hub_that_goes_away_in_the_middle_is_told(hub, monkeypatch, suffix):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    write = {"jsonl": json_lines, "parquet": parquet_file}[suffix]
    files = {f"train-{n}.{suffix}": write(texts("a", 50)) for n in range(3)}
    hub.add("org/text", files, kind="dataset")
    documents = read("hub:org/text")
    assert next(documents).text
    hub.is_down = True
    with pytest.raises(UnreachableHub, match=r"^data\.source: hub:org/text@\w+: "):
        list(documents)


def test_a_missing_column_of_other_formats_is_told(hub):
    for suffix, content in (("jsonl", json_lines(["a"])), ("csv", b"id,text\n1,a\n")):
        hub.add(f"org/{suffix}", {f"train.{suffix}": content}, kind="dataset")
        with pytest.raises(
            UnreadableData, match=r"text_field: found 'body', allowed: one of its columns: id, text"
        ):
            read_texts(f"hub:org/{suffix}", text_field="body")


def test_a_gated_or_private_dataset_needs_a_token_that_is_never_shown(hub, monkeypatch):
    hub.add("org/gated", {"train.jsonl": json_lines(["a"])}, kind="dataset")
    hub.add("org/private", {"train.jsonl": json_lines(["a"])}, kind="dataset")
    hub.datasets["org/gated"].admitted = {TOKEN}
    hub.datasets["org/private"].readers = {TOKEN}
    for token in (None, "hf_another"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        for name in ("org/gated", "org/private"):
            with pytest.raises(RefusedByHub, match=rf"^data\.source: hub:{name}") as error:
                pinned(DataRecipe(source=f"hub:{name}"))
            assert "hf_another" not in "".join(traceback.format_exception(error.value))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert read_texts("hub:org/gated") == read_texts("hub:org/private") == ["a"]


def test_an_access_that_was_lost_since_the_submission_is_told(hub, monkeypatch):
    hub.add("org/gated", {"train.jsonl": json_lines(["a"])}, kind="dataset")
    documents = read("hub:org/gated")
    hub.datasets["org/gated"].admitted = {TOKEN}
    with pytest.raises(RefusedByHub, match=r"^data\.source: hub:org/gated@\w+: is gated: set HF_TOKEN"):
        list(documents)


def test_a_token_stays_out_of_what_is_kept(hub, monkeypatch, tmp_path):
    hub.add("org/private", {"train.jsonl": json_lines(texts("a", 200))}, kind="dataset")
    hub.datasets["org/private"].readers = {TOKEN}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    recipe = DataRecipe(source="hub:org/private", sequence_length=T, validation_tokens=2 * T)
    prepare_blocks(
        recipe, tmp_path / "tokenizer", calibration_blocks=1, training_blocks=1, root=tmp_path / "root"
    )
    for path in (tmp_path / "root").rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()


def test_offline_is_told_by_name(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"^data\.source: hub:org/text: HF_HUB_OFFLINE is set"):
        pinned(DataRecipe(source="hub:org/text"))


def test_a_process_of_its_own_needs_only_the_environment(languages, hub, tmp_path):
    """As a worker: nothing is set but what a user sets, and no file is left open."""
    program = (
        "import warnings; warnings.simplefilter('error')\n"
        "from minitron.recipe import DataRecipe, DataSource\n"
        "from minitron.reading import read_documents\n"
        "from minitron.sources import pinned\n"
        f"recipe = pinned(DataRecipe(source=DataSource(source={languages!r}, config='en')))\n"
        "documents = read_documents('data.source', recipe.sources['data.source'], seed=0)\n"
        "print(next(documents).text)\n"
        "documents.close()\n"
    )
    environment = os.environ | hub.environment() | {"HF_HOME": str(tmp_path / "home")}
    child = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert child.stderr == ""
    assert child.stdout.strip() in {text.strip() for text in [*texts("a", 30), *texts("b", 30)]}
