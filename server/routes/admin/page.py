"""The admin page: the built-in one, whatever page is served besides."""

from pathlib import PurePosixPath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from server.errors import NotFound
from server.routes.describing import Tag, described
from server.routes.pages import BUILT_IN, MEDIA_TYPES, REVALIDATE, STRICT_POLICY

INDEX = "admin/index.html"
SHARED = ("icon.svg", "theme-boot.js", "views/dom.js", "styles/tokens.css", "styles/base.css")
"""What it has of the other page, which may be replaced by somebody else's build."""


class AdminPageRoutes:
    """Needs no key: the page asks for it, and shows nothing without."""

    def __init__(self) -> None:
        self._files = StaticFiles(directory=BUILT_IN)

    @described(Tag.ADMINISTRATION, media_type="text/html")
    async def index(self, request: Request) -> Response:
        """The page."""
        return await self._file(INDEX, request)

    @described(Tag.ADMINISTRATION, media_type="*/*", raises=(NotFound,))
    async def asset(self, request: Request) -> Response:
        """One of its files. Raises NotFound."""
        path = request.path_params["path"]
        own = path.startswith("admin/") and path != INDEX and "/." not in path
        if not own and path not in SHARED:
            raise NotFound("There is no such file")
        return await self._file(path, request)

    async def _file(self, path: str, request: Request) -> Response:
        try:
            response = await self._files.get_response(path, request.scope)
        except HTTPException as error:
            raise NotFound("There is no such file") from error
        media_type = MEDIA_TYPES.get(PurePosixPath(path).suffix)
        if media_type is not None and "content-type" in response.headers:
            response.headers["content-type"] = media_type
        response.headers["cache-control"] = REVALIDATE
        response.headers["content-security-policy"] = STRICT_POLICY
        return response
