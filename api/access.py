"""Who may ask: under which names the service answers, and which pages a browser may write from.

Pure decisions on headers. A browser on the operator's machine is the way in for a stranger: any page that it shows can
send requests to 127.0.0.1, which without accounts asks for nothing, and with them along with the session that the
browser holds. Two things keep such pages out.

A page elsewhere that has its own name resolved to 127.0.0.1 (DNS rebinding) is of the same origin as this
service in the browser's eyes, and could read all answers. Its requests carry its own name as Host, so a service
that only its machine reaches answers to that machine's names alone.

A page elsewhere that writes without being able to read the answer names its origin, which is not ours. Whoever
sends neither ``Sec-Fetch-Site`` nor ``Origin`` is no browser, and may write.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from starlette.datastructures import Headers

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""What people call their own machine; every other loopback address is answered to as well."""
READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing."""
METHODS = frozenset({*READING, "POST", "PUT", "PATCH", "DELETE"})
"""Methods that routes here know."""
OWN_SITE = ("same-origin", "none")
"""What ``Sec-Fetch-Site`` says of a request by our own page, or by the user's own hand."""
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:@/\[\]]+)(?::\d*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The names that are answered to; None answers to all."""

    names: tuple[str, ...] | None = LOCAL_NAMES

    @classmethod
    def at(cls, host: str, *, is_loopback: bool, also: Iterable[str] = ()) -> Self:
        """Return the access to a service that listens at ``host``, and answers to other names ``also``.

        What other machines reach is called by names that are not known here, unless they are given.
        """
        also = tuple(also)
        if not is_loopback and not also:
            return cls(names=None)
        return cls(names=tuple(dict.fromkeys((*LOCAL_NAMES, _in_brackets(host), *also))))

    def refused_host(self, headers: Headers) -> str | None:
        """Return why a request is not answered under the name that it uses, or None."""
        if self.names is None:
            return None
        found = headers.getlist("host")
        name = _name_in(found)
        if name is not None and (name in self.names or _is_loopback(name)):
            return None
        said = ", ".join(found) or "none"
        return (
            f"Host: found {said}, allowed: {', '.join(self.names)}; NAS_ALLOWED_HOSTS lets the service answer "
            "to further names"
        )

    def refused_origin(self, headers: Headers) -> str | None:
        """Return why a request that changes something may not come from where it does, or None."""
        site = headers.get("sec-fetch-site")
        if site is not None:
            is_ours = site in OWN_SITE
            return None if is_ours else f"Sec-Fetch-Site: found {site}, allowed: {', '.join(OWN_SITE)}"
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is None or origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}:
            return None
        return f"Origin: found {origin}, allowed: that of the service's own pages, http://{host}; a proxy passes Host on"


LOCAL = Access()
"""To what only its machine reaches."""


def _name_in(hosts: Sequence[str]) -> str | None:
    """Return the name in the one Host header, without its port; None without exactly one that is right."""
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    return match[1].lower().removesuffix(".") if match else None


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _in_brackets(host: str) -> str:
    """Return a host as it stands in addresses."""
    return f"[{host.lower()}]" if ":" in host else host.lower()
