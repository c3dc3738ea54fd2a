"""A process that asks only some hosts for what is on the hub, where the hub redirects to another."""

import io
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minitron.errors import RefusedByHub, UnreadableData
from minitron.hub import HubName, confine, look_up, reading
from minitron.hub_files import fetch_files
from minitron.hub_splits import hub_files_only
from minitron.reading import read_documents
from minitron.recipe import DataRecipe, DataSource
from minitron.sources import pinned
from tests.hub import FakeHub, asked_here, serving

LARGE = "model.safetensors"
"""Its content comes from another host than the hub's: localhost, where that is 127.0.0.1."""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path):
        hub.add("org/model", {"config.json": b"{}", LARGE: b"x" * 100})
        yield hub
        set_client_factory(default_client_factory)


def fetched(tmp_path):
    found = look_up(HubName.parse("hub:org/model"))
    return fetch_files(found, ["config.json", LARGE], tmp_path / "fetched")


def test_hosts_that_are_allowed_are_asked(hub, tmp_path):
    confine(["127.0.0.1", "localhost"])
    assert (fetched(tmp_path) / LARGE).read_bytes() == b"x" * 100


def test_a_redirect_elsewhere_is_not_followed(hub, tmp_path):
    confine(["127.0.0.1"])
    with pytest.raises(RefusedByHub, match=r"hub: found localhost.*allowed: 127.0.0.1 \(NAS_HUB_HOSTS\)"):
        fetched(tmp_path)
    found = look_up(HubName.parse("hub:org/model"))
    with pytest.raises(RefusedByHub, match="found localhost"), reading(found, LARGE) as content:
        content.read()
    assert {request.host.partition(":")[0] for request in hub.requests} == {"127.0.0.1"}
    assert not (tmp_path / "fetched").exists()


def test_a_hub_that_is_not_allowed_is_not_asked(hub):
    confine(["huggingface.co"])
    with pytest.raises(RefusedByHub, match=r"found 127\.0\.0\.1"):
        look_up(HubName.parse("hub:org/model"))
    assert hub.requests == []


@dataclass
class Elsewhere:
    """A server that is no hub, which answers whatever it is asked by leading on to itself."""

    address: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def elsewhere():
    found = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found.asked.append(self.path)
            content = b'{"text": "the secret of another machine"}\n' * 10
            self.send_response(302 if ".." in self.path else 200)
            self.send_header("Location", f"{found.address}/secret.txt")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_):
            """Say nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    found.address = f"http://127.0.0.2:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def datasets_hub(hub, monkeypatch, tmp_path):
    from datasets import config

    monkeypatch.setattr(config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    confine(["127.0.0.1"])
    return hub


def read_first(name, **fields):
    recipe = pinned(DataRecipe(source=DataSource(source=f"hub:{name}", text_field="text", **fields)))
    [(field_name, source)] = recipe.all_sources.items()
    return next(read_documents(field_name, source, seed=0)).text


WORDS = {
    "a.jsonl": b'{"text": "words"}\n' * 10,
    "a.csv": b"text\nwords\n",
    "a.txt": b"words\n" * 100,
    "sub/a.txt": b"words\n",
}


@pytest.mark.parametrize(
    "config",
    [
        "data_files: {elsewhere}/secret.jsonl",
        "data_files: {elsewhere}/../../hf:/datasets/org/sly@x/a.jsonl",
        "data_files: {elsewhere}/../../hf:/datasets/org/sly@x/a.csv",
        "data_files: {elsewhere}/../../hf:/datasets/org/sly@x/a.txt",
        "data_files: {here}/secret.txt",
        "data_files: {here}/absent.txt",
        "data_files: {here}/*",
        "data_files: ['a.txt', 'file://{here}/secret.txt']",
        "data_files: 'sub/a.txt::{elsewhere}/a.zip'",
        "data_files: 'zip://*::{elsewhere}/a.zip'",
        "data_files: 'sub/../../../../{here}/secret.txt'",
        "data_files: 'sub\\..\\a.txt'",
        "data_files: ['~/secret.txt']",
        "data_files: 'hf://datasets/org/other/a.txt'",
        "data_dir: {elsewhere}",
        "data_dir: {here}",
        "data_dir: ../..",
        "{{data_dir: sub, data_files: ../a.txt}}",
    ],
)
def test_a_dataset_names_only_files_of_its_own(datasets_hub, elsewhere, tmp_path, config):
    """Its card is its author's, who has no business with what the worker can read or reach."""
    (tmp_path / "secret.txt").write_text("the secret of this machine\n" * 100)
    config = config.format(elsewhere=elsewhere.address, here=tmp_path)
    config = config if config.startswith("{") else f"{{{config}}}"
    card = f"---\nconfigs:\n- {{config_name: default, {config[1:]}\n---\n"
    datasets_hub.add("org/sly", {"README.md": card.encode(), **WORDS}, kind="dataset")
    with pytest.raises(
        UnreadableData, match=r"org/sly@\w+: cannot be read: its card names .*, allowed: files of the"
    ):
        read_first("org/sly")
    assert elsewhere.asked == []


def test_a_file_whose_name_reads_as_a_chain_is_not_opened(datasets_hub, elsewhere):
    files = {f"a.txt::{elsewhere.address.replace('//', '/')}/b.txt": b"words\n"}
    datasets_hub.add("org/sly", files, kind="dataset")
    with pytest.raises(UnreadableData, match="allowed: files of the dataset itself, without '::'"):
        read_first("org/sly")
    assert elsewhere.asked == []


def test_what_a_card_says_of_the_dataset_itself_is_done(datasets_hub):
    card = (
        "---\nconfigs:\n"
        '- {config_name: tabs, default: true, data_dir: sub, data_files: "*.csv", sep: "\\t"}\n'
        "- {config_name: whole, data_files: sub/a.txt, sample_by: document}\n---\n"
    )
    files = {
        "README.md": card.encode(),
        **WORDS,
        "sub/a.txt": b"words\nmore words\n",
        "sub/b.csv": b"n\ttext\n1\tfew, words\n",
    }
    datasets_hub.add("org/plain", files, kind="dataset")
    assert read_first("org/plain") == "few, words"
    assert read_first("org/plain", config="whole") == "words\nmore words\n"


def test_cells_that_are_called_pictures_open_nothing(datasets_hub, elsewhere):
    """As a picture is the address that is to be opened when a row is read."""
    import pyarrow as pa
    from datasets import Features, Image

    schema = Features({"text": Image()}).arrow_schema
    row = {"text": {"bytes": None, "path": f"{elsewhere.address}/secret.png"}}
    file = io.BytesIO()
    with pa.ipc.new_stream(file, schema) as writer:
        writer.write_table(pa.Table.from_pylist([row], schema))
    datasets_hub.add("org/sly", {"train.arrow": file.getvalue()}, kind="dataset")
    with pytest.raises(UnreadableData, match=r"row 1: text: found .*allowed: text, or messages"):
        read_first("org/sly")
    assert elsewhere.asked == []


def test_while_a_dataset_is_read_no_other_address_can_be_opened(elsewhere):
    import fsspec

    def opened():
        with fsspec.open(f"{elsewhere.address}/secret.txt") as file:
            return file.read()

    one, another = hub_files_only(), hub_files_only()
    one.__enter__()
    another.__enter__()
    for end in (one, another):
        with pytest.raises(PermissionError, match="leads out of the hub"):
            opened()
        assert elsewhere.asked == []
        end.__exit__(None, None, None)
    assert b"secret" in opened()
