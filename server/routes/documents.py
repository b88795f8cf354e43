"""The server describes itself: OpenAPI, AsyncAPI, and the page that shows both."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import anyio
import orjson
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.errors import NotFound
from server.routes.describing import Tag, described
from server.routes.exchange import JsonResponse
from server.routes.openapi import openapi_document
from server.routes.pages import BUILT_IN, MEDIA_TYPES, REVALIDATE, STRICT_POLICY
from server.routes.services import Services

FOLDER = BUILT_IN / "docs"
FILES: Mapping[str, Path] = {
    **{file.name: file for file in sorted(FOLDER.iterdir())},
    "tokens.css": BUILT_IN / "styles" / "tokens.css",
    "theme-boot.js": BUILT_IN / "theme-boot.js",
    "dom.js": BUILT_IN / "views" / "dom.js",
    "icon.svg": BUILT_IN / "icon.svg",
}
"""All the page is made of, under addresses of its own: it is there whatever is served at `/`."""


class DocumentRoutes:
    """Documents are made at the first request; none needs a key, for none tells of anybody."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._table: Iterable[BaseRoute] = ()
        self._written: dict[str, bytes] = {}

    def describe(self, table: Iterable[BaseRoute]) -> None:
        """Speak of this table from now on."""
        self._table = table

    @described(Tag.DOCUMENTS, answer=dict[str, JsonValue])
    async def openapi(self, _request: Request) -> Response:
        """The REST surface as an OpenAPI 3.1 document."""
        if "openapi" not in self._written:
            config = self._services.config
            document = openapi_document(
                self._table, keyless=config.keyless, admin_keyless=config.admin_key is None
            )
            self._keep("openapi", document)
        return _document(self._written["openapi"])

    @described(Tag.DOCUMENTS, answer=dict[str, JsonValue])
    async def asyncapi(self, _request: Request) -> Response:
        """The socket's events as an AsyncAPI 3.0 document."""
        if "asyncapi" not in self._written:
            self._keep("asyncapi", self._services.socket_document())
        return _document(self._written["asyncapi"])

    @described(Tag.DOCUMENTS, media_type="text/html")
    async def page(self, _request: Request) -> Response:
        """A page that shows both documents."""
        return await _file(FOLDER / "index.html")

    @described(Tag.DOCUMENTS, media_type="*/*", raises=(NotFound,))
    async def part(self, request: Request) -> Response:
        """A script, style or picture of that page."""
        found = FILES.get(request.path_params["name"])
        if found is None:
            raise NotFound("There is no such file")
        return await _file(found)

    def _keep(self, name: str, document: dict[str, Any]) -> None:
        self._written[name] = orjson.dumps(document)


async def _file(path: Path) -> Response:
    body = await anyio.Path(path).read_bytes()
    headers = {"cache-control": REVALIDATE, "content-security-policy": STRICT_POLICY}
    return Response(body, headers=headers, media_type=MEDIA_TYPES[path.suffix])


def _document(body: bytes) -> Response:
    return Response(body, media_type=JsonResponse.media_type)
