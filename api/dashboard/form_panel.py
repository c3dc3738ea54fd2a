"""The form of a new search: a field for each of the main parts of its spec, with what is wrong beside it."""

from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui

from api.dashboard.spec_form import EVERY_FIELD, FIELDS, FormField, NotMeant
from api.dashboard.theme import heading, panel

KEPT_IN_TEXT = "more than fits here: see the text"


class FormPanel:
    """The fields of one visitor; they show a spec and tell of changes to it.

    Args:
        changed: Called with a merge patch of the spec when a field was changed.
    """

    def __init__(self, changed: Callable[[dict[str, Any]], None]) -> None:
        self._changed = changed
        self._is_filling = False
        self._content: Mapping[str, Any] = {}
        self._inputs: dict[str, ui.input] = {}
        self._not_meant: dict[str, str] = {}
        with panel():
            for title, fields in FIELDS.items():
                heading(title)
                with ui.element("div").classes("fields"):
                    for field in fields:
                        self._inputs[field.name] = self._input(field)

    @property
    def is_wrong(self) -> bool:
        """Whether a field holds what means nothing; the text does not know of it."""
        return bool(self._not_meant)

    def show(self, content: Mapping[str, Any]) -> None:
        """Bring the fields in step with a spec; one that already means the same is left as it was typed."""
        before, self._content = self._content, content
        self._is_filling = True
        for field in EVERY_FIELD:
            is_mistyped = field.name in self._not_meant and field.value_in(before) == field.value_in(content)
            shown = field.shown(content)
            box = self._inputs[field.name]
            box.set_enabled(shown is not None)
            if not is_mistyped and not self._means(field, content):
                self._not_meant.pop(field.name, None)
                box.value = KEPT_IN_TEXT if shown is None else shown
        self._is_filling = False

    def show_problems(self, told: Mapping[str, str]) -> None:
        """Tell what is wrong beside each field, by its name, and nothing beside the others."""
        for name, box in self._inputs.items():
            box.error = self._not_meant.get(name) or told.get(name)

    def _means(self, field: FormField, content: Mapping[str, Any]) -> bool:
        text = self._inputs[field.name].value or ""
        try:
            meant = field.read(text) if text.strip() else None
        except NotMeant:
            return False
        return bool(meant == field.value_in(content))

    def _input(self, field: FormField) -> ui.input:
        box = ui.input(field.label, on_change=lambda: self._typed(field))
        box.props("dense outlined debounce=300 hide-bottom-space stack-label")
        if field.hint:
            box.props["placeholder"] = field.hint
        return box

    def _typed(self, field: FormField) -> None:
        if self._is_filling or self._means(field, self._content):
            return
        box = self._inputs[field.name]
        try:
            patch = field.patch(box.value or "")
        except NotMeant as error:
            self._not_meant[field.name] = str(error)
            box.error = str(error)
            self._changed({})
            return
        self._not_meant.pop(field.name, None)
        box.error = None
        self._changed(patch)
