"""How an address finds its route, and what happens where there is none."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from server.errors import NotFound

Endpoint = Callable[[Request], Awaitable[Response]]

_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")

RESERVED = ("api", "socket.io")
"""First parts of addresses that never are a page's."""


class Resource(Route):
    """One address with an endpoint per method; 405 names them all."""

    def __init__(self, path: str, endpoints: Mapping[str, Endpoint]) -> None:
        async def dispatch(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            conversation_id = request.path_params.get("conversation_id", "")
            if _ID.fullmatch(conversation_id):
                bind_contextvars(conversation_id=conversation_id)
            return await endpoints[method](request)

        super().__init__(path, dispatch, methods=list(endpoints))
        self.endpoints = endpoints


def resource(path: str, **endpoints: Endpoint) -> Resource:
    """One address with an endpoint per method."""
    return Resource(path, endpoints)


class PageRoute(Route):
    """Matches every address that is not reserved for the interfaces."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as a route does, but nothing below the reserved names."""
        match, child_scope = super().matches(scope)
        path: str = child_scope.get("path_params", {}).get("path", "")
        reserved = path.partition("/")[0] in RESERVED
        return (Match.NONE, {}) if reserved else (match, child_scope)


class LastSlash(BaseRoute):
    """Answers an address that is there without its last slash, by 307, which keeps method and body."""

    def __init__(self, table: Sequence[BaseRoute]) -> None:
        self._table = [route for route in table if isinstance(route, Resource)]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match where there is such an address, whatever its methods are."""
        path: str = scope["path"]
        if scope["type"] != "http" or not path.endswith("/"):
            return Match.NONE, {}
        bare = {**scope, "path": path.removesuffix("/")}
        found = any(route.matches(bare)[0] is not Match.NONE for route in self._table)
        return (Match.FULL if found else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect."""
        address = quote(scope["path"].removesuffix("/"), safe="/:@!$&'()*+,;=~")
        query = scope.get("query_string", b"").decode("latin-1")
        response = RedirectResponse(f"{address}?{query}" if query else address, 307)
        await response(scope, receive, send)


class NothingHere(BaseRoute):
    """The last route: whatever no other one takes in any method is not there."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match weakly, so that a route with another method is preferred and answers 405."""
        return (Match.PARTIAL if scope["type"] == "http" else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Raise NotFound."""
        raise NotFound("There is nothing at this address")
