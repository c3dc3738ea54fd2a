"""Secrets are cut out of what is logged: those that the environment holds, and what looks like one. Knows no file."""

import re
from collections.abc import Iterable, Mapping

HIDDEN = "***"
SHORTEST = 6
"""Of a secret: shorter ones are words that occur by themselves."""
_NAMES = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|_DSN$", re.IGNORECASE
)
_PATTERNS = (
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),  # a name and a password in an address
    re.compile(r"(?i)(?<=[?&;])(?:[\w-]*(?:signature|token|secret|credential|key|sig))=[^&\s\"'<>]+"),
    re.compile(r"(?i)(?<=authorization: )(?:bearer |basic )?\S+"),
    re.compile(r"\b(?:hf_|github_pat_|ghp_|sk-|xox[abp]-)[A-Za-z0-9_-]{16,}"),
)


def secrets_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables that are named like secrets, and the passwords in addresses, longest first."""
    named = {value for name, value in environment.items() if _NAMES.search(name)}
    in_addresses = {
        found.group().partition(":")[2]
        for value in environment.values()
        for found in _PATTERNS[0].finditer(value)
    }
    return tuple(
        sorted((each for each in named | in_addresses if len(each) >= SHORTEST), key=len, reverse=True)
    )


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without secrets."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(HIDDEN, text)
    return text
