"""Route matching, and the answer where no route matches."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel
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

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as a route does, but not with an empty parameter."""
        match, child_scope = super().matches(scope)
        is_complete = all(child_scope.get("path_params", {}).values())
        return (match, child_scope) if is_complete else (Match.NONE, {})


def resource(path: str, **endpoints: Endpoint) -> Resource:
    """Return the route of one path with an endpoint per method."""
    return Resource(path, endpoints)


class PageRoute(Route):
    """Matches every address that is not reserved for the interfaces."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as a route does, but nothing below the reserved names."""
        match, child_scope = super().matches(scope)
        path: str = child_scope.get("path_params", {}).get("path", "")
        reserved = path.partition("/")[0] in RESERVED
        return (Match.NONE, {}) if reserved else (match, child_scope)


class TrailingSlash(BaseRoute):
    """Answers an address that is there without its last slash, by 307, which keeps method and body.

    The address it leads to is relative: a proxy may have taken off what stood before the path.
    """

    def __init__(self, table: Sequence[BaseRoute]) -> None:
        self._table = [route for route in table if isinstance(route, Resource)]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match if the path without the slash exists, for any method."""
        if scope["type"] != "http" or not scope["raw_path"].endswith(b"/"):
            return Match.NONE, {}
        bare = {**scope, "path": scope["path"].removesuffix("/")}
        found = any(route.matches(bare)[0] is not Match.NONE for route in self._table)
        return (Match.FULL if found else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect."""
        raw: str = scope["raw_path"].decode("latin-1")
        address = "../" + raw.removesuffix("/").rpartition("/")[2]
        query = scope.get("query_string", b"").decode("latin-1")
        response = RedirectResponse(f"{address}?{query}" if query else address, 307)
        await response(scope, receive, send)


class NotFoundRoute(BaseRoute):
    """The last route: answers 404 to every path that no other route matches."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match weakly, so that a route with another method is preferred and answers 405."""
        return (Match.PARTIAL if scope["type"] == "http" else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Raise NotFound."""
        raise NotFound("There is no endpoint at this address")


JSON = "application/json"

_RAISES = re.compile(r"\s*Raises\s.*?\.(?=\s|$)", re.DOTALL)
_Marked = TypeVar("_Marked", bound=Callable[..., Any])


class Tag(StrEnum):
    """The groups in which addresses are shown, in this order; the values are shown."""

    CONVERSATIONS = "Conversations"
    EVENTS = "Events"
    WORKSPACE = "Workspace"
    SETTINGS = "Settings"
    SECRETS = "Secrets"
    OPTIONS = "Options"
    GIT_HOSTS = "Git hosts"
    HEALTH = "Health"
    DOCUMENTS = "Documents"
    ADMINISTRATION = "Administration"


@dataclass(frozen=True, slots=True)
class Description:
    """One endpoint; `name` is its function's, for messages."""

    name: str
    tag: Tag
    summary: str
    details: str
    answer: Any
    """A type whose JSON the answer is; None for an answer that is no JSON."""
    status: int
    media_type: str
    text_type: str | None
    """The media type of an alternative text response, if one can be requested."""
    query: type[BaseModel] | None
    body: Any
    """A type whose JSON the body is; None for no body."""
    body_schema: Mapping[str, Any] | None
    body_type: str
    takes_key: bool
    """Whether an Idempotency-Key is heeded."""
    raises: tuple[type[Exception], ...]
    statuses: Mapping[int, str]
    """Responses with a status outside the table of errors, and their meaning."""


DESCRIPTIONS: dict[Callable[..., Any], Description] = {}
"""Every described function."""


def described(
    tag: Tag,
    *,
    answer: Any = None,
    status: int = 200,
    media_type: str = JSON,
    text_type: str | None = None,
    query: type[BaseModel] | None = None,
    body: Any = None,
    body_schema: Mapping[str, Any] | None = None,
    body_type: str = JSON,
    takes_key: bool = False,
    raises: Iterable[type[Exception]] = (),
    statuses: Mapping[int, str] | None = None,
) -> Callable[[_Marked], _Marked]:
    """Describe the decorated endpoint for /openapi.json.

    The docstring's first line is its summary, the rest without "Raises ..." its description.
    `query` and `body` are the models of the request, `answer` the type of the response; `raises`
    are its specific errors. What follows from the address (ids, the key), from a query or a body,
    and what every address may answer, is added by server/routes/openapi.py.
    """

    def mark(endpoint: _Marked) -> _Marked:
        text = inspect.getdoc(endpoint) or ""
        summary, _, details = _RAISES.sub("", text).strip().partition("\n")
        DESCRIPTIONS[endpoint] = Description(
            name=f"{endpoint.__module__}.{endpoint.__qualname__}",
            tag=tag,
            summary=summary.strip().removesuffix("."),
            details=details.strip(),
            answer=answer,
            status=status,
            media_type=media_type,
            text_type=text_type,
            query=query,
            body=body,
            body_schema=body_schema,
            body_type=body_type,
            takes_key=takes_key,
            raises=tuple(raises),
            statuses=statuses or {},
        )
        return endpoint

    return mark


def description_of(endpoint: Endpoint) -> Description | None:
    """Return the description of an endpoint of the route table; None when it has none."""
    inner = inspect.unwrap(endpoint)
    return DESCRIPTIONS.get(getattr(inner, "__func__", inner))
