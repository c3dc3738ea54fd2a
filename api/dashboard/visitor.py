"""Who looks at a page, and what they may do there: what is shown follows it, and every use case judges it again."""

from html import escape
from urllib.parse import quote

from fastapi import Request
from nicegui import ui

from api.identity import SIGN_IN, Identity, identity_of
from api.sign_in import SIGN_OUT
from nas.accounts import Action, allowed, workspaces_for
from nas.errors import Forbidden, NotFound, Unauthenticated
from nas.scoped import scoped
from nas.service import SearchService

_RETURN = """<script>
addEventListener("load", () => {
  const asked = async () => {
    if ((await fetch("/api/v1/whoami")).status === 401)
      location.assign("/sign-in?next=" + encodeURIComponent(location.pathname + location.search));
  };
  const begun = setInterval(() => {
    if (!window.socket) return;
    clearInterval(begun);
    for (const event of ["disconnect", "connect_error"]) window.socket.on(event, asked);
  }, 200);
});
</script>"""
"""Where the server has closed the page's socket because its token ended, the page leads to where one signs in."""


def visited(service: SearchService, request: Request) -> SearchService:
    """Return the service as whoever opens a page may use it, now and as long as the page is open."""
    identity = identity_of(request)
    return service if identity.principal.is_local else scoped(service, identity.present)


def may_change(workspace: str) -> bool:
    """Return whether the visitor may change searches of a workspace."""
    return allowed(_identity().principal, Action.CHANGE, workspace)


def may_submit() -> bool:
    """Return whether the visitor may submit searches at all."""
    principal = _identity().principal
    return principal.is_local or bool(workspaces_for(principal, Action.CHANGE))


def own_workspaces() -> tuple[str, ...]:
    """Return where the visitor may submit searches; nothing where that needs no saying."""
    return workspaces_for(_identity().principal, Action.CHANGE)


def name() -> str:
    """Return the visitor's name; empty where there are no accounts."""
    principal = _identity().principal
    return "" if principal.is_local else principal.name


def show_name() -> None:
    """Say who is signed in, with the way out; nothing where there are no accounts."""
    identity = _identity()
    if identity.principal.is_local:
        return
    ui.on_exception(_refused)
    ui.add_body_html(_RETURN)
    roles = ", ".join(
        f"{role} of {workspace}" for workspace, role in sorted(identity.principal.roles.items())
    )
    with ui.row().classes("items-center gap-2 no-wrap"):
        ui.icon("person", size="18px").classes("soft")
        ui.label(identity.principal.name).classes("font-medium").tooltip(roles or "member of no workspace")
    if identity.session:
        form = escape(identity.form_token)
        ui.html(
            f'<form method="post" action="{SIGN_OUT}"><input type="hidden" name="form" value="{form}">'
            '<button type="submit" class="quiet soft sign-out">Sign out</button></form>',
            sanitize=False,
        )


def _identity() -> Identity:
    return identity_of(ui.context.client.request)


def _refused(error: Exception) -> None:
    """Say what was refused to somebody whose page shows more than they may by now."""
    if isinstance(error, Unauthenticated):
        there = ui.context.client.request.url
        ui.navigate.to(f"{SIGN_IN}?next={quote(there.path, safe='')}")
    elif isinstance(error, Forbidden | NotFound):
        ui.notify(str(error), type="warning")
