"""The server describes itself: OpenAPI, AsyncAPI, and the page that shows both."""

import asyncio
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import orjson
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.errors import NotFound
from server.routes.endpoint import Tag, described
from server.routes.request import JsonResponse
from server.routes.services import Services
from server.routes.static_files import BUILT_IN, WebFiles, files_below

PAGE = BUILT_IN / "docs" / "index.html"
SHARED = {
    "tokens.css": "styles/tokens.css",
    "theme-boot.js": "theme-boot.js",
    "base.js": "base.js",
    "dom.js": "views/dom.js",
    "icon.svg": "icon.svg",
}
"""Files shared with the chat page, served at addresses of their own: they exist whatever is at `/`."""


@cache
def docs_page() -> WebFiles:
    """Return the documentation page with its files."""
    own = files_below(PAGE.parent, PAGE.parent)
    del own[PAGE.name]
    shared = {name: BUILT_IN / path for name, path in SHARED.items()}
    return WebFiles(PAGE, own | shared, "/docs")


class DocumentRoutes:
    """The API documents, created on first request; they need no key: they contain no data."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._files = docs_page()
        self._table: Iterable[BaseRoute] = ()
        self._bodies: dict[str, bytes] = {}
        self._making = asyncio.Lock()

    def describe(self, table: Iterable[BaseRoute]) -> None:
        """Set the route table that the documents describe."""
        self._table = table

    @described(Tag.DOCUMENTS, answer=dict[str, JsonValue])
    async def openapi(self, _request: Request) -> Response:
        """Return the OpenAPI 3.1 document of the REST API."""
        return await self._written("openapi", self._make_openapi)

    @described(Tag.DOCUMENTS, answer=dict[str, JsonValue])
    async def asyncapi(self, _request: Request) -> Response:
        """Return the AsyncAPI 3.0 document of the socket and of the stream."""
        return await self._written("asyncapi", self._services.socket_document)

    @described(Tag.DOCUMENTS, media_type="text/html")
    async def page(self, request: Request) -> Response:
        """Serve the page that shows both documents."""
        return self._files.page(request)

    @described(Tag.DOCUMENTS, media_type="*/*", raises=(NotFound,))
    async def part(self, request: Request) -> Response:
        """Serve a script, style sheet or image of the documents' page."""
        return self._files.part(request, request.path_params["path"])

    async def _written(self, name: str, make: Callable[[], dict[str, Any]]) -> Response:
        """Return a document, which is made once, in a thread: it takes a quarter of a second."""
        async with self._making:
            if name not in self._bodies:
                document = await asyncio.to_thread(make)
                self._bodies[name] = orjson.dumps(document)
        return Response(self._bodies[name], media_type=JsonResponse.media_type)

    def _make_openapi(self) -> dict[str, Any]:
        from server.routes.openapi import openapi_document  # noqa: PLC0415 - slow to import

        config = self._services.config
        return openapi_document(
            self._table, keyless=config.keyless, admin_keyless=config.admin_key is None
        )
