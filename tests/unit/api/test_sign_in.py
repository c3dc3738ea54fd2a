"""Sessions of browsers: how one begins, what it is worth, and how it ends; over the server as users start it."""

import json
import re
import shutil
import stat
import time
from contextlib import contextmanager

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from api.sessions import FORM, SESSION, Sessions, cookie_in, kept_key, set_cookie
from api.sign_in import _inner, link
from nas.accounts import LOCAL
from nas.errors import InvalidSettings
from tests.unit.api.answers import problem_in
from tests.unit.api.chromium import chromium
from tests.unit.api.people import crowd
from tests.unit.api.server import running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGES = ("/", "/launch", "/searches/none", "/nowhere")
HTML = {"Accept": "text/html,*/*"}
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("team")) as server:
        yield server


@pytest.fixture(scope="module")
def team(server):
    return crowd(server.store)


def form_of(page: httpx.Response) -> dict[str, str]:
    """Return what a form on a page sends along."""
    return dict(re.findall(r'name="(form|next)" value="([^"]*)"', page.text))


@contextmanager
def signed_in(server, secret: str):
    """Give a browser that has signed in."""
    with httpx.Client(base_url=server.address, headers=HTML) as http:
        form = form_of(http.get("/sign-in"))
        answer = http.post("/sign-in", data=form | {"token": secret})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        yield http


def heard(socket) -> None:
    """Hear a socket to its end."""
    while True:
        socket.recv(timeout=20)


class TestSigningIn:
    @pytest.mark.parametrize("path", PAGES)
    def test_every_page_leads_there_first_and_back_again(self, server, team, path):
        with httpx.Client(base_url=server.address, headers=HTML, follow_redirects=True) as http:
            page = http.get(f"{path}?a=b")
            assert page.url.path == "/sign-in"
            back = http.post("/sign-in", data=form_of(page) | {"token": team.secrets["vic"]})
        assert (back.url.path, back.url.query) == (path, b"a=b")
        assert back.status_code == (404 if "no" in path else 200)

    @pytest.mark.parametrize("name", ["old", "off", None])
    def test_a_token_that_does_not_hold_begins_nothing(self, server, team, name):
        secret = team.secrets[name] if name else "nas_nonsense"
        with httpx.Client(base_url=server.address) as http:
            answer = http.post("/sign-in", data=form_of(http.get("/sign-in")) | {"token": secret})
            assert answer.status_code == 401
            assert SESSION not in answer.cookies
            assert secret not in answer.text
            assert 'role="alert">token: found' in answer.text

    def test_a_form_that_was_shown_to_somebody_else_begins_nothing(self, server, team):
        with httpx.Client(base_url=server.address) as one, httpx.Client(base_url=server.address) as other:
            other.get("/sign-in")
            for form in (form_of(one.get("/sign-in")), {}, {"form": "x", "next": "/"}):
                answer = other.post("/sign-in", data=form | {"token": team.secrets["vic"]})
                assert answer.status_code == 403
                assert SESSION not in answer.cookies

    def test_another_sites_form_begins_nothing(self, server, team):
        with httpx.Client(base_url=server.address) as http:
            form = form_of(http.get("/sign-in")) | {"token": team.secrets["vic"]}
            answer = http.post("/sign-in", data=form, headers={"Origin": "https://evil.example"})
        assert answer.json()["code"] == "cross_site"

    def test_the_cookie_is_for_our_pages_alone_and_does_not_hold_the_secret(self, server, team):
        with httpx.Client(base_url=server.address) as http:
            answer = http.post(
                "/sign-in", data=form_of(http.get("/sign-in")) | {"token": team.secrets["vic"]}
            )
        [cookie] = [each for each in answer.headers.get_list("set-cookie") if each.startswith(SESSION)]
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        assert team.secrets["vic"].split("_", 2)[2] not in cookie
        assert "Secure" not in cookie
        assert "Secure" in set_cookie(SESSION, "x", is_secure=True)

    @pytest.mark.parametrize(
        "there", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "", "/a\nb"]
    )
    def test_nobody_is_led_elsewhere(self, there):
        assert _inner(there) == "/"

    def test_an_address_is_written_into_the_page_as_text(self, server, team):
        page = httpx.get(server.address + "/sign-in", params={"next": '/"><script>alert(1)</script>'})
        assert "<script>alert" not in page.text

    @pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
    def test_it_is_asked_by_no_other_method(self, server, team, method):
        answer = httpx.request(method, server.address + "/sign-in")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
        with signed_in(server, team.secrets["vic"]) as http:
            answer = http.request(method, "/sign-out", headers={"Origin": server.address})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")

    @pytest.mark.parametrize("path", ["/sign-in", "/healthz"])
    def test_a_method_of_ones_own_is_for_those_who_are_signed_in(self, server, team, path):
        answer = httpx.request("PROPFIND", server.address + path)
        problem_in(answer, 401, "unauthenticated")

    def test_a_form_of_very_many_fields_is_none(self, server, team):
        many = {f"field{number}": "1" for number in range(20)}
        problem_in(httpx.post(server.address + "/sign-in", data=many), 400, "malformed_body")
        with signed_in(server, team.secrets["vic"]) as http:
            answer = http.post("/sign-out", data=many, headers={"Origin": server.address})
        problem_in(answer, 400, "malformed_body")

    def test_without_accounts_there_is_nothing_to_sign_in_to(self, fresh):
        answer = fresh.http.get("/sign-in")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


class TestSessions:
    def test_it_is_worth_what_its_token_is(self, server, team):
        with signed_in(server, team.secrets["vic"]) as http:
            assert http.get("/").status_code == 200
            assert http.get("/api/v1/whoami").json()["name"] == "vic"
            answer = http.post(f"/api/v1/searches/{server.id('running')}:cancel")
            assert answer.json()["code"] == "forbidden"
        with signed_in(server, team.secrets["eve"]) as http:
            assert http.get(f"/searches/{server.id('succeeded')}").status_code == 404
            assert server.id("succeeded") not in http.get("/").text

    def test_what_is_not_signed_here_is_nothing(self, server, team):
        forged = Sessions("0" * 64).session(team.ids["ada"])
        for value in (forged, "x", team.ids["ada"], forged.rpartition(".")[0]):
            answer = httpx.get(server.address + "/api/v1/searches", cookies={SESSION: value})
            assert answer.status_code == 401

    def test_signing_out_takes_a_form_of_that_session(self, server, team):
        with signed_in(server, team.secrets["vic"]) as http:
            page = http.get("/").text
            form = re.search(r'name=\\"form\\" value=\\"([^"\\]+)\\"', page) or re.search(
                r"name=&quot;form&quot; value=&quot;([^&]+)&quot;", page
            )
            assert form, "the page has no form to sign out"
            for wrong in (
                {},
                {"form": "x"},
                {"form": form_of(httpx.get(server.address + "/sign-in"))["form"]},
            ):
                http.post("/sign-out", data=wrong)
                assert http.get("/api/v1/whoami").status_code == 200
            http.post("/sign-out", data={"form": form[1]})
            assert http.get("/api/v1/whoami").status_code == 401

    def test_it_ends_with_its_token_also_for_a_page_that_is_open(self, server, team):
        made, secret = team.people.create_token(LOCAL, "vic", ["default"])
        with signed_in(server, secret.text) as http:
            cookie = {"Cookie": f"{SESSION}={http.cookies[SESSION]}", "Origin": server.address}
            address = server.address.replace("http", "ws", 1) + SOCKET
            with connect(address, additional_headers=cookie, proxy=None) as socket:
                assert "sid" in socket.recv(timeout=10)
                team.people.revoke_token(LOCAL, made.id)
                with pytest.raises(ConnectionClosed) as closed:
                    heard(socket)
            assert closed.value.rcvd.code == 1008
            assert http.get("/", headers=HTML).status_code == 303
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(address, additional_headers=cookie, proxy=None),
            ):
                pass
            assert refused.value.response.status_code == 403

    def test_no_socket_without(self, server, team):
        address = server.address.replace("http", "ws", 1) + SOCKET
        with pytest.raises(InvalidStatus), connect(address, proxy=None):
            pass


class TestKeys:
    def test_it_is_made_once_and_for_its_owner_alone(self, tmp_path):
        key = kept_key(tmp_path / "home")
        assert kept_key(tmp_path / "home") == key
        assert len(key) >= 32
        assert stat.S_IMODE((tmp_path / "home" / "session.key").stat().st_mode) == 0o600
        assert [path.name for path in (tmp_path / "home").iterdir()] == ["session.key"]

    def test_a_key_that_others_may_read_is_refused(self, tmp_path):
        kept_key(tmp_path)
        (tmp_path / "session.key").chmod(0o644)
        with pytest.raises(InvalidSettings, match="found a file that others may read"):
            kept_key(tmp_path)

    def test_a_key_that_is_too_short_is_refused(self, tmp_path):
        (tmp_path / "session.key").write_text("short")
        (tmp_path / "session.key").chmod(0o600)
        with pytest.raises(InvalidSettings, match="found 5 characters"):
            kept_key(tmp_path)

    def test_sessions_of_one_key_are_no_others(self):
        one, other = Sessions("1" * 32), Sessions("2" * 32)
        assert one.token_of(one.session("t")) == "t"
        assert other.token_of(one.session("t")) is None
        assert one.token_of(one.form_token("t")) is None

    @pytest.mark.parametrize("header", ["", "x", "a=b; =", 'nas_session="', "\x00"])
    def test_cookies_that_are_none(self, header):
        assert cookie_in(header, FORM) == ""


@pytest.mark.browser
class TestInTheBrowser:
    @pytest.fixture
    def browser(self, tmp_path):
        assert CHROMIUM, "no Chromium on the path: install it, or leave these tests out with -m 'not browser'"
        with chromium(CHROMIUM, tmp_path / "profile") as browser:
            yield browser

    def test_a_link_signs_in_once_and_a_viewer_looks_but_changes_nothing(self, server, team, browser):
        made, secret = team.people.create_token(LOCAL, "vic", ["default"])
        browser.open(link(server.address, secret.text))
        text = browser.wait_for("Searches", "vic", "Sign out", "succeeded")
        assert "New search" not in text
        assert browser.evaluate("location.pathname + location.hash") == "/"
        browser.open(f"{server.address}/searches/{server.id('running')}")
        text = browser.wait_for("Loss against parameters", "Sign out")
        for button in ("Cancel search", "Edit", "Archive", "New search"):
            assert button not in text
        browser.open(f"{server.address}/launch")
        assert "Launch" not in browser.wait_for("You may look, not launch")
        browser.open(f"{server.address}/searches/{server.id('running')}")
        browser.wait_for("Loss against parameters")
        team.people.revoke_token(LOCAL, made.id)
        browser.wait_for("Paste your API token", seconds=30)
        assert server.id("running") in browser.evaluate("location.search")

    def test_a_link_that_is_pasted_where_one_signs_in_signs_in(self, server, team, browser):
        browser.open(f"{server.address}/sign-in")
        browser.wait_for("Paste your API token")
        browser.open(link(server.address, team.secrets["vic"]))  # the same document with another fragment
        browser.wait_for("Searches", "vic", "Sign out")
        assert browser.evaluate("location.pathname + location.hash") == "/"

    def test_a_contributor_changes_and_signs_out(self, server, team, browser):
        browser.open(f"{server.address}/searches/{server.id('succeeded')}")
        browser.wait_for("Sign in")
        browser.evaluate(
            f"document.getElementById('token').value = {json.dumps(team.secrets['con'])}; document.forms[0].submit()"
        )
        browser.wait_for("Edit", "Archive", "New search", "Sign out")
        browser.evaluate("document.querySelector('button.sign-out').click()")
        browser.wait_for("Paste your API token")
        time.sleep(0.5)
        browser.open(server.address)
        browser.wait_for("Paste your API token")
