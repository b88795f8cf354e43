"""The page: the built-in one, or a single-page build of somebody else's."""

import re
from functools import cache
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from server.config.settings import ServerConfig
from server.errors import NotFound
from server.routes.static_files import (
    BUILT_IN,
    IMMUTABLE,
    MEDIA_TYPES,
    REVALIDATE,
    WebFiles,
    files_below,
)

INDEX = "index.html"
FOREIGN_POLICY = "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
"""For a build we know nothing of: it may load and run what it brings or fetches."""

_CONVERSATION = re.compile(r"conversations/[^/]+/?")
_HASHED = re.compile(
    r"assets/(?:.*/)?[^/]*[.-](?=[a-z]*[A-Z0-9_])(?=[0-9_]*[A-Za-z])"
    r"(?:\w{8}|[0-9a-f]{16,64})(?:\.[a-z0-9]+)+"
)


def page_routes(config: ServerConfig) -> "BuiltInPage | CustomPage":
    """The page this server shows."""
    return BuiltInPage() if config.ui_dir is None else CustomPage(config.ui_dir)


@cache
def built_in_page() -> WebFiles:
    """The page that comes with the server; what the other pages have below it is not part of it."""
    parts = {
        name: path
        for name, path in files_below(BUILT_IN, BUILT_IN).items()
        if name != INDEX and not name.startswith(("admin/", "docs/"))
    }
    return WebFiles(BUILT_IN / INDEX, parts, "/assets")


class BuiltInPage:
    """The page that comes with the server."""

    def __init__(self) -> None:
        self._files = built_in_page()

    async def serve(self, request: Request) -> Response:
        """A file below `/assets`, and the page for the addresses it makes up. Raises NotFound."""
        path = request.path_params["path"].strip("/")
        if _is_address_of_the_page(request, path):
            return self._files.page(request)
        folder, _, rest = path.partition("/")
        if folder != "assets":
            raise NotFound("There is no such file")
        return self._files.part(request, rest)


class CustomPage:
    """Serves files of one folder, and its index.html for the addresses the page itself makes up."""

    def __init__(self, folder: Path) -> None:
        self._files = StaticFiles(directory=folder)

    async def serve(self, request: Request) -> Response:
        """A file, or the index for navigations. Raises NotFound.

        Hidden files, and what lies outside the folder even by a link, are not there.
        """
        path = request.path_params["path"].strip("/")
        if _is_address_of_the_page(request, path):
            path = INDEX
        if any(part.startswith(".") for part in path.split("/")):
            raise NotFound("There is no such file")
        try:
            response = await self._files.get_response(path, request.scope)
        except HTTPException as error:
            raise NotFound("There is no such file") from error
        if response.status_code == HTTPStatus.OK and _has_any(request):
            response = Response(status_code=304, headers={"etag": response.headers["etag"]})
        media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix.lower())
        if media_type is not None and "content-type" in response.headers:
            response.headers["content-type"] = media_type
        response.headers["cache-control"] = IMMUTABLE if _HASHED.fullmatch(path) else REVALIDATE
        response.headers["content-security-policy"] = FOREIGN_POLICY
        return response


def _has_any(request: Request) -> bool:
    """Return whether the client has some form of the file, which is all that `*` says."""
    return request.headers.get("if-none-match", "").strip() == "*"


def _is_address_of_the_page(request: Request, path: str) -> bool:
    if path in ("", INDEX) or _CONVERSATION.fullmatch(path):
        return True
    # A missing asset must not turn into a page that is then taken for it.
    return (
        path.partition("/")[0] != "assets"
        and not PurePosixPath(path).suffix
        and "text/html" in request.headers.get("accept", "")
    )
