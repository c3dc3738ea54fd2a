"""What was asked: the whole spec, complete with its defaults, to read, copy or save."""

from nicegui import ui

from api.dashboard.theme import code, heading, panel
from nas.search import Search
from nas.spec import spec_to_json
from nas.text import yaml_of


def make_spec_panel(search: Search) -> None:
    """Make the panel; a spec never changes."""
    text = yaml_of(spec_to_json(search.spec))

    def copy() -> None:
        ui.clipboard.write(text)
        ui.notify("Copied")

    with panel():
        with ui.row().classes("w-full items-center justify-between"):
            heading("Spec, complete with its defaults")
            with ui.row().classes("gap-1"):
                ui.button("Copy", icon="content_copy", on_click=copy).props("flat dense no-caps")
                ui.button(
                    "Save as a file",
                    icon="save_alt",
                    on_click=lambda: ui.download.content(text, f"{search.id}.yaml"),
                ).props("flat dense no-caps")
        with ui.expansion("Show").classes("w-full").props("dense"):
            code(text, "yaml")
