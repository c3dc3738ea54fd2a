"""Who may ask, how much, and what browsers are told about every answer, over real sockets."""

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from api.access import LOCAL, Access
from api.app import create_app
from api.guard import MAX_BODY_BYTES
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from tests.unit.api.answers import problem_in
from tests.unit.api.live import serving
from tests.unit.api.seeded import DEMO
from tests.unit.api.server import running

YAML = {"Content-Type": "application/yaml"}
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server as users start it, dashboard included."""
    with running(tmp_path_factory.mktemp("guarded")) as server:
        yield server


class TestNames:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:81", "127.0.0.1", "127.8.9.1:8000", "[::1]:8000"]
    )
    def test_this_machine_is_called(self, fresh, host):
        assert fresh.http.get("/api/v1/searches", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost@evil", "10.0.0.1", ""],
    )
    @pytest.mark.parametrize(
        "path", ["/", "/api/v1/searches", "/healthz", "/docs", "/_nicegui_ws/socket.io/?EIO=4"]
    )
    def test_a_name_that_was_resolved_to_this_machine_reads_nothing(self, server, host, path):
        answer = httpx.get(server.address + path, headers={"Host": host})
        detail = problem_in(answer, 421, "host_not_allowed")["detail"]
        assert f"Host: found {host}" in detail
        assert "allowed: localhost, 127.0.0.1" in detail
        assert "NAS_ALLOWED_HOSTS" in detail

    def test_two_hosts_are_none(self, fresh):
        address = urlsplit(str(fresh.http.base_url))
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            status = connection.recv(4096).split()[1]
        assert status in {b"400", b"421"}

    def test_further_names(self):
        access = Access.at("nas-host", is_loopback=True, also=["nas.example"])
        for name in ("nas-host:8000", "nas.example", "localhost"):
            assert access.refused_host(Headers({"Host": name})) is None
        assert access.refused_host(Headers({"Host": "evil.example"}))

    def test_what_other_machines_reach_has_names_that_are_not_known_here(self):
        access = Access.at("0.0.0.0", is_loopback=False)
        assert access.refused_host(Headers({"Host": "whatever.example"})) is None

    def test_names_that_were_given_hold_for_other_machines_too(self):
        access = Access.at("0.0.0.0", is_loopback=False, also=["nas.example"])
        assert access.refused_host(Headers({"Host": "nas.example:8000"})) is None
        assert access.refused_host(Headers({"Host": "evil.example"}))


class TestOtherSites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
        ],
        ids=str,
    )
    def test_their_pages_write_nothing(self, server, headers):
        before = server.store.last_sequence()
        for path in (
            "/api/v1/searches",
            f"/api/v1/searches/{server.id('running')}:cancel",
            "/_nicegui_ws/socket.io/",
        ):
            answer = httpx.post(server.address + path, content=DEMO.read_bytes(), headers=YAML | headers)
            assert "allowed: " in problem_in(answer, 403, "cross_site")["detail"]
        assert server.store.last_sequence() == before

    @pytest.mark.parametrize(
        "headers",
        [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}],
        ids=str,
    )
    def test_their_pages_open_no_socket(self, server, headers):
        address = server.address.replace("http", "ws", 1) + SOCKET
        with pytest.raises(InvalidStatus) as refused:
            _open(address, headers)
        assert refused.value.response.status_code == 403

    def test_our_page_opens_its_socket(self, server):
        _open(server.address.replace("http", "ws", 1) + SOCKET, {"Origin": server.address})

    @pytest.mark.parametrize("site", ["same-origin", "none", None])
    def test_our_own_pages_and_programs_write(self, fresh, site):
        headers = {"Origin": str(fresh.http.base_url), "Sec-Fetch-Site": site} if site else {}
        answer = fresh.http.post("/api/v1/searches", content=DEMO.read_bytes(), headers=YAML | headers)
        assert answer.status_code == 201

    def test_our_own_page_in_a_browser_that_tells_only_its_origin(self, fresh):
        headers = YAML | {"Origin": str(fresh.http.base_url).rstrip("/")}
        assert (
            fresh.http.post("/api/v1/searches", content=DEMO.read_bytes(), headers=headers).status_code == 201
        )

    def test_behind_a_proxy_that_speaks_tls(self):
        headers = Headers({"Host": "nas.example", "Origin": "https://nas.example"})
        assert LOCAL.refused_origin(headers) is None

    def test_reading_is_not_writing(self, fresh):
        """A link from elsewhere leads here; what it shows, the other page cannot read."""
        answer = fresh.http.get("/api/v1/searches", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


class TestBodies:
    @pytest.mark.parametrize(
        "path",
        [
            "/api/v1/searches",
            "/api/v1/searches/x:cancel",
            "/",
            "/_nicegui_ws/socket.io/?EIO=4&transport=polling&sid=x",
        ],
    )
    @pytest.mark.parametrize("is_told", [True, False], ids=["told", "chunked"])
    def test_too_long_anywhere(self, server, path, is_told):
        """Where nobody reads the body, it does not matter that its length is not told."""
        body = b"#" * (MAX_BODY_BYTES + 1)
        answer = httpx.post(server.address + path, content=body if is_told else iter([body]), headers=YAML)
        if is_told or path == "/api/v1/searches":
            detail = problem_in(answer, 413, "body_too_large")["detail"]
            found = MAX_BODY_BYTES + 1 if is_told else f"more than {MAX_BODY_BYTES}"
            assert detail == f"body: found {found} bytes, allowed: at most {MAX_BODY_BYTES}"
        else:
            assert 400 <= answer.status_code < 500

    def test_as_long_as_is_allowed(self, fresh):
        body = DEMO.read_bytes()
        body += b"#" * (MAX_BODY_BYTES - len(body))
        assert fresh.http.post("/api/v1/searches", content=body, headers=YAML).status_code == 201

    def test_an_application_that_catches_everything_does_not_hide_it(self, tmp_path):
        app = create_app(SearchService(InMemoryStore(), artifact_root=tmp_path))

        async def careless(scope, receive, send):
            try:
                while (await receive())["more_body"]:
                    pass
            except Exception:
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b"oops"})

        app.mount("/careless", careless)
        with serving(app) as address:
            body = iter([b"#" * MAX_BODY_BYTES, b"#"])
            problem_in(httpx.post(f"{address}/careless/", content=body), 413, "body_too_large")


class TestHeaders:
    def test_every_answer_has_them(self, server):
        search = f"/searches/{server.id('succeeded')}"
        with httpx.Client(base_url=server.address) as ask:
            answers = [ask.get(path) for path in ("/", search, "/launch", "/nowhere", "/searches/nope", "/docs", "/openapi.json", "/healthz", "/api/v1/searches", f"/api/v1{search}/winner", f"/api/v1{search}/events", "/api/v1/none")]  # fmt: skip
            answers += [
                ask.delete("/healthz"),
                ask.post("/api/v1/searches"),
                ask.get("/", headers={"Host": "x"}),
            ]
            assets = [part.split('"')[0] for part in answers[0].text.split('src="')[1:]]
            assert assets
            answers += [ask.get(asset) for asset in assets]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "same-origin"
            policy = answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            is_page = answer.headers["content-type"].startswith("text/html")
            assert policy.startswith("default-src 'self'" if is_page else "default-src 'none'")
            assert ("https:" in policy) == (answer.url.path == "/docs")

    def test_an_unexpected_error_has_them_too(self, tmp_path):
        class Broken(InMemoryStore):
            def list_searches(self, *_, **__):
                raise ZeroDivisionError

        with serving(create_app(SearchService(Broken(), artifact_root=tmp_path))) as address:
            answer = httpx.get(f"{address}/api/v1/searches")
        assert answer.status_code == 500
        assert answer.headers["x-content-type-options"] == "nosniff"


def _open(address: str, headers: dict[str, str]) -> None:
    """Open the dashboard's socket and hear its greeting."""
    headers, target = dict(headers), urlsplit(address)
    # The address names the host that is told; the connection goes to the server all the same.
    address = address.replace(target.netloc, headers.pop("Host", target.netloc))
    with (
        socket.create_connection((target.hostname, target.port)) as plain,
        connect(address, additional_headers=headers, sock=plain, proxy=None) as opened,
    ):
        assert "sid" in json.loads(opened.recv(timeout=10)[1:])
