"""The live pages, made with NiceGUI: everything they load ships with the package.

They call the same use cases as REST, always in a thread, so that a slow database stalls no other page, and as far as
their visitor may.
"""

from fastapi import FastAPI, Request
from nicegui import ui

from api.dashboard import compare_page, history_page, launch_page, list_page, search_page
from api.dashboard.snapshot import SnapshotReaders
from api.dashboard.theme import FAVICON, frame, nowhere
from api.dashboard.visitor import visited
from api.tailer import Tailer
from nas.service import SearchService


def mount(app: FastAPI, service: SearchService, *, notice: str | None = None) -> None:
    """Serve the pages at the root of ``app``; ``notice`` is shown on each when searches cannot run.

    NiceGUI keeps one set of pages for a process: the last application mounted has them.
    """
    tailer: Tailer = app.state.tailer
    readers = SnapshotReaders(service)

    @ui.page("/")
    async def searches(request: Request) -> None:
        await list_page.build(visited(service, request), tailer, notice, request.query_params)

    @ui.page("/launch")
    async def launch(request: Request) -> None:
        await launch_page.build(visited(service, request), notice, request.query_params)

    @ui.page("/history")
    async def history(request: Request) -> None:
        await history_page.build(visited(service, request), tailer, notice, request.query_params)

    @ui.page("/compare")
    async def compare(request: Request) -> None:
        await compare_page.build(visited(service, request), tailer, notice, request.query_params)

    @ui.page("/searches/{search_id}")
    async def search(request: Request, search_id: str) -> None:
        seen = visited(service, request)
        await search_page.build(seen, readers, tailer, search_id, notice=notice, asked=request.query_params)

    ui.run_with(
        app,
        root=_nowhere,
        title="Minitron search",
        favicon=FAVICON,
        dark=None,
        language="en-US",
        show_welcome_message=False,
    )


def _nowhere() -> None:
    with frame(None):
        nowhere("There is no such page", "Check the address, or begin again.")
