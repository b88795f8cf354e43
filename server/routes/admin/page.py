"""The admin page: the built-in one, whatever page is served besides."""

from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from server.errors import NotFound
from server.routes.endpoint import Tag, described
from server.routes.static_files import BUILT_IN, WebFiles, files_below

PAGE = BUILT_IN / "admin" / "index.html"
SHARED = (
    "icon.svg",
    "theme-boot.js",
    "base.js",
    "header-text.js",
    "views/dom.js",
    "styles/tokens.css",
    "styles/base.css",
)
"""Files shared with the chat page, which may be replaced by another build."""


@cache
def admin_page() -> WebFiles:
    """The page and its files."""
    own = {name: path for name, path in files_below(PAGE.parent, BUILT_IN).items() if path != PAGE}
    parts = own | {name: BUILT_IN / name for name in SHARED}
    return WebFiles(PAGE, parts, "/admin/assets")


class AdminPageRoutes:
    """Needs no key: the page asks for it, and shows nothing without."""

    def __init__(self) -> None:
        self._files = admin_page()

    @described(Tag.ADMINISTRATION, media_type="text/html")
    async def index(self, request: Request) -> Response:
        """Serve the admin page."""
        return self._files.page(request)

    @described(Tag.ADMINISTRATION, media_type="*/*", raises=(NotFound,))
    async def asset(self, request: Request) -> Response:
        """Serve a file of the admin page. Raises NotFound."""
        return self._files.part(request, request.path_params["path"])
