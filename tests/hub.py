"""A Hugging Face hub in this process, over a real socket: as much of its HTTP interface as
``huggingface_hub`` uses to look up, download and push.

It answers as the real one was seen to: who may read nothing of a repository is told that there is none,
a gated one shows its list of files but not their content, large files come from another origin that
must never see a token. It lacks Xet, which is why uploads go through LFS here.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE_SUFFIXES = (".safetensors", ".gguf", ".bin", ".parquet")
"""Files that the hub keeps in its large file storage."""
SIGNATURE = "X-Amz-Signature=canary0CANARY"
"""In the addresses that storage gives out: whoever has one can read the file."""


@dataclass
class Repository:
    """What one repository holds: the files of each commit, and where its branches and tags point."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    readers: set[str] | None = None
    """Tokens that may see a private repository; None is public."""
    admitted: set[str] | None = None
    """Tokens that may read the content of a gated repository; None is not gated."""

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Point a branch at exactly these files, and return the commit."""
        content = repr((len(self.commits), branch, sorted(files.items()))).encode()
        sha = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[branch] = sha
        return sha

    def sha_of(self, revision: str) -> str | None:
        """The commit that a revision means."""
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Request:
    """One that was made."""

    method: str
    path: str
    host: str
    token: str | None


class FakeHub:
    """The hub's state; change it while it serves."""

    def __init__(self) -> None:
        self.models: dict[str, Repository] = {}
        self.datasets: dict[str, Repository] = {}
        self.writers: set[str] = set()
        """Tokens that may create repositories and write to them."""
        self.requests: list[Request] = []
        self.storage: dict[str, bytes] = {}
        """Large files, by SHA-256."""
        self.paths: dict[str, str] = {}
        """What each of them is called where it was last asked for."""
        self.sent: list[str] = []
        """Paths of the files whose content was sent."""
        self.is_down = False
        self.refuses_storage = False
        self.breaks_after: int | None = None
        """Files whose content is sent before the connection breaks; None never breaks it."""
        self.size_error = 0
        """How far the size that is told of a large file is off."""
        self.held: str | None = None
        """A file of which only the first half is sent, until ``let_go``."""
        self.let_go = threading.Event()
        self.endpoint = ""

    def add(self, name: str, source: Path | dict[str, bytes], *, kind: str = "model") -> str:
        """Put the files of a directory, or these, on the main branch of a repository; return the commit."""
        files = (
            {
                path.relative_to(source).as_posix(): path.read_bytes()
                for path in source.rglob("*")
                if path.is_file()
            }
            if isinstance(source, Path)
            else source
        )
        repositories = self.datasets if kind == "dataset" else self.models
        return repositories.setdefault(name, Repository()).commit(files)

    def environment(self, token: str | None = None) -> dict[str, str]:
        """Variables with which a child process asks this hub; HF_HOME is the caller's to set."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": token or "",
        }


@contextmanager
def serving(hub: FakeHub):
    """Serve while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def asked_here(hub: FakeHub, monkeypatch, home: Path):
    """Let ``huggingface_hub`` in this process ask ``hub``; what it read at import is set anew."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    try:
        yield hub
    finally:
        close_session()


class _Refused(Exception):
    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_):
        """Say nothing on stderr."""

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        host = self.headers["Host"].partition(":")[0]
        authorization = self.headers.get("Authorization")
        self.token = authorization.removeprefix("Bearer ") if authorization else None
        self.hub.requests.append(Request(self.command, path, host, self.token))
        self.body = self._body()
        try:
            self._route(path)
        except _Refused as refused:
            headers = {"X-Error-Message": refused.message}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self._send(refused.status, json.dumps({"error": refused.message}).encode(), headers)

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _route(self, path):
        if self.hub.is_down:
            raise _Refused(503, None, "down")
        for method, pattern, handle in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in (self.command, {"HEAD": "GET"}.get(self.command)):
                return handle(self, **match.groupdict())
        raise _Refused(404, None, "Not found")

    def _send(self, status, content=b"", headers=None, *, length=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value, status=200):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _repository(self, kind, name):
        repositories = self.hub.datasets if kind.rstrip("s/") == "dataset" else self.hub.models
        repository = repositories.get(name)
        if repository is None or (repository.readers is not None and self.token not in repository.readers):
            status = 404 if self.token else 401
            raise _Refused(status, "RepoNotFound", "Repository not found")
        return repository

    def _commit(self, repository, revision):
        sha = repository.sha_of(revision)
        if sha is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _writable(self, kind, name):
        if self.token not in self.hub.writers:
            raise _Refused(403 if self.token else 401, None, "You don't have the rights")
        return self._repository(kind, name)

    def info(self, kind, name, revision="main"):
        repository = self._repository(kind, name)
        sha = self._commit(repository, revision)
        files = repository.commits[sha]
        self._json(
            {
                "id": name,
                "sha": sha,
                "private": repository.readers is not None,
                "gated": "manual" if repository.admitted is not None else False,
                "siblings": [
                    {"rfilename": path, "size": len(content), "blobId": "0" * 40, **_large(path, content)}
                    for path, content in files.items()
                ],
            }
        )

    def auth_check(self, kind, name):
        self._admitted(self._repository(kind, name))
        self._json({})

    def _admitted(self, repository):
        if repository.admitted is not None and self.token not in repository.admitted:
            raise _Refused(403 if self.token else 401, "GatedRepo", "Access to this repository is restricted")

    def resolve(self, name, revision, path, kind="model"):
        repository = self._repository(kind or "model", name)
        self._admitted(repository)
        sha = self._commit(repository, revision)
        content = repository.commits[sha].get(path)
        if content is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(content).hexdigest()[:40]}"'}
        if not _large(path, content):
            return self._content(path, content, headers)
        oid = hashlib.sha256(content).hexdigest()
        self.hub.storage[oid] = content
        self.hub.paths[oid] = path
        port = urlsplit(self.hub.endpoint).port
        headers |= {
            "X-Linked-Size": str(len(content) + self.hub.size_error), "X-Linked-ETag": f'"{oid}"',
            "Location": f"http://localhost:{port}/storage/{oid}?{SIGNATURE}",
        }  # fmt: skip
        return self._send(302, b"", headers)

    def stored(self, oid):
        if self.token is not None:
            raise _Refused(400, None, "the storage was shown a token")
        self._content(self.hub.paths.get(oid, oid), self.hub.storage[oid], {})

    def _content(self, path, content, headers):
        """Send content, or the part of it that was asked for."""
        if self.command == "GET":
            self._maybe_break()
            self.hub.sent.append(path)
        if self.command == "GET" and path == self.hub.held:
            self._send(200, content[: len(content) // 2], headers, length=len(content))
            self.wfile.flush()
            self.close_connection = True
            return self.hub.let_go.wait()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            return self._send(200, content, headers, length=len(content))
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._send(206, content[first : last + 1], headers)

    def _maybe_break(self):
        if self.hub.breaks_after is None:
            return
        if self.hub.breaks_after == 0:
            raise _Refused(502, None, "gone")
        self.hub.breaks_after -= 1

    def whoami(self):
        if self.token not in self.hub.writers:
            raise _Refused(401, None, "Invalid username or password.")
        self._json({"type": "user", "name": "me", "orgs": []})

    def create(self):
        asked = json.loads(self.body)
        if self.token not in self.hub.writers:
            raise _Refused(403 if self.token else 401, None, "You don't have the rights")
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.hub.models:
            return self._json({"error": "exists", "url": f"{self.hub.endpoint}/{name}"}, 409)
        is_private = asked.get("visibility") == "private" or asked.get("private")
        self.hub.models[name] = Repository(readers=set(self.hub.writers) if is_private else None)
        self.hub.models[name].commit({".gitattributes": b""})
        return self._json({"url": f"{self.hub.endpoint}/{name}", "id": name, "name": name})

    def validate_yaml(self):
        """Judge the head of a card by the rules that matter here; the real hub has more."""
        head = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        metadata = yaml.safe_load(head[1]) if head else {}
        base = metadata.get("base_model", "org/name")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
            message = '"base_model" must be a valid model id'
            return self._json({"warnings": [], "errors": [{"message": message}]}, 400)
        return self._json({"warnings": [], "errors": []})

    def preupload(self, kind, name, revision):
        files = self._writable(kind, name).commits[self.hub.models[name].refs[revision]]
        self._json(
            {
                "files": [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if _large(each["path"], b"") else "regular",
                        "shouldIgnore": False,
                        "oid": _git_oid(files[each["path"]]) if each["path"] in files else None,
                    }
                    for each in json.loads(self.body)["files"]
                ]
            }
        )

    def lfs_batch(self, name):
        self._writable("model", name)
        asked = json.loads(self.body)
        objects = []
        for each in asked["objects"]:
            oid, size = each["oid"], each["size"]
            upload = {"href": f"{self.hub.endpoint}/storage/{oid}"}
            objects.append(
                {"oid": oid, "size": size}
                | ({} if oid in self.hub.storage else {"actions": {"upload": upload}})
            )
        self._json({"transfer": "basic", "objects": objects})

    def store(self, oid):
        if self.hub.refuses_storage:
            raise _Refused(501, None, "no storage")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refused(400, None, "another content")
        self.hub.storage[oid] = self.body
        self._send(200, b"", {"ETag": f'"{oid}"'})

    def commit(self, kind, name, revision):
        repository = self._writable(kind, name)
        files = dict(repository.commits[repository.refs[revision]])
        for line in self.body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.storage[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        sha = repository.commit(files, revision)
        url = f"{self.hub.endpoint}/{name}/commit/{sha}"
        self._json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def tree(self, kind, name, revision, path=""):
        """The files and folders in a folder; below it too where that is asked for."""
        repository = self._repository(kind, name)
        files = repository.commits[self._commit(repository, revision)]
        path = path or ""
        folder = f"{path}/" if path else ""
        is_recursive = "recursive=true" in urlsplit(self.path).query.lower()
        found = {
            each if is_recursive else folder + each.removeprefix(folder).partition("/")[0]
            for each in files
            if each.startswith(folder)
        }
        folders = {
            each[:end] for each in found for end, sign in enumerate(each) if sign == "/" and end > len(path)
        }
        if path and not found:
            raise _Refused(404, "EntryNotFound", f"{path} does not exist")
        self._json([_entry(each, files.get(each)) for each in sorted(found | folders)])

    def paths_info(self, kind, name, revision):
        repository = self._repository(kind, name)
        files = repository.commits[self._commit(repository, revision)]
        asked = [path.rstrip("/") for path in parse_qs(self.body.decode()).get("paths", [])]
        folders = {path for path in asked if any(each.startswith(f"{path}/") for each in files)}
        self._json([_entry(path, files.get(path)) for path in asked if path in files or path in folders])


def _large(path: str, content: bytes) -> dict[str, object]:
    """What the hub says of a file in its large file storage."""
    if not path.endswith(LARGE_SUFFIXES):
        return {}
    return {"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}


def _entry(path: str, content: bytes | None) -> dict[str, object]:
    """What a listing says of a file, or of a folder, which has no content."""
    if content is None:
        return {"type": "directory", "path": path, "oid": _git_oid(path.encode()), "size": 0}
    large = _large(path, content)
    if large:
        lfs = large["lfs"]
        large = {"lfs": {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}}
    return {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content), **large}


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


_API = r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)"
_ROUTES = (
    ("GET", _API, _Handler.info),
    ("GET", rf"{_API}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"{_API}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?", _Handler.tree),
    ("GET", rf"{_API}/auth-check", _Handler.auth_check),
    ("POST", rf"{_API}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    ("GET", r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    ("GET", r"/storage/(?P<oid>\w+)", _Handler.stored),
    ("PUT", r"/storage/(?P<oid>\w+)", _Handler.store),
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("POST", rf"{_API}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"{_API}/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("POST", r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.lfs_batch),
)  # fmt: skip
