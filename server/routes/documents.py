"""The server describes itself: OpenAPI, AsyncAPI, and the page that shows both."""

from collections.abc import Iterable
from typing import Any

import orjson
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.routes.describing import Tag, described
from server.routes.exchange import JsonResponse
from server.routes.openapi import openapi_document
from server.routes.services import Services


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
            keyless = self._services.config.keyless
            self._keep("openapi", openapi_document(self._table, keyless=keyless))
        return _document(self._written["openapi"])

    @described(Tag.DOCUMENTS, answer=dict[str, JsonValue])
    async def asyncapi(self, _request: Request) -> Response:
        """The socket's events as an AsyncAPI 3.0 document."""
        if "asyncapi" not in self._written:
            self._keep("asyncapi", self._services.socket_document())
        return _document(self._written["asyncapi"])

    def _keep(self, name: str, document: dict[str, Any]) -> None:
        self._written[name] = orjson.dumps(document)


def _document(body: bytes) -> Response:
    return Response(body, media_type=JsonResponse.media_type)
