"""The page: the built-in one, or a single-page build of somebody else's."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from server.config import ServerConfig
from server.errors import NotFound

BUILT_IN = Path(__file__).parent.parent / "web"
INDEX = "index.html"
STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
FOREIGN_POLICY = "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
"""For a build we know nothing of: it may load and run what it brings or fetches."""
REVALIDATE = "no-cache"
IMMUTABLE = "public, max-age=2592000, immutable"
MEDIA_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Browsers are told not to guess, and the system's own table may be wrong."""

_CONVERSATION = re.compile(r"conversations/[^/]+/?")
_HASHED = re.compile(
    r"assets/(?:.*/)?[^/]*[.-](?=[a-z]*[A-Z0-9_])(?=[0-9_]*[A-Za-z])"
    r"(?:\w{8}|[0-9a-f]{16,64})(?:\.[a-z0-9]+)+"
)


class PageRoutes:
    """Serves files of one folder, and its index.html for the addresses the page itself makes up."""

    def __init__(self, config: ServerConfig) -> None:
        self._foreign = config.ui_dir is not None
        self._files = StaticFiles(directory=config.ui_dir or BUILT_IN)

    async def serve(self, request: Request) -> Response:
        """A file, or the index for navigations. Raises NotFound.

        Hidden files, and what lies outside the folder even by a link, are not there.
        """
        path = request.path_params["path"].strip("/")
        if self._is_address_of_the_page(request, path):
            return await self._file(INDEX, request)
        if not self._foreign:
            path = _within_assets(path)
        if any(part.startswith(".") for part in path.split("/")):
            raise NotFound("There is no such file")
        return await self._file(path, request)

    def _is_address_of_the_page(self, request: Request, path: str) -> bool:
        if path in ("", INDEX) or _CONVERSATION.fullmatch(path):
            return True
        # A missing asset must not turn into a page that is then taken for it.
        return (
            path.partition("/")[0] != "assets"
            and not PurePosixPath(path).suffix
            and "text/html" in request.headers.get("accept", "")
        )

    async def _file(self, path: str, request: Request) -> Response:
        try:
            response = await self._files.get_response(path, request.scope)
        except HTTPException as error:
            raise NotFound("There is no such file") from error
        media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix.lower())
        if media_type is not None and "content-type" in response.headers:
            response.headers["content-type"] = media_type
        hashed = self._foreign and _HASHED.fullmatch(path) is not None
        response.headers["cache-control"] = IMMUTABLE if hashed else REVALIDATE
        policy = FOREIGN_POLICY if self._foreign else STRICT_POLICY
        response.headers["content-security-policy"] = policy
        return response


def _within_assets(path: str) -> str:
    folder, _, rest = path.partition("/")
    if folder != "assets" or not rest or rest == INDEX:
        raise NotFound("There is no such file")
    return rest
