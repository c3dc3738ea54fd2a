"""What answers of the REST interface hold, checked for what every answer of its kind must have."""

import json

import httpx


def problem_in(response: httpx.Response, status: int, code: str) -> dict:
    """Return the problem that a refusal holds."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"].endswith(code)
    assert problem["instance"] == response.request.url.path
    assert problem["title"]
    assert "\n" not in problem["detail"]
    return problem


def events_in(text: str) -> list[dict]:
    """Return the server-sent events of a stream, as far as they are whole."""
    events = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            events.append({"id": int(fields["id"]), "event": fields["event"], **json.loads(fields["data"])})
    return events
