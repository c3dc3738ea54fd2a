"""A headless Chromium driven over its DevTools protocol: nothing beyond the browser itself is needed."""

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-quic", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip


@contextmanager
def chromium(executable: str, profile: Path, *, width: int = 1400, height: int = 1200) -> Iterator["Page"]:
    """Start a browser with one page and end it."""
    # A browser that runs as root, as in containers, refuses its sandbox.
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    command = (executable, *FLAGS, *sandbox, f"--user-data-dir={profile}", f"--window-size={width},{height}")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            addresses = (re.search(r"ws://\S+", line) for line in process.stderr)
            address = next(filter(None, addresses))[0]
            with connect(address, max_size=64 << 20) as connection:
                yield Page(connection)
        finally:
            process.terminate()


class Page:
    """One page of a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._socket = connection
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        """What the browser held against pages, such as violations of their policy, since they were opened."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Log.enable")
        self._call("Runtime.enable")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            self._hear(answer)
            if answer.get("id") == self._number:
                if "navigated" in answer.get("error", {}).get("message", ""):
                    return self._call(method, **params)  # the page led to another meanwhile
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _hear(self, message: dict[str, Any]) -> None:
        """Keep what stands in the console as a warning or an error."""
        said = message.get("params", {})
        if message.get("method") == "Log.entryAdded" and said["entry"]["level"] in {"warning", "error"}:
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif message.get("method") == "Runtime.consoleAPICalled" and said["type"] in {"warning", "error"}:
            self.complaints.append(" ".join(str(each.get("value", each)) for each in said["args"]))
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))

    def open(self, url: str) -> None:
        """Go to ``url``."""
        self.complaints.clear()
        self._call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key where the keyboard is: ``Enter``, ``Tab`` or ``Escape``."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27}[key]
        self._call("Page.bringToFront")
        held = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        self._call("Input.dispatchKeyEvent", type="keyDown", **held, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **held)

    @property
    def text(self) -> str:
        """What a reader sees."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait_for(self, *texts: str, seconds: float = 30) -> str:
        """Return the visible text as soon as it holds all of ``texts``."""
        deadline = time.monotonic() + seconds
        while not all(text in self.text for text in texts):
            assert time.monotonic() < deadline, f"no {texts} in:\n{self.text}"
            time.sleep(0.2)
        return self.text

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark`` colours from now on."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> Path:
        """Write the whole page, below the fold included, as a PNG."""
        height = self.evaluate("document.documentElement.scrollHeight")
        width = self.evaluate("window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path
