"""Sessions of browsers: a cookie that says which token somebody signed in by, and signatures that nobody else makes.

The secret is not in it. A session is worth what its token is worth when it is shown, so it ends with that.
"""

import hmac
import os
import secrets
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from nas.errors import InvalidSettings
from nas.private import make_private

SESSION, FORM = "nas_session", "nas_form"
"""Names of the cookies: of who signed in, and of who was shown the form to do so."""
MAX_AGE_SECONDS = 30 * 24 * 3600
"""After this long people sign in again, however long their token holds."""
KEY_FILE = "session.key"
LEAST_KEY_BYTES = 32


class Sessions:
    """Signs with one key, which must stay the same for sessions to outlive the process."""

    def __init__(self, key: str | None = None) -> None:
        key = key or secrets.token_hex(LEAST_KEY_BYTES)
        self._session = URLSafeTimedSerializer(key, salt="session")
        self._form = URLSafeTimedSerializer(key, salt="form")

    def session(self, token_id: str) -> str:
        """Return the value of the cookie of who signed in by a token."""
        return str(self._session.dumps([token_id, secrets.token_hex(8)]))

    def token_of(self, session: str) -> str | None:
        """Return the id of the token that a session began with, or None where it is none or too old."""
        try:
            token_id, _ = self._session.loads(session, max_age=MAX_AGE_SECONDS)
        except (BadSignature, ValueError, TypeError):
            return None
        return str(token_id)

    def form_token(self, cookie: str) -> str:
        """Return what a form must send along that was shown to who holds a cookie (against CSRF)."""
        return str(self._form.dumps(cookie))

    def is_form_token(self, token: str, cookie: str) -> bool:
        """Return whether a form was shown to who holds a cookie."""
        try:
            found = self._form.loads(token, max_age=MAX_AGE_SECONDS)
        except BadSignature:
            return False
        return bool(cookie) and hmac.compare_digest(str(found), cookie)


def cookie_in(header: str, name: str) -> str:
    """Return the value of a cookie in a Cookie header; empty without it."""
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def set_cookie(name: str, value: str, *, is_secure: bool, max_age: int | None = MAX_AGE_SECONDS) -> str:
    """Return a Set-Cookie header: for our pages alone, hidden from scripts, not sent along by other sites' forms."""
    kept = "" if max_age is None else f"; Max-Age={max_age}"
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{kept}{'; Secure' if is_secure else ''}"


def kept_key(directory: Path) -> str:
    """Return the key in a directory that only its owner reads; made when first asked for.

    Raises:
        InvalidSettings: It cannot be made or read, or others may read it.
    """
    path = directory / KEY_FILE
    try:
        make_private(directory)
        draft = path.with_name(f".{KEY_FILE}-{secrets.token_hex(8)}")
        if not path.exists():
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(LEAST_KEY_BYTES))
            try:
                os.link(draft, path)  # whole or not at all, and of two that try at once the first
            except FileExistsError:
                path.stat()
            finally:
                draft.unlink()
        if path.stat().st_mode & 0o077:
            raise InvalidSettings(f"{path}: found a file that others may read, allowed: mode 600")
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path}: the key of sessions cannot be kept there: {error}") from None
    if len(key) < LEAST_KEY_BYTES:
        raise InvalidSettings(f"{path}: found {len(key)} characters, allowed: {LEAST_KEY_BYTES} at least")
    return key
