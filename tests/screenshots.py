"""Takes the screenshots of the README, from searches that are played by the real driver.

``python -m tests.screenshots [DIRECTORY]`` writes them, by default to ``deploy/screenshots``; needs Chromium, and Pillow
(which NiceGUI's users may lack) to keep each small.
"""

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nas.edits import Edit
from tests.fakes import ManualClock
from tests.unit.api.chromium import Page, chromium
from tests.unit.api.server import Server, running

DIRECTORY = Path(__file__).parents[1] / "deploy" / "screenshots"
WIDTH = 1280
MAX_BYTES = 150_000
COLOURS = 256
SAID = {
    "succeeded": ("ann", "tiny", "depth-vs-width"),
    "failed": ("bob", "tiny"),
    "running": ("ann", "tiny", "baselines"),
    "preparing": ("bob",),
}
"""Owner and tags, as a team has them."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One screenshot: what is opened, what must be seen on it, and how much of it is kept."""

    name: str
    path: str
    texts: tuple[str, ...]
    height: int
    scroll_to: str = ""
    """A selector of what stands at the top; empty: the page's."""


def shots(server: Server) -> list[Shot]:
    """Return what the README shows."""
    succeeded, live = server.id("succeeded"), server.id("running")
    return [
        Shot(name="searches", path="/", texts=("succeeded", "queued"), height=640),
        Shot(name="search", path=f"/searches/{live}", texts=("Best so far", "as of"), height=900),
        Shot(
            name="architecture",
            path=f"/searches/{succeeded}?trial=1",
            texts=("What was kept of the parent", "Which axis decides?"),
            height=1150,
            scroll_to=".q-table",
        ),
        Shot(name="launch", path="/launch", texts=("72 feasible",), height=900),
    ]


def take(page: Page, address: str, shot: Shot, directory: Path) -> Path:
    """Take one screenshot, in few colours."""
    page.open(address + shot.path)
    page.wait_for(*shot.texts)
    time.sleep(3)  # charts, the editor and fonts come after the text
    path = directory / f"{shot.name}.png"
    page.screenshot(path)
    above = "window.scrollY - 60"
    top = (
        page.evaluate(f"document.querySelector({shot.scroll_to!r}).getBoundingClientRect().top + {above}")
        if shot.scroll_to
        else 0
    )
    with Image.open(path) as whole:
        part = whole.convert("RGB").crop((0, int(top), WIDTH, min(whole.height, int(top) + shot.height)))
    part.quantize(COLOURS, Image.Quantize.FASTOCTREE).save(path, optimize=True)
    assert path.stat().st_size < MAX_BYTES, f"{path}: {path.stat().st_size} bytes"
    return path


def main() -> None:
    """Take all."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(Path(scratch) / "home", clock=ManualClock()) as server,
        chromium(executable, Path(scratch) / "profile", width=WIDTH, height=900) as page,
    ):
        for name, (owner, *tags) in SAID.items():
            server.store.edit_search(server.id(name), Edit(owner=owner, tags=tuple(tags)))
        for shot in shots(server):
            print(take(page, server.address, shot, directory))


if __name__ == "__main__":
    main()
