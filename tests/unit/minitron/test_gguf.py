"""Parents that come as GGUF files: read in front for planning, unpacked once, refused by name."""

import io
import json
import os
import re
import struct
from dataclasses import replace

import pytest
import torch
from gguf import GGMLQuantizationType

from minitron import gguf_header
from minitron.builtin import materialize
from minitron.checkpoint import load_parent, load_tokenizer
from minitron.errors import RefusedByHub, UnreadableCheckpoint, UnsupportedModel
from minitron.families import checked_architecture
from minitron.gguf_header import Length, read_header, read_header_of
from minitron.parents import check_parent, parent_architecture
from tests.gguf_files import TOKENS, reader_of, write_gguf
from tests.hub import FakeHub, asked_here, serving


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf"
    return path, write_gguf(path)


@pytest.fixture
def file(written):
    return written[0]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path / "home"):
        yield hub


def test_the_header_is_what_the_reference_reads(file):
    header, reference = read_header_of(file), reader_of(file)
    assert header.tensors == {tensor.name for tensor in reference.tensors}
    read = {
        name: value.contents() for name, value in reference.fields.items() if not name.startswith("GGUF.")
    }
    assert header.fields == {
        name: len(value) if isinstance(value, list) else value for name, value in read.items()
    }


def test_a_stream_is_read_no_further_than_the_header(file):
    content = file.read_bytes()
    stream = io.BytesIO(content)
    assert read_header(stream, "x") == read_header_of(file)
    assert stream.tell() <= reader_of(file).data_offset


def test_every_cut_in_the_header_is_told(file):
    end = reader_of(file).data_offset
    content = file.read_bytes()[:end].rstrip(b"\0")
    for length in range(0, len(content) - 32, 97):
        with pytest.raises(UnreadableCheckpoint, match=r"^x: cannot be read as GGUF: "):
            read_header(io.BytesIO(content[:length]), "x")


def test_another_version_is_told():
    with pytest.raises(UnreadableCheckpoint, match="found version 9, allowed: 2 or 3"):
        read_header(io.BytesIO(b"GGUF\x09" + bytes(40)), "x")


class Endless(io.RawIOBase):
    """The begin of a file, then the same field again and again, as a hub could send it."""

    def __init__(self, begin, field):
        self._rest, self._field = begin, field
        self.num_read = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        self._rest = self._rest or self._field
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        self.num_read += count
        return count


def begin_of(*, num_fields=1, num_tensors=0):
    return b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_fields)


def sized(content):
    return struct.pack("<Q", len(content)) + content


TEXTS = sized(b"key") + struct.pack("<I", 8) + sized(bytes(5_000))
NUMBERS = sized(b"key") + struct.pack("<IIQ", 9, 0, 5_000) + bytes(5_000)


@pytest.mark.parametrize("field", [TEXTS, NUMBERS], ids=["texts", "arrays"])
def test_an_endless_header_is_read_no_further_than_its_limit(monkeypatch, field):
    monkeypatch.setattr(gguf_header, "MAX_BYTES", 100_000)
    stream = Endless(begin_of(num_fields=1_000), field)
    with pytest.raises(UnreadableCheckpoint, match="found a header of more than 100,000 bytes"):
        read_header(io.BufferedReader(stream, 1_000), "x")
    assert stream.num_read <= 101_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (begin_of() + b"\xff" * 8, "found a header of more than"),
        (begin_of() + sized(b"key") + struct.pack("<IIQ", 9, 0, 2**40), "found a header of more than"),
        (begin_of() + sized(b"key") + struct.pack("<IIQ", 9, 8, 2**40), "found arrays of more than"),
        (begin_of(num_fields=2**40), "found 1099511627776 fields and 0 tensors, allowed: 65,536"),
        (begin_of(num_tensors=2**40), "found 1 fields and 1099511627776 tensors, allowed: 65,536"),
    ],
    ids=["text", "array", "texts", "fields", "tensors"],
)
def test_a_length_that_no_file_has_reads_nothing(content, message):
    stream = Endless(content, b"\0")
    with pytest.raises(UnreadableCheckpoint, match=f"^x: cannot be read as GGUF: {message}"):
        read_header(io.BufferedReader(stream, 100), "x")
    assert stream.num_read <= len(content) + 100


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (struct.pack("<I", 77), "found a value of type 77, allowed: 0 to 12"),
        (struct.pack("<IIQ", 9, 77, 1), "found a value of type 77, allowed: 0 to 12"),
        (struct.pack("<IIQ", 9, 9, 1) * 100_000, "found an array of arrays, allowed: of numbers or texts"),
    ],
    ids=["value", "items", "nested"],
)
def test_a_value_of_another_kind_is_named(value, message):
    with pytest.raises(UnreadableCheckpoint, match=f"^x: cannot be read as GGUF: {message}$"):
        read_header(io.BytesIO(begin_of() + sized(b"key") + value), "x")


@pytest.mark.parametrize(
    "key", ["split.count", "llama.expert_count", "llama.embedding_length", "llama.block_count"]
)
@pytest.mark.parametrize("found", ["two", [2, 2], 2.5])
def test_a_number_that_is_none_is_named(file, key, found):
    """Of layers that differ a writer gives an array: its length is no size."""
    header = read_header_of(file)
    value = Length(len(found)) if isinstance(found, list) else found
    with pytest.raises(UnsupportedModel, match=r"found .*, allowed: "):
        checked_architecture(replace(header, fields=header.fields | {key: value}).config, "x")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.gguf")
    with pytest.raises(UnreadableCheckpoint, match="cannot be read: it is no ordinary file"):
        check_parent(str(tmp_path / "x.gguf"))


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_1], ids=str)
def test_a_file_is_unpacked_to_the_weights_that_it_holds(tmp_path, kind):
    path = tmp_path / "tiny.gguf"
    held = write_gguf(path, kind=kind)
    told = []
    directory = materialize(str(path), tmp_path / "root", told.append)
    assert parent_architecture(str(directory)) == check_parent(str(path))
    assert "quantization_config" not in json.loads((directory / "config.json").read_text())
    weights = load_parent(directory).state_dict()
    for name, expected in held.items():
        torch.testing.assert_close(weights[name], torch.from_numpy(expected), rtol=0, atol=1e-6)
    assert materialize(str(path), tmp_path / "root", told.append) == directory
    assert told[-1].is_cached
    assert [each.name for each in directory.parent.iterdir() if each.is_dir()] == [directory.name]


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [("gpt-2", ["a", "Ġ", "12"]), ("smollm", ["a", "Ġ", "1", "2"]), ("qwen2", ["a", "Ġ", "1", "2"])],
)
def test_text_is_cut_by_the_rule_that_the_file_names(tmp_path, pre, pieces):
    write_gguf(tmp_path / "tiny.gguf", pre=pre)
    directory = materialize(str(tmp_path / "tiny.gguf"), tmp_path / "root")
    tokenizer = load_tokenizer(directory)
    assert tokenizer.tokenize("a 12") == pieces
    assert len(tokenizer) == len(TOKENS), "none that the model has no embedding for"
    assert tokenizer("<|end|>")["input_ids"] == [0]
    assert "local_files_only" not in (directory / "tokenizer_config.json").read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split__count": 2}, "split.count: found one file of several"),
        ({"llama__expert_count": 8}, "llama.expert_count: found a mixture of experts"),
        ({"llama__rope__scaling__type": "yarn"}, "rope.scaling: found scaled RoPE"),
        ({"llama__block_count": None}, "num_hidden_layers: missing"),
    ],
)
def test_what_would_be_left_out_is_refused_when_it_is_planned(tmp_path, fields, message):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, **fields)
    with pytest.raises(UnsupportedModel, match=rf"^{path}: {message}"):
        check_parent(str(path))
    with pytest.raises(UnsupportedModel, match=rf"^{path}: {message}"):
        materialize(str(path), tmp_path / "root")


def test_a_family_or_a_tokenizer_that_is_unknown_is_named(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes().replace(b"llama", b"falco"))
    with pytest.raises(UnsupportedModel, match=r"general\.architecture: found 'falco', allowed: llama, "):
        check_parent(str(path))
    write_gguf(path, pre="martian")
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.ggml\.pre: found 'martian', allowed: default, "):
        materialize(str(path), tmp_path / "root")


def test_a_file_that_is_none_or_is_cut_short_is_named(file, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(UnreadableCheckpoint, match=rf"^{cut}: cannot be read as GGUF: "):
        materialize(str(cut), tmp_path / "root")
    assert not [each for each in (tmp_path / "root" / "parents").iterdir() if each.is_dir()]
    with pytest.raises(UnreadableCheckpoint, match=r"none\.gguf: cannot be read: No such file"):
        check_parent(str(tmp_path / "none.gguf"))
    cut.write_bytes(b"<html>")
    with pytest.raises(UnreadableCheckpoint, match="it does not begin with GGUF"):
        check_parent(str(cut))


def test_a_file_on_the_hub_is_planned_from_its_header_and_fetched_once(hub, file, tmp_path):
    padded = {"sub/tiny.Q8_0.gguf": file.read_bytes(), "other.gguf": b"", "model.safetensors": b""}
    commit = hub.add("org/tiny", padded)
    name = "hub:org/tiny#sub/tiny.Q8_0.gguf"
    assert check_parent(name) == check_parent(str(file))
    directory = materialize(name, tmp_path)
    assert re.fullmatch(rf"org--tiny--{commit}--\w{{16}}--tiny\.Q8_0\.gguf--v1", directory.name)
    assert [each.name for each in directory.parent.iterdir() if each.is_dir()] == [directory.name]
    load_parent(directory)
    hub.is_down = True
    assert materialize(f"hub:org/tiny@{commit}#sub/tiny.Q8_0.gguf", tmp_path) == directory


def test_a_file_on_the_hub_that_is_damaged_leaves_nothing(hub, file, tmp_path):
    hub.add("org/tiny", {"cut.gguf": file.read_bytes()[:-5000]})
    with pytest.raises(UnreadableCheckpoint, match=r"cut\.gguf: cannot be read as GGUF"):
        materialize("hub:org/tiny#cut.gguf", tmp_path)
    assert not [each for each in (tmp_path / "parents").iterdir() if each.is_dir()]
    with pytest.raises(RefusedByHub, match=r"holds no such file, allowed: cut\.gguf"):
        check_parent("hub:org/tiny#none.gguf")
    with pytest.raises(UnreadableCheckpoint, match=r"found 'cut\.bin', allowed after #: a \.gguf file"):
        check_parent("hub:org/tiny#cut.bin")
